"""Numbers that are needed on a device again and again: taken there once.

A copy from the processor's memory costs as much as a kernel, and a recorded step (CUDA graph) would
copy from where the numbers are no more. Knows nothing of what they are for.
"""

import functools
from typing import Any

import torch


@functools.lru_cache(maxsize=1024)
def constant(
    values: tuple[Any, ...], device: torch.device, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """A tensor that nobody may write to; tuples in `values` are its rows."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)
