"""Images to change, and torchvision to hold the changes against."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

Generator = Callable[[], torch.Generator]
Each = Callable[[torch.Tensor, Callable[[int, torch.Tensor], torch.Tensor]], torch.Tensor]


@pytest.fixture
def chance() -> Generator:
    return lambda: torch.Generator().manual_seed(0)


@pytest.fixture
def v2() -> Any:
    # Not at the top: it takes two seconds in every process that collects these tests.
    from torchvision.transforms import v2

    return v2


@pytest.fixture(scope="session")
def pictures() -> Callable[..., torch.Tensor]:
    """Images (N, H, W, C), half of them noise and half of them smooth; all bytes are in them."""

    def pictures(
        count: int, *, height: int = 21, width: int = 26, channels: int = 3
    ) -> torch.Tensor:
        chance = torch.Generator().manual_seed(1)
        shape = (count, height, width, channels)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)
        coarse = torch.rand(count, channels, 4, 4, generator=chance)
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
        smooth = smooth.clamp(0, 1).mul(255).to(torch.uint8).permute(0, 2, 3, 1)
        return torch.where((torch.arange(count) % 2 == 0).view(-1, 1, 1, 1), noise, smooth)

    return pictures


@pytest.fixture(scope="session")
def each() -> Each:
    """A function of torchvision, of the number and the planes of an image, on each image."""

    def each(
        images: torch.Tensor, change: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        changed = [change(at, image.permute(2, 0, 1)) for at, image in enumerate(images)]
        return torch.stack(changed).permute(0, 2, 3, 1)

    return each


@pytest.fixture(scope="session")
def alike() -> Callable[..., bool]:
    """Whether at most `share` of the bytes differ, and those by one: by rounding."""

    def alike(ours: torch.Tensor, theirs: torch.Tensor, *, share: float = 0.01) -> bool:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        apart = (ours.int() - theirs.int()).abs()
        assert apart.max().item() <= 1
        assert (apart > 0).float().mean().item() <= share
        return True

    return alike
