"""The arguments of PyTorch's optimizers and schedulers, with PyTorch's names and defaults.

Torch-free, so that a request can be checked before torch is loaded; a test holds every model
against the signature of its PyTorch class. What danlu sets itself is listed in `FIXED`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from problems import FieldError, Problem, did_you_mean, match

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Arguments(BaseModel):
    """Base of all argument models: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Optimizer(Arguments):
    """What PyTorch's optimizers have in common."""

    lr: NonNegative = 0.001
    weight_decay: NonNegative = 0.0
    maximize: bool = False
    foreach: bool | None = None
    fused: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.foreach and self.fused:
            raise ValueError("foreach and fused cannot both be true")
        return self


class SGD(Optimizer):
    """torch.optim.SGD."""

    momentum: NonNegative = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
        return self


class Adam(Optimizer):
    """torch.optim.Adam."""

    betas: Betas = [0.9, 0.999]
    eps: NonNegative = 1e-8
    amsgrad: bool = False
    decoupled_weight_decay: bool = False


class AdamW(Optimizer):
    """torch.optim.AdamW."""

    weight_decay: NonNegative = 0.01
    betas: Betas = [0.9, 0.999]
    eps: NonNegative = 1e-8
    amsgrad: bool = False


class OneCycleLR(Arguments):
    """torch.optim.lr_scheduler.OneCycleLR; `max_lr` left out is the optimizer's `lr`."""

    max_lr: NonNegative
    pct_start: Fraction = 0.3  # at 1 PyTorch divides by zero: no step is left to come down
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: Fraction = 0.85
    max_momentum: Fraction = 0.95
    div_factor: Positive = 25.0
    final_div_factor: Positive = 1e4
    three_phase: bool = False


OPTIMIZERS: dict[str, type[Arguments]] = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}
SCHEDULERS: dict[str, type[Arguments]] = {"OneCycleLR": OneCycleLR}

# Arguments that PyTorch has and danlu sets itself: said by name when someone gives them.
FIXED: dict[str, str] = {
    "params": "the network's parameters are trained",
    "optimizer": "the recipe's optimizer is scheduled",
    "differentiable": "danlu never differentiates through the optimizer",
    "capturable": "danlu decides when to capture graphs",
    "total_steps": "danlu counts the steps of the run",
    "epochs": "danlu takes the recipe's epochs",
    "steps_per_epoch": "danlu counts the steps of the run",
    "last_epoch": "danlu keeps the place in the schedule",
}


def complete(
    part: Literal["optimizer", "scheduler"], name: str, given: dict[str, Any]
) -> dict[str, Any]:
    """`{"name": …}` and every argument, those not given filled in with PyTorch's defaults.

    Raises `Problem`: optimizer_unknown or scheduler_unknown, unknown_field, invalid_request.
    """
    known = OPTIMIZERS if part == "optimizer" else SCHEDULERS
    found = match(name, known)
    if found is None:
        raise Problem(
            f"{part}_unknown",
            f"There is no {part} named {name!r}.",
            hint=did_you_mean(name, known),
            errors=[{"loc": ["body", part, "name"], "msg": f"unknown {part}"}],
        )
    try:
        return {"name": found, **known[found].model_validate(given).model_dump()}
    except ValidationError as error:
        raise _problem(part, found, error) from None


def _problem(part: str, name: str, error: ValidationError) -> Problem:
    """The first kind of trouble decides the code: an unknown argument, or a value out of range."""
    known = list((OPTIMIZERS | SCHEDULERS)[name].model_fields)
    unknown = [str(e["loc"][0]) for e in error.errors() if e["type"] == "extra_forbidden"]
    errors: list[FieldError] = [
        {"loc": ["body", part, *e["loc"]], "msg": _message(name, e["loc"], e["type"], e["msg"])}
        for e in error.errors()
    ]
    if not unknown:
        first = errors[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        return Problem("invalid_request", f"{where}: {first['msg']}", errors=errors)
    wanted = unknown[0]
    hint = f"Leave it out: {FIXED[wanted]}." if wanted in FIXED else did_you_mean(wanted, known)
    return Problem(
        "unknown_field", f"{name} has no argument {wanted!r} here.", hint=hint, errors=errors
    )


def _message(name: str, loc: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    return f"{name} takes no {loc[0]!r}"
