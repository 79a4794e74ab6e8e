"""Where images are laid; the device here is the one that tests have, and what it has no room for
is played.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from data_store.parts import Part
from workers import devices, residence

CPU, GPU, META = torch.device("cpu"), torch.device("cuda"), torch.device("meta")
PART = Part(
    images=np.zeros((4, 2, 2, 1), np.uint8),
    labels=np.zeros(4, np.int64),
    borders=np.zeros(4, np.float32),
    spreads=np.zeros(4, np.float32),
)


def laid(
    device: torch.device, put: Callable[[torch.device], torch.device]
) -> tuple[object, list[str]]:
    """Where, and what was said of it."""
    said: list[str] = []
    where = residence.lay(
        [PART], device, put, warn=lambda code, text: said.append(f"{code} {text}")
    )
    return where, said


def only_on(*there: torch.device) -> Callable[[torch.device], torch.device]:
    def put(device: torch.device) -> torch.device:
        if device not in there:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return device

    return put


def test_images_lie_on_the_device() -> None:
    assert laid(META, only_on(META, CPU)) == (META, [])


def test_what_the_device_has_no_memory_for_stays_beside_it() -> None:
    where, [said] = laid(META, only_on(CPU))

    assert where == CPU
    assert said.startswith("images_on_host The images take 0 MB, which is too much for")


def test_nothing_is_beside_the_processor() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        laid(CPU, only_on())


def test_other_errors_are_none_of_its_business() -> None:
    def put(_: torch.device) -> torch.device:
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        laid(META, put)


@pytest.mark.parametrize(("free", "where"), [(32, GPU), (31, CPU)])
def test_half_of_a_gpu_is_left_to_compute_in(
    free: int, where: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "free", lambda _: free)

    assert laid(GPU, lambda device: device)[0] == where
