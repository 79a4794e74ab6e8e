"""Resampling of a side as a matrix: how much each pixel gives to each pixel that comes out.

Formulas are those of PyTorch's `interpolate` (align_corners=False). Knows no images.
"""

import torch


def weights(
    start: torch.Tensor,
    length: torch.Tensor,
    side: int,
    out: int,
    *,
    mode: str,
    antialias: bool,
) -> torch.Tensor:
    """(N, out, side) float32: for each image the part from `start` (N,), `length` long, at `out`.

    Pixels outside that part give nothing.
    """
    part = length.view(-1, 1, 1).float()
    scale = part / out
    place = torch.arange(out, device=start.device).view(1, -1, 1)
    centre = (place + 0.5) * scale  # of what each new pixel stands for, in the part
    if antialias and not mode.startswith("nearest"):
        shares = _smooth(start, part, centre, side, scale=scale, mode=mode)
        return shares / shares.sum(2, keepdim=True)
    if mode == "nearest":
        places = (place * scale).floor()
    elif mode == "nearest-exact":
        places = centre.floor()
    else:
        reach = 1 if mode == "bilinear" else 2
        steps = torch.arange(1 - reach, 1 + reach, device=start.device)
        places = (centre - 0.5).floor() + steps
    shares = _filter(places + 0.5 - centre, mode, sharpness=-0.75)
    # At the edges of the part its last pixel stands for those beyond it.
    within = torch.minimum(places.clamp(min=0), part - 1)
    index = (within + start.view(-1, 1, 1)).to(torch.int64)
    return shares.new_zeros(len(start), out, side).scatter_add_(2, index, shares)


def _smooth(
    start: torch.Tensor,
    part: torch.Tensor,
    centre: torch.Tensor,
    side: int,
    *,
    scale: torch.Tensor,
    mode: str,
) -> torch.Tensor:
    """With a filter as wide as what a new pixel stands for; beyond the part there is nothing."""
    middles = torch.arange(side, device=start.device).view(1, 1, -1) + 0.5 - start.view(-1, 1, 1)
    shares = _filter((middles - centre) / scale.clamp(min=1), mode, sharpness=-0.5)
    return shares * ((middles > 0) & (middles < part))


def _filter(distance: torch.Tensor, mode: str, *, sharpness: float) -> torch.Tensor:
    """What a pixel gives at this distance, in pixels: a tent, or Keys' cubic."""
    if mode.startswith("nearest"):
        return torch.ones_like(distance)
    away = distance.abs()
    if mode == "bilinear":
        return (1 - away).clamp(min=0)
    a = sharpness
    near = ((a + 2) * away - (a + 3)) * away * away + 1
    far = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return torch.where(away < 1, near, torch.where(away < 2, far, 0.0))
