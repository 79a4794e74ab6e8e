"""RandomCrop and RandomResizedCrop: parts of images, at their own size or at another.

Images are (N, H, W, C) uint8 and stay so.
"""

import torch
from torch.nn import functional

from models_store.pipeline import Pair, pair
from models_store.transforms import RandomCrop, RandomResizedCrop
from workers.augmentation.boxes import Boxes, first_fit, placed, sides
from workers.augmentation.resampling import weights


def crop(images: torch.Tensor, asked: RandomCrop, generator: torch.Generator) -> torch.Tensor:
    """Pads and cuts the wanted size out at a random place, every place alike."""
    n, height, width, _ = images.shape
    wanted = (height, width) if asked.size is None else pair(asked.size)
    padded = pad(
        images,
        asked.paddings(height, width),
        fill=asked.fill,
        mode=asked.padding_mode,
    )
    rooms = padded.shape[1] - wanted[0], padded.shape[2] - wanted[1]
    top, left = _starts(rooms, n, generator)
    device = images.device
    rows = (top + torch.arange(wanted[0], device=device)).view(n, wanted[0], 1)
    columns = (left + torch.arange(wanted[1], device=device)).view(n, 1, wanted[1])
    return padded[torch.arange(n, device=device).view(n, 1, 1), rows, columns]


def _starts(rooms: Pair, n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    top, left = (
        torch.randint(0, room + 1, (n, 1), generator=generator, device=generator.device)
        for room in rooms
    )
    return top, left


def pad(
    images: torch.Tensor,
    paddings: tuple[int, int, int, int],
    *,
    fill: float | list[float],
    mode: str,
) -> torch.Tensor:
    """With so many pixels more left, top, right and bottom, as torchvision's `pad` has them."""
    left, top, right, bottom = paddings
    if mode != "constant":
        _, height, width, _ = images.shape
        rows = _mirrored(height, top, bottom, mode=mode, device=images.device)
        columns = _mirrored(width, left, right, mode=mode, device=images.device)
        return images[:, rows.unsqueeze(1), columns]
    values = fill if isinstance(fill, list) else [fill]
    if len(set(values)) == 1:
        return functional.pad(images, (0, 0, left, right, top, bottom), value=int(values[0]))
    planes = [
        functional.pad(plane, (left, right, top, bottom), value=int(value))
        for plane, value in zip(images.unbind(3), values, strict=True)
    ]
    return torch.stack(planes, dim=3)


def _mirrored(
    side: int, before: int, after: int, *, mode: str, device: torch.device
) -> torch.Tensor:
    """Which pixel of `side` stands at each place of the padded side."""
    at = torch.arange(-before, side + after, device=device)
    if mode == "edge":
        return at.clamp(0, side - 1)
    again = 1 if mode == "symmetric" else 0  # the pixel at the edge stands there twice
    at = torch.where(at < 0, -at - again, at)
    return torch.where(at >= side, 2 * (side - 1) - at + again, at)


def resized_crop(
    images: torch.Tensor, asked: RandomResizedCrop, generator: torch.Generator
) -> torch.Tensor:
    """A random part of each image, resized."""
    n, height, width, _ = images.shape
    size = (height, width) if asked.size is None else pair(asked.size)
    boxes = parts(n, (height, width), asked, generator=generator)
    return cut(images, boxes, size, mode=asked.interpolation, antialias=bool(asked.antialias))


def parts(n: int, size: Pair, asked: RandomResizedCrop, *, generator: torch.Generator) -> Boxes:
    """Parts of images of `size`, of an area in `scale` and a shape in `ratio`.

    Where none of ten tries fits, it is the middle of the image.
    """
    height, width = size
    wide, high = sides(n, height * width, scale=asked.scale, ratio=asked.ratio, generator=generator)
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    whole_high, whole_wide = _central(height, width, asked.ratio)
    boxes = placed(
        first_fit(high, fits, otherwise=whole_high),
        first_fit(wide, fits, otherwise=whole_wide),
        within=size,
        generator=generator,
    )
    found = fits.any(0)
    return boxes._replace(
        top=torch.where(found, boxes.top, (height - whole_high) // 2),
        left=torch.where(found, boxes.left, (width - whole_wide) // 2),
    )


def _central(height: int, width: int, ratio: list[float]) -> Pair:
    """Where no try fits: as much of the image as has a shape within `ratio`."""
    shape = width / height
    if shape < ratio[0]:
        return min(height, round(width / ratio[0])), width
    if shape > ratio[1]:
        return height, min(width, round(height * ratio[1]))
    return height, width


def cut(
    images: torch.Tensor, boxes: Boxes, size: Pair, *, mode: str, antialias: bool
) -> torch.Tensor:
    """Each image's box at `size`, as torchvision crops and resizes one image."""
    planes = images.permute(0, 3, 1, 2).float()
    enlarged = size[0] >= images.shape[1] and size[1] >= images.shape[2]
    if mode == "bilinear" and (enlarged or not antialias):  # where antialiasing changes nothing
        resized = _sampled(planes, boxes, size)
    else:
        resized = _multiplied(planes.contiguous(), boxes, size, mode=mode, antialias=antialias)
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _sampled(planes: torch.Tensor, boxes: Boxes, size: Pair) -> torch.Tensor:
    """Between the two nearest pixels, of which none is outside the box."""
    n, _, height, width = planes.shape
    y = _middles(boxes.top, boxes.height, size[0]) * (2 / height) - 1  # grid_sample's scale
    x = _middles(boxes.left, boxes.width, size[1]) * (2 / width) - 1
    across, down = x.view(n, 1, -1).expand(n, *size), y.view(n, -1, 1).expand(n, *size)
    grid = torch.stack([across, down], dim=3)
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)


def _middles(start: torch.Tensor, length: torch.Tensor, out: int) -> torch.Tensor:
    """(N, out): where the middle of each new pixel lies, from half a pixel within the part on."""
    part = length.view(-1, 1)
    middles = (torch.arange(out, device=start.device) + 0.5) * (part / out)
    return torch.minimum(middles.clamp(min=0.5), part - 0.5) + start.view(-1, 1)


def _multiplied(
    planes: torch.Tensor, boxes: Boxes, size: Pair, *, mode: str, antialias: bool
) -> torch.Tensor:
    """By two small matrices for each image, which can weigh as many pixels as they need."""
    n, channels, height, width = planes.shape
    across = weights(boxes.left, boxes.width, width, size[1], mode=mode, antialias=antialias)
    down = weights(boxes.top, boxes.height, height, size[0], mode=mode, antialias=antialias)
    narrowed = planes.view(n, channels * height, width) @ across.transpose(1, 2)
    return down.unsqueeze(1) @ narrowed.view(n, channels, height, size[1])
