"""What is done to the network's input: erasing, and mixing each image with its neighbour.

Inputs are (N, C, H, W) float and stay so. Knows nothing of losses.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from models_store.transforms import CutMix, MixUp, RandomErasing, TrainTransform
from workers.augmentation.erasing import erase_inputs

_TRIES = 16  # of which each succeeds in more than 95 of 100 cases


def mix(
    inputs: torch.Tensor,
    labels: torch.Tensor,
    transforms: Sequence[TrainTransform],
    *,
    classes: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs and what they should be taken for.

    That is `labels` (N,) as they are; MixUp and CutMix make probabilities (N, classes) of them.
    """
    targets = labels
    for one in transforms:
        match one:
            case RandomErasing():
                inputs = erase_inputs(inputs, one, generator)
            case MixUp() | CutMix():
                if targets is labels:
                    targets = functional.one_hot(labels, classes).to(inputs.dtype)
                blend = _mix_up if isinstance(one, MixUp) else _cut_mix
                inputs, kept = blend(inputs, beta(one.alpha, generator), generator)
                targets = kept * targets + (1 - kept) * targets.roll(1, 0)
    return inputs, targets


def _mix_up(
    inputs: torch.Tensor, kept: torch.Tensor, _: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A share of each image, and the rest of the one before it in the batch."""
    return kept * inputs + (1 - kept) * inputs.roll(1, 0), kept


def _cut_mix(
    inputs: torch.Tensor, kept: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One box, in all images, from the image before; with the share that it leaves."""
    height, width = inputs.shape[2:]
    drawn = torch.rand(2, generator=generator, device=inputs.device)
    half = 0.5 * (1 - kept).sqrt()
    y, rows = _part(drawn[0], half, height)
    x, columns = _part(drawn[1], half, width)
    box = y.view(-1, 1) & x.view(1, -1)
    left = 1 - rows * columns / (height * width)
    return torch.where(box, inputs.roll(1, 0), inputs), left


def _part(drawn: torch.Tensor, half: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which places of a side lie within `half` of it around a random one, and how many."""
    at = torch.arange(side, device=drawn.device)
    centre, reach = (drawn * side).floor().clamp_(max=side - 1), (half * side).floor()
    inside = (at >= centre - reach) & (at < centre + reach)
    return inside, inside.sum()


def beta(alpha: float, generator: torch.Generator) -> torch.Tensor:
    """One number of the distribution Beta(alpha, alpha), as float32 on the generator's device.

    Of two gamma numbers x and y, x / (x + y): with logarithms, since both may be as good as 0.
    """
    x, y = _log_gamma(alpha, generator), _log_gamma(alpha, generator)
    return torch.sigmoid(x - y)


def _log_gamma(alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Logarithm of a number of Gamma(alpha), by the method of Marsaglia and Tsang (2000).

    torch.distributions takes no generator. Gamma(alpha + 1) is drawn, which never is near 0, and
    brought to alpha by a power of a uniform number. All tries are drawn at once: to look whether
    one succeeded would wait for the device.
    """
    device = generator.device
    d = alpha + 1 - 1 / 3
    normal = torch.randn(_TRIES, generator=generator, device=device)
    chance = torch.rand(_TRIES + 1, generator=generator, device=device).clamp_(min=1e-30).log_()
    v: torch.Tensor = (1 + normal / (9 * d) ** 0.5).clamp_(min=1e-30) ** 3
    fits = chance[:-1] < 0.5 * normal**2 + d - d * v + d * v.log()
    chosen = fits.to(torch.uint8).argmax()
    large = v.index_select(0, chosen.view(1)).squeeze(0).mul(d)
    return large.log() + chance[-1] / alpha
