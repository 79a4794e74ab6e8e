"""Where the images of a data set lie while a network learns from them: on the device, where a batch
is a gather of microseconds, if they leave it the room to compute in.

Knows nothing of what else the device holds, nor of files.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch

from data_store.parts import Part
from workers import devices
from workers.room import is_exhausted

log = logging.getLogger(__name__)

Laid = TypeVar("Laid")
# Of the free memory; the rest is the network's, its moments' and its batches'.
_SHARE = 0.5
_HOST = torch.device("cpu")


def lay(
    parts: Iterable[Part],
    device: torch.device,
    put: Callable[[torch.device], Laid],
    *,
    warn: Callable[[str, str], object],
) -> Laid:
    """What `put` gives when it has put the images on the device, or where they do not fit there
    into the memory beside it: `warn` is told so by the code images_on_host.
    """
    size = sum(part.images.nbytes for part in parts)
    if device.type != "cuda" or size <= devices.free(device) * _SHARE:
        try:
            return put(device)
        except (MemoryError, RuntimeError) as error:
            if device == _HOST or not is_exhausted(error):
                raise
            log.warning("%s", str(error).partition("\n")[0])
    warn(
        "images_on_host",
        f"The images take {size / 1e6:,.0f} MB, which is too much for the memory of {device}: they "
        "stay in that of the processor, and each batch is copied.",
    )
    return put(_HOST)
