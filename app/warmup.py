"""Loads torch and what plans need, in a thread, while the server listens already.

Nothing on the way to `app.main` imports torch; who needs it waits here first, so that it is
imported by one thread only.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

from problems import Problem

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 30.0


class Warmup:
    """The state of loading: `loading`, then `ok` or `failed` for good."""

    def __init__(self) -> None:
        self._done: Future[None] = Future()
        self._thread: threading.Thread | None = None

    def start(self, first: Callable[[], object] = lambda: None) -> None:
        """Begins to load, once `first` is done; again is no error."""
        if self._thread is None:
            # A daemon: a server that is told to stop does not wait for torch.
            self._thread = threading.Thread(
                target=self._run, args=(first,), name="warmup", daemon=True
            )
            self._thread.start()

    @property
    def state(self) -> Literal["loading", "ok", "failed"]:
        """How far it is."""
        if not self._done.done():
            return "loading"
        return "failed" if self._done.exception() else "ok"

    async def wait(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Returns once torch is there. Raises `Problem` not_ready if it is late or never comes."""
        if self.state == "ok":
            return
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._done)), seconds)
        except TimeoutError:
            raise Problem("not_ready", "The server is still loading torch.") from None
        except ImportError as error:
            raise Problem("not_ready", f"torch cannot be loaded: {error}.") from None

    def _run(self, first: Callable[[], object]) -> None:
        try:
            first()
            _load()
        except BaseException as error:
            log.exception("torch cannot be loaded")
            self._done.set_exception(error)
        else:
            self._done.set_result(None)


def _load() -> None:
    """Imports what later requests import, and runs the first plan, which costs ten of the next."""
    import torch

    from models_store import architectures, checkpoints  # noqa: F401 - later requests find it imported

    # Plans compute next to nothing, and what predicts has the cores.
    torch.set_num_threads(1)
    planned = architectures.plan("mnist_net", channels=1, size=(28, 28), classes=10)
    architectures.flops(planned)
