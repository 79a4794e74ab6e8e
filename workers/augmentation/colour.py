"""Changes of brightness and colour, by a number for each image; formulas are torchvision's.

Images are (N, H, W, C) uint8 and stay so; numbers are float32 (N,). Grey images have no colour to
change.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from models_store.shaping import brightness as luma
from models_store.transforms import ColorJitter
from workers.augmentation.boxes import uniform

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def jitter(images: torch.Tensor, asked: ColorJitter, generator: torch.Generator) -> torch.Tensor:
    """Each image in an order of its own, as torchvision draws it."""
    given: list[tuple[Change, tuple[float, float]]] = [
        (change, limits)
        for change, limits in (
            (brighten, _limits(asked.brightness, middle=1.0)),
            (contrast, _limits(asked.contrast, middle=1.0)),
            (saturate, _limits(asked.saturation, middle=1.0)),
            (shift_hue, _limits(asked.hue, middle=0.0)),
        )
        if limits is not None
    ]
    n, device = len(images), generator.device
    order = torch.rand(len(given), n, generator=generator, device=device).argsort(0)
    factors = [uniform((n,), low=low, high=high, generator=generator) for _, (low, high) in given]
    for turn in order:
        for which, (change, _) in enumerate(given):
            images = only(turn == which, change, images, factors[which])
    return images


def _limits(given: float | Sequence[float] | None, *, middle: float) -> tuple[float, float] | None:
    """From which to which number; None where nothing changes."""
    if given is None:
        return None
    if isinstance(given, int | float):
        # Hue goes to both sides; a factor never goes below 0.
        given = [middle - given if middle == 0 else max(0.0, middle - given), middle + given]
    low, high = given
    return None if low == high == middle else (low, high)


def only(
    mask: torch.Tensor, change: Change, images: torch.Tensor, numbers: torch.Tensor
) -> torch.Tensor:
    """The images where `mask` (N,) is true are changed, the others stay."""
    if images.device.type != "cpu":
        # To pick them out would wait for the device, which takes longer than to change them all.
        return torch.where(mask.view(-1, 1, 1, 1), change(images, numbers), images)
    index = mask.nonzero().squeeze(1)
    if len(index) == len(images):
        return change(images, numbers)
    if not len(index):
        return images
    return images.index_copy(0, index, change(images[index], numbers[index]))


def brighten(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is black, 1 as it was."""
    return _pixels(images * _wide(factor))


def contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is the grey that the image is on average, 1 as it was."""
    mean = _grey(images).mean(dim=(1, 2), keepdim=True).unsqueeze(3)
    return _blend(images, mean, factor)


def saturate(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is grey, 1 as it was."""
    if images.shape[3] == 1:
        return images
    return _blend(images, _grey(images).unsqueeze(3), factor)


def shift_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Along the circle of hues: 0.5 and -0.5 are the opposite colour."""
    if images.shape[3] == 1:
        return images
    scaled = images.float() / 255
    red, green, blue = scaled.unbind(3)
    value, lowest = scaled.amax(3), scaled.amin(3)
    spread = value - lowest
    safe = torch.where(spread == 0, 1.0, spread)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * turns.view(-1, 1, 1)  # in sixths of the circle
    # Each channel falls from `value` by `spread` on its own part of the circle.
    sixths = torch.stack([hue + 5, hue + 3, hue + 1], dim=3).remainder(6)
    fall = torch.minimum(sixths, 4 - sixths).clamp_(0, 1)
    shifted = value.unsqueeze(3) - spread.unsqueeze(3) * fall
    return (shifted.clamp_(0, 1) * 255.999).to(torch.uint8)


def sharpen(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """0 is blurred, 1 as it was; the outermost pixels stay."""
    if min(images.shape[1:3]) <= 2:
        return images
    planes = images.permute(0, 3, 1, 2).float()
    inner = planes[:, :, 1:-1, 1:-1]
    around = functional.avg_pool2d(planes, 3, stride=1) * 9
    blurred = ((around + 4 * inner) / 13).round_().permute(0, 2, 3, 1)
    centre = images[:, 1:-1, 1:-1]
    sharpened = images.clone()
    # Written so that what is flat stays just as it was, for a cut number is one less at once.
    sharpened[:, 1:-1, 1:-1] = _pixels(centre + (blurred - centre) * (1 - _wide(factor)))
    return sharpened


def posterize(images: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Keeps so many of the highest bits, 0 to 8."""
    mask = (256 - torch.exp2(8 - bits.floor())).to(torch.uint8)
    return images & _wide(mask)


def solarize(images: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Inverts what is at least as bright as the threshold, 0 to 1."""
    return torch.where(images >= _wide(255 * threshold), ~images, images)


def autocontrast(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Stretches each channel over the whole range."""
    planes = images.float()
    low, high = planes.amin((1, 2), keepdim=True), planes.amax((1, 2), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return _pixels((planes - torch.where(flat, 0.0, low)) / scale)


def equalize(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Makes all brightnesses of a channel about as frequent, by Pillow's rule."""
    n, height, width, channels = images.shape
    flat = images.permute(0, 3, 1, 2).reshape(n, channels, -1).to(torch.int64)
    counts = torch.zeros(n, channels, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (height * width - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(0, 255).to(torch.uint8)
    planes = table.gather(2, flat).view(n, channels, height, width).permute(0, 2, 3, 1)
    return torch.where(step.view(n, 1, 1, channels) == 0, images, planes)


def invert(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Dark for bright."""
    return ~images


def _grey(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W) float32 of whole numbers, as Pillow's grey images have them."""
    return images.squeeze(3).float() if images.shape[3] == 1 else luma(images).floor_()


def _blend(images: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    share = _wide(factor)
    return _pixels(images * share + other * (1 - share))


def _wide(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.view(-1, 1, 1, 1)


def _pixels(values: torch.Tensor) -> torch.Tensor:
    """Cut off, not rounded, as torchvision does."""
    return values.clamp(0, 255).to(torch.uint8)
