"""The arguments of `torch.optim`'s optimizers, with PyTorch's names and defaults.

Torch-free; a test holds every model against the signature of its class, and the list against
`torch.optim`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models_store.numbers import Share, Whole
from models_store.signatures import Arguments, Betas, NonNegative

Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class Optimizer(Arguments):
    """What nearly all have in common."""

    lr: NonNegative = 0.001
    weight_decay: NonNegative = 0.0
    maximize: bool = False
    foreach: bool | None = None


class _Fused(Optimizer):
    """Those that can do all of a step in one pass over the weights."""

    fused: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.foreach and self.fused:
            raise ValueError("foreach and fused cannot both be true")
        return self


class Adadelta(Optimizer):
    """torch.optim.Adadelta."""

    lr: NonNegative = 1.0
    rho: Share = 0.9
    eps: NonNegative = 1e-6


class Adafactor(Optimizer):
    """torch.optim.Adafactor; `eps` are its epsilon1 and epsilon2."""

    lr: NonNegative = 0.01
    beta2_decay: Annotated[float, Field(le=0)] = -0.8
    eps: Annotated[list[NonNegative | None], Field(min_length=2, max_length=2)] = Field(
        [None, 1e-3]
    )
    d: Annotated[float, Field(ge=1)] = 1.0

    @model_validator(mode="after")
    def _second_is_a_number(self) -> Self:
        if self.eps[1] is None:
            raise ValueError("the second eps must be a number")
        return self


class Adagrad(_Fused):
    """torch.optim.Adagrad."""

    lr: NonNegative = 0.01
    lr_decay: NonNegative = 0.0
    initial_accumulator_value: NonNegative = 0.0
    eps: NonNegative = 1e-10


class Adam(_Fused):
    """torch.optim.Adam."""

    betas: Betas = Field([0.9, 0.999])
    eps: NonNegative = 1e-8
    amsgrad: bool = False
    decoupled_weight_decay: bool = False


class AdamW(_Fused):
    """torch.optim.AdamW."""

    weight_decay: NonNegative = 0.01
    betas: Betas = Field([0.9, 0.999])
    eps: NonNegative = 1e-8
    amsgrad: bool = False


class Adamax(Optimizer):
    """torch.optim.Adamax."""

    lr: NonNegative = 0.002
    betas: Betas = Field([0.9, 0.999])
    eps: NonNegative = 1e-8


class ASGD(Optimizer):
    """torch.optim.ASGD."""

    lr: NonNegative = 0.01
    lambd: NonNegative = 1e-4
    alpha: NonNegative = 0.75
    t0: float = 1e6


class Muon(Arguments):
    """torch.optim.Muon, which trains 2-D weights only; `adamw` trains the rest of the network."""

    lr: NonNegative = 0.001
    weight_decay: NonNegative = 0.1
    momentum: NonNegative = 0.95
    nesterov: bool = True
    ns_coefficients: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        [3.4445, -4.775, 2.0315]
    )
    eps: float = 1e-7
    ns_steps: Annotated[int, Field(ge=0, le=99), Whole] = (
        5  # PyTorch refuses more at its first step
    )
    adjust_lr_fn: Literal["original", "match_rms_adamw", "spectral_unclamped"] | None = None
    adamw: AdamW = AdamW()


class NAdam(Optimizer):
    """torch.optim.NAdam."""

    lr: NonNegative = 0.002
    betas: Betas = Field([0.9, 0.999])
    eps: NonNegative = 1e-8
    momentum_decay: NonNegative = 0.004
    decoupled_weight_decay: bool = False


class RAdam(Optimizer):
    """torch.optim.RAdam."""

    betas: Betas = Field([0.9, 0.999])
    eps: NonNegative = 1e-8
    decoupled_weight_decay: bool = False


class RMSprop(Optimizer):
    """torch.optim.RMSprop."""

    lr: NonNegative = 0.01
    alpha: NonNegative = 0.99
    eps: NonNegative = 1e-8
    momentum: NonNegative = 0.0
    centered: bool = False


class Rprop(Arguments):
    """torch.optim.Rprop."""

    lr: NonNegative = 0.01
    etas: Pair = Field([0.5, 1.2])
    step_sizes: Pair = Field([1e-6, 50.0])
    maximize: bool = False
    foreach: bool | None = None

    @model_validator(mode="after")
    def _down_and_up(self) -> Self:
        if not 0 < self.etas[0] < 1 < self.etas[1]:
            raise ValueError("the first of etas must lie between 0 and 1, the second above 1")
        return self


class SGD(_Fused):
    """torch.optim.SGD."""

    momentum: NonNegative = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
        return self


OPTIMIZERS: dict[str, type[Arguments]] = {
    kind.__name__: kind
    for kind in (
        *(Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, ASGD),
        *(Muon, NAdam, RAdam, RMSprop, Rprop, SGD),
    )
}

# What torch.optim has and danlu cannot train with: said by name when someone asks for it.
UNFIT: dict[str, str] = {
    "LBFGS": "it computes the loss several times in each step, of the same images",
    "SparseAdam": "it takes sparse gradients only, and no layer here makes them",
}
