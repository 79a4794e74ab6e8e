"""Convolutions in bf16 steps on a CPU: what oneDNN leaves out, and what it does slowly.

Knows nothing of networks and recipes.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.tapes import whole

_NHWC = torch.channels_last
_LEAST_PAUSE, _MOST_PAUSE = 16, 1024  # times
_one_way: ContextVar[bool] = ContextVar("one_way", default=False)


@contextlib.contextmanager
def one_way() -> Iterator[None]:
    """What may be done by one thread or by more is done by one, so that bits can be compared."""
    before = _one_way.set(True)
    try:
        yield
    finally:
        _one_way.reset(before)


def waits_at_each_row(layer: nn.Conv2d) -> bool:
    """Whether oneDNN's threads share the gradient of its weights by their channels in bf16: they
    meet at each row of each image then, spinning.
    """
    return (
        1 < layer.in_channels <= 8
        and layer.out_channels > 16
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def mend(network: nn.Module) -> None:
    """All weights of all convolutions get their gradients."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Convolution


def in_bf16() -> bool:
    """Whether a step is computed in bf16 just now."""
    return (
        torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
    )


class Convolution(nn.Conv2d):
    """In bf16 oneDNN writes no gradient, not even zero, for weights that meet nothing but padding
    where a stride goes over the whole image: what stands there was in that memory before. So
    float32 computes it, which for images that small takes no time.
    """

    def strides_over(self, input: torch.Tensor) -> bool:
        """Whether a stride is longer than a side of images (n, C, H, W) with padding."""
        return not isinstance(self.padding, str) and any(
            side < stride and padding
            for side, stride, padding in zip(
                input.shape[-2:], self.stride, self.padding, strict=True
            )
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (in_bf16() and self.strides_over(input)):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).bfloat16()


class FirstConvolution(Convolution):
    """A convolution of few channels. Beside one busy process its way back took 510 ms on two cores
    in place of 0.6, and takes 1.1 ms on one of them.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if in_bf16() and self.weight.requires_grad and not self.strides_over(input):
            if not hasattr(self, "_pace"):
                self._pace = Pace()
            asked = (self.stride, self.padding, self.dilation)
            output: torch.Tensor = _Convolution.apply(
                input, self.weight, self.bias, asked, self._pace
            )
            return output
        return super().forward(input)


class Pace:
    """Whether something is done by all threads together or by one: that which is faster. The first
    time it is one; all are tried again after ever longer pauses, since a try may take long.
    """

    def __init__(self) -> None:
        self._alone = math.inf
        self._pause, self._left = _LEAST_PAUSE, 1

    def together(self) -> bool:
        """Whether all threads are to do it. `deterministic` asks for one way: one thread."""
        if torch.are_deterministic_algorithms_enabled() or _one_way.get():
            return False
        return self._left == 0

    def tell(self, seconds: float, *, together: bool) -> None:
        """How long it took."""
        if not together:
            self._alone = min(self._alone, seconds)
            self._left = max(0, self._left - 1)
        elif seconds > 2 * self._alone:
            self._left = self._pause
            self._pause = min(2 * self._pause, _MOST_PAUSE)
        else:
            self._pause = max(_LEAST_PAUSE, self._pause - 1)


class _Convolution(torch.autograd.Function):
    """What autocast makes of it."""

    @staticmethod
    def forward(
        ctx: Any,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        asked: Any,
        pace: Pace,
    ) -> torch.Tensor:
        images, small = images.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(images, small)
        ctx.asked, ctx.pace, ctx.dtype = asked, pace, weight.dtype
        ctx.sizes = None if bias is None else list(bias.shape)
        rounded = None if bias is None else bias.bfloat16()
        with torch.autocast("cpu", enabled=False):
            return functional.conv2d(images, small, rounded, *asked)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        images, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=_NHWC)
        to_images = None
        if ctx.needs_input_grad[0]:
            wanted = [True, False, False]
            to_images = _back(gradient, images, weight, ctx.sizes, ctx.asked, wanted)[0]
        to_weight, to_bias = _back_to_weights(
            gradient, images, weight, ctx.sizes, ctx.asked, ctx.pace
        )
        to_bias = None if to_bias is None else to_bias.to(ctx.dtype)
        return to_images, to_weight.to(ctx.dtype), to_bias, None, None


@whole
def _back_to_weights(
    gradient: torch.Tensor,
    images: torch.Tensor,
    weight: torch.Tensor,
    sizes: list[int] | None,
    asked: Any,
    pace: Pace,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """By one thread or by all, as is faster."""
    together = pace.together()
    began = time.perf_counter()
    with contextlib.nullcontext() if together else _one_thread():
        wanted = [False, True, sizes is not None]
        _, to_weight, to_bias = _back(gradient, images, weight, sizes, asked, wanted)
    pace.tell(time.perf_counter() - began, together=together)
    return to_weight, to_bias


def _back(
    gradient: torch.Tensor,
    images: torch.Tensor,
    weight: torch.Tensor,
    sizes: list[int] | None,
    asked: Any,
    wanted: list[bool],
) -> Any:
    stride, padding, dilation = asked
    return torch.ops.aten.convolution_backward(
        gradient, images, weight, sizes,
        stride, padding, dilation, False, [0, 0], 1, wanted,
    )  # fmt: skip


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
