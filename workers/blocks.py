"""The front of a network in bf16 steps on a CPU, in the blocks of memory that oneDNN prefers.

PyTorch hands such a tensor (`Tensor.to_mkldnn`) from layer to layer as it is. Pools are oneDNN's
own then, and of a first convolution's weights the gradient is computed by threads that need not
meet at each row. Knows nothing of recipes and losses.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models_store import reduced
from workers.convolutions import Convolution, in_bf16
from workers.tapes import whole

_BLOCK = 16  # channels; with fewer in the last block it is no faster
_ATEN = torch.ops.aten
_HALVING = (2, 2), (2, 2)  # size and stride of a pool


def enter(front: Sequence[nn.Module]) -> None:
    """Changes the layers that images meet first, if they are faster so: convolutions with ReLUs and
    2x2 pools between them. The pools, and what comes after the front, must know such tensors.
    """
    if (
        not any(isinstance(layer, nn.MaxPool2d) for layer in front)
        or not isinstance(front[0], nn.Conv2d)
        or not all(_fits(layer) for layer in front if isinstance(layer, nn.Conv2d))
        or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        or not reduced.is_native(torch.device("cpu"))
    ):
        return
    for layer in front:
        if type(layer) is nn.Conv2d:
            layer.__class__ = _Convolution
            # As its gradient comes, which would be copied each time.
            layer.weight.data = layer.weight.data.contiguous()
        elif type(layer) is nn.ReLU:
            layer.__class__ = _ReLU
    front[0].__class__ = _Entrance


def _fits(layer: nn.Conv2d) -> bool:
    return (
        layer.out_channels % _BLOCK == 0
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _Convolution(Convolution):
    """Takes its weights as they are: they are rounded as they are put into blocks."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not input.is_mkldnn:
            return super().forward(input)
        if self.strides_over(input):
            return super().forward(input.to_dense()).to_mkldnn()
        output: torch.Tensor = _ATEN.mkldnn_convolution(
            input, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return output


class _Entrance(_Convolution):
    """Where the images of a step go over into blocks, if it is computed in bf16."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if in_bf16():
            input = input.to_mkldnn(torch.bfloat16)
        return super().forward(input)


class _ReLU(nn.ReLU):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _rectified(input) if input.is_mkldnn else super().forward(input)


# What comes out is kept by another name: as what comes out, PyTorch would give it back as a tensor
# that a tape has not seen.
class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
        made = torch.relu(images)
        ctx.save_for_backward(made.detach())
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (made,) = ctx.saved_tensors
        gradient: torch.Tensor = _ATEN.threshold_backward(gradients[0], made, 0)
        return gradient


def _rectified(images: torch.Tensor) -> torch.Tensor:
    """Images in blocks (n, C, H, W), with zero for what is below it."""
    made: torch.Tensor = _Rectified.apply(images)
    return made


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: torch.Tensor) -> torch.Tensor:
        largest = _largest(images)
        ctx.save_for_backward(images, largest.detach())
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        images, largest = ctx.saved_tensors
        gradient: torch.Tensor = _ATEN.mkldnn_max_pool2d_backward(
            gradients[0], largest, images, *_HALVING
        )
        return gradient


def largest(images: torch.Tensor, *, rectifies: bool) -> torch.Tensor:
    """Of images in blocks (n, C, H, W) each 2x2 pixels' largest, or zero if that is larger and it
    `rectifies`.
    """
    made: torch.Tensor = _Largest.apply(images)
    return _rectified(made) if rectifies else made


@whole
def _largest(images: torch.Tensor) -> torch.Tensor:
    """Where a gradient is wanted PyTorch keeps with it which pixels they are, elsewhere not."""
    with torch.enable_grad():
        made: torch.Tensor = _ATEN.mkldnn_max_pool2d(images.detach().requires_grad_(), *_HALVING)
    return made.detach()
