"""Layers that a CPU computes faster in a step than PyTorch does it, to the same result.

A layer becomes one of these in place: its weights, its name and its hooks stay. Knows nothing of
recipes and losses.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise, takewhile
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers import blocks, convolutions
from workers.tapes import whole

_NHWC = torch.channels_last


def quicken(network: nn.Module) -> None:
    """Changes what of a network on the CPU is faster done otherwise.

    It computes the same, and so does the way back in float32. In 16 bits it computes gradients that
    are left out otherwise (`convolutions.Convolution`). Where equal numbers are common, as there, a
    pool's gradient may go to another of its largest pixels; the gradient of a first convolution's
    weights is summed up by one thread or by more; and a front in `blocks` sums up in another order.
    """
    for module in list(network.modules()):
        if type(module) is nn.Sequential:
            for place, (first, second) in enumerate(pairwise(module), start=2):
                if (
                    type(first) is nn.ReLU
                    and _is_halving(second)
                    and not _may_overwrite(module[place:])
                ):
                    first.__class__, second.__class__ = _Nothing, _RectifiedPool
            blocks.enter(_front(module))
        if _is_halving(module):
            module.__class__ = _Pool
        elif _is_flattening(module):
            module.__class__ = _Flatten
        elif type(module) is nn.Conv2d and convolutions.waits_at_each_row(module):
            module.__class__ = convolutions.FirstConvolution
    convolutions.mend(network)


def _may_overwrite(layers: Iterable[nn.Module]) -> bool:
    """Whether these, or what comes after them, may change in place what the first one is given,
    which a ReLU before it would need on the way back.
    """
    for layer in layers:
        if any(getattr(module, "inplace", False) for module in layer.modules()):
            return True
        if not isinstance(layer, nn.Flatten | nn.Dropout):  # these may hand on the very numbers
            return False
    return True


def _front(network: nn.Sequential) -> list[nn.Module]:
    """The layers before a Flatten, if they and it know images in blocks."""
    front = list(takewhile(_may_be_in_blocks, network))
    ends = len(front) < len(network) and _is_flattening(network[len(front)])
    return front if ends else []


def _may_be_in_blocks(layer: nn.Module) -> bool:
    return type(layer) in (nn.Conv2d, nn.ReLU, _Nothing, _RectifiedPool) or _is_halving(layer)


def _is_flattening(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _is_halving(module: nn.Module) -> bool:
    """Whether it takes the largest of each 2x2 pixels."""
    return type(module) is nn.MaxPool2d and (
        _pair(module.kernel_size) == _pair(module.stride) == (2, 2)
        and _pair(module.padding) == (0, 0)
        and _pair(module.dilation) == (1, 1)
        and not module.return_indices
        and not module.ceil_mode
    )


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, Sequence) else (size, size)


class _Nothing(nn.ReLU):
    """A ReLU that the layer after it does: of what the pool leaves, a quarter of the work."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input


class _Pool(nn.MaxPool2d):
    """PyTorch's own looks at one pixel after another: to compare whole rows of 16-bit numbers is
    two to five times faster in channels_last, as is the way back, which needs no zeros beforehand.
    """

    rectifies = False

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.is_mkldnn:
            return blocks.largest(input, rectifies=self.rectifies)
        height, width = input.shape[-2:]
        if (
            height % 2
            or width % 2
            or input.dtype not in (torch.bfloat16, torch.float16)
            or not input.is_contiguous(memory_format=_NHWC)
        ):
            pooled = super().forward(input)
            return functional.relu(pooled) if self.rectifies else pooled
        largest: torch.Tensor = _Largest.apply(input, self.rectifies)
        return largest


class _RectifiedPool(_Pool):
    """A pool and the ReLU that stood before it: the largest of what is above zero."""

    rectifies = True


class _Largest(torch.autograd.Function):
    """Of equal pixels the gradient goes to the left ones, and of those to the upper one."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, rectifies: bool) -> torch.Tensor:
        largest, is_lower, is_right = _largest(images, rectifies)
        ctx.save_for_backward(is_lower, is_right, largest if rectifies else None)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _back_to_largest(gradients[0], *ctx.saved_tensors), None


@whole
def _largest(images: torch.Tensor, rectifies: bool) -> tuple[torch.Tensor, ...]:
    """Of each 2x2 pixels, if it is above zero; with what the way back is told: 1 or 0."""
    upper, lower = _pairs(images, 2)
    rows = torch.maximum(upper, lower)
    left, right = _pairs(rows, 3)
    largest = torch.maximum(left, right)
    is_lower, is_right = _differs(rows, upper), _differs(largest, left)
    return largest.clamp_min_(0) if rectifies else largest, is_lower, is_right


@whole
def _back_to_largest(
    gradient: torch.Tensor,
    is_lower: torch.Tensor,
    is_right: torch.Tensor,
    largest: torch.Tensor | None,
) -> torch.Tensor:
    gradient = gradient.contiguous(memory_format=_NHWC)
    if largest is not None:
        gradient = torch.ops.aten.threshold_backward(gradient, largest, 0)
    bits = _dealt(gradient.view(torch.int16), is_right, axis=3)
    return _dealt(bits, is_lower, axis=2).view(gradient.dtype)


def _pairs(images: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the second of each two rows (axis 2) or columns (3)."""
    pairs = images.unflatten(axis, (-1, 2))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)


def _differs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1 where two tensors differ, else 0. In bits, into bits: a quarter of the time that it takes
    to compare numbers and keep truths.
    """
    bits = one.view(torch.int16)
    return torch.ne(bits, other.view(torch.int16), out=torch.empty_like(bits))


def _dealt(bits: torch.Tensor, is_second: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Twice as long along an axis: each number goes to one of its two places, the other gets 0."""
    shape = list(bits.shape)
    shape[axis] *= 2
    dealt = torch.empty(shape, dtype=bits.dtype, memory_format=_NHWC)
    first, second = _pairs(dealt, axis)
    torch.mul(bits, is_second, out=second)
    torch.bitwise_xor(bits, second, out=first)
    return dealt


class _Flatten(nn.Flatten):
    """What comes back is turned once, not by each layer that reads it row by row. A BatchNorm2d or
    a 1x1 convolution right before it sums its gradients up in another order, also in float32.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.is_mkldnn:
            return super().forward(input.to_dense())
        if input.ndim == 4 and input.requires_grad and input.is_contiguous(memory_format=_NHWC):
            input.register_hook(_turned)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return super().forward(input)


def _turned(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.contiguous(memory_format=_NHWC)
