"""Networks that compute in bfloat16: which devices do so natively, and what it takes.

Half the bits of a number are half the memory to move, and such devices multiply twice as many at a
time. Knows nothing of checkpoints.
"""

import contextlib

import torch
from torch import nn

# The layers whose products autocast computes in 16 bits. What their weights are rounded to here is
# what it would make of them at each call.
_PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)


def is_native(device: torch.device) -> bool:
    """Whether a device multiplies numbers of bfloat16 by itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    return False


def reduce(network: nn.Module) -> None:
    """Rounds the weights of products to bfloat16, in place. What normalizes stays in float32."""
    for layer in network.modules():
        if isinstance(layer, _PRODUCTS):
            layer.to(torch.bfloat16)


def computing(device: str, *, reduced: bool) -> contextlib.AbstractContextManager[object]:
    """Products inside of it are computed in bfloat16 where `reduced`, all else as it was."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=reduced)
