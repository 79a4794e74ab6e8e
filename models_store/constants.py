"""Numbers that are needed on a device again and again: taken there once.

A copy from the processor's memory costs as much as a kernel, and a recorded step (CUDA graph) would
copy from where the numbers are no more. Knows nothing of what they are for.
"""

import functools
from typing import Any

import torch


def constant(
    values: tuple[Any, ...], device: torch.device, *, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """A tensor that nobody may write to; tuples in `values` are its rows."""
    if device.type == "cpu":  # made in a microsecond; and an export traces through here, with
        return torch.tensor(values, dtype=dtype)  # tensors without numbers that must not stay
    return _there(values, device, dtype)


@functools.lru_cache(maxsize=1024)
def _there(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)
