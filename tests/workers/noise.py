"""Images of noise, for trainings of which only the numbers count."""

import torch

from workers.batches import Samples


def samples(count: int, *, seed: int = 0) -> Samples:
    """So many, 12 x 12 and grey, with labels drawn like their pixels."""
    chance = torch.Generator().manual_seed(seed)
    return Samples(
        pixels=torch.randint(0, 256, (count, 12, 12, 1), generator=chance, dtype=torch.uint8),
        labels=torch.randint(0, 10, (count,), generator=chance),
        index=torch.arange(count),
    )
