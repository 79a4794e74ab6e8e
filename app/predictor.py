"""Keeps classifiers warm: each is loaded once, however many ask for it at the same time.

Blocks, so it is called in threads; knows nothing of requests or rows. torch comes with the first
classifier, never with this module.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models_store.classifier import Classifier

KEPT = 8


class Predictor:
    """The most recently used `kept` classifiers below `root`; threads may share it."""

    def __init__(self, root: Path, *, device: str, kept: int = KEPT) -> None:
        self._root = root
        self._device = device
        self._kept = kept
        self._warm: OrderedDict[str, Future[Classifier]] = OrderedDict()
        self._lock = threading.Lock()

    def classifier(self, checkpoint_id: str) -> "Classifier":
        """The classifier of a checkpoint, loaded if it must be.

        Raises `Problem` checkpoint_not_found, checkpoint_damaged.
        """
        with self._lock:
            loading = self._warm.get(checkpoint_id)
            first = loading is None
            if loading is None:
                loading = self._warm[checkpoint_id] = Future()
            self._warm.move_to_end(checkpoint_id)
            while len(self._warm) > self._kept:
                self._warm.popitem(last=False)
        if first:
            self._load(checkpoint_id, loading)
        return loading.result()

    def forget(self, checkpoint_id: str) -> None:
        """Lets go of a classifier; requests that use it now still end well."""
        with self._lock:
            self._warm.pop(checkpoint_id, None)

    def warm(self) -> list[str]:
        """Checkpoints whose classifiers are loaded or on the way; most recently used last."""
        with self._lock:
            return list(self._warm)

    def _load(self, checkpoint_id: str, loading: "Future[Classifier]") -> None:
        from models_store.classifier import Classifier

        try:
            loading.set_result(Classifier.load(self._root / checkpoint_id, device=self._device))
        except BaseException as error:
            with self._lock:
                if self._warm.get(checkpoint_id) is loading:
                    del self._warm[checkpoint_id]  # the next one tries again
            loading.set_exception(error)
