"""The transforms that draw nothing (resize, middle crop, grey) on whole batches of pixels.

Training and prediction share them, so the same image gives the same input to both. Images are
(N, H, W, C) uint8 and stay so; each comes out the same whatever else is in its batch.
"""

from collections.abc import Iterable

import torch
from torch.nn import functional

from models_store.pipeline import Pair, pair, size_after
from models_store.transforms import CenterCrop, Grayscale, Resize, Transform


def shape(images: torch.Tensor, transforms: Iterable[Transform]) -> torch.Tensor:
    """The transforms in order; those that are none of ours are left to others."""
    for one in transforms:
        match one:
            case Resize(interpolation=mode, antialias=antialias):
                size = size_after(one, (images.shape[1], images.shape[2]))
                images = resize(images, size, mode=mode, antialias=bool(antialias))
            case CenterCrop(size=size):
                images = center_crop(images, pair(size))
            case Grayscale():
                images = grayscale(images)
    return images


def resize(images: torch.Tensor, size: Pair, *, mode: str, antialias: bool) -> torch.Tensor:
    """To (height, width), as torchvision resizes uint8 tensors."""
    if (images.shape[1], images.shape[2]) == size:
        return images
    planes = images.permute(0, 3, 1, 2)
    if mode.startswith("nearest"):
        return functional.interpolate(planes, size, mode=mode).permute(0, 2, 3, 1)
    # Processors have a path of their own for bytes, several times as fast; others have none.
    whole = planes if images.device.type == "cpu" else planes.float()
    resized = functional.interpolate(
        whole, size, mode=mode, align_corners=False, antialias=antialias
    )
    if resized.is_floating_point():
        resized = resized.round_().clamp_(0, 255).to(torch.uint8)
    return resized.permute(0, 2, 3, 1)


def center_crop(images: torch.Tensor, size: Pair) -> torch.Tensor:
    """The middle of each image; what the image lacks is black."""
    for axis, wanted in ((1, size[0]), (2, size[1])):
        missing = wanted - images.shape[axis]
        if missing > 0:
            sides = (missing // 2, missing - missing // 2)
            images = functional.pad(images, (0, 0, *((0, 0) if axis == 1 else ()), *sides))
        # round(): to the even of two neighbours, as torchvision does.
        start = round((images.shape[axis] - wanted) / 2)
        images = images.narrow(axis, start, wanted)
    return images


def grayscale(images: torch.Tensor) -> torch.Tensor:
    """The same brightness in each channel; grey images stay as they are."""
    if images.shape[3] == 1:
        return images
    return brightness(images).to(torch.uint8).unsqueeze(3).repeat(1, 1, 1, 3)


def brightness(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W) float32 of colour images, 0 to 255, weighted as torchvision does (ITU-R 601-2)."""
    red, green, blue = images.unbind(3)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
