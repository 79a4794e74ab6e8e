"""How many images at once the memory of the device has room for, found out by trying.

Knows nothing of what is computed with them, nor of jobs.
"""

import errno
import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from problems import Problem

log = logging.getLogger(__name__)

Done = TypeVar("Done")

# Words of errors that have no class of their own: PyTorch's on the CPU, on Apple's GPUs, and those
# of CUDA and its libraries when they ask for memory without PyTorch's allocator.
_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on the device or beside it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):  # of the system, that has none for a file or a process
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


class Room:
    """How many images at once are computed for one purpose: all, until that has failed.

    It only ever gets smaller: what failed once would fail again, and an attempt costs time.
    """

    def __init__(
        self,
        purpose: str,
        device: torch.device,
        *,
        least: int = 1,
        on_less: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`purpose`, such as "trained on", stands in what `on_less` is told. Never are fewer than
        `least` images computed at once, if there are as many.
        """
        self._purpose, self._device = purpose, device
        self._least, self._on_less = least, on_less
        self.most: int | None = None

    def parts(self, images: int) -> int:
        """The number of parts, equal but for one image, that so many images are computed in."""
        if self.most is None:
            return 1
        return max(1, min(-(-images // self.most), images // self._least))

    def compute(
        self,
        images: int,
        attempt: Callable[[int], Done],
        *,
        undo: Callable[[], object] = lambda: None,
    ) -> Done:
        """What `attempt` gives for a number of parts, as few as there is room for.

        It is called again for smaller parts when it has run out of memory, and by then nothing of
        what it had made is left: `undo` drops what it has left elsewhere. Raises `Problem`
        out_of_memory when the smallest do not fit.
        """
        before = self.most
        while True:
            parts = self.parts(images)
            try:
                done = attempt(parts)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_exhausted(error):
                    raise
                log.warning("%s", str(error).partition("\n")[0] or type(error).__name__)
            # Out here the error is gone, and with its traceback the tensors of the attempt.
            undo()
            self._halve(images, parts)
        if self.most != before:
            message = (
                f"{images} images at once do not fit into the memory of {self._device}: "
                f"they are {self._purpose} in {parts} parts."
            )
            log.warning(message)
            self._on_less(message)
        return done

    def _halve(self, images: int, parts: int) -> None:
        largest = -(-images // parts)
        self.most = max(self._least, -(-largest // 2))
        gc.collect(1)  # of what is young, as all that the attempt has made
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()
        if self.parts(images) == parts:
            raise Problem(
                "out_of_memory",
                f"Not even {largest} image{'s' * (largest > 1)} at once can be {self._purpose} in "
                f"the memory of {self._device}.",
                hint="A smaller batch_size would not help: give a smaller image_size, a smaller "
                "network, or end other programs that use the device.",
            )
