"""The arguments of PyTorch's optimizers, schedulers and losses: filled in and checked by name.

Torch-free, so that a request can be checked before torch is loaded. What there is and which
arguments it takes is told by `optimizers`, `schedulers` and `losses`; what danlu sets itself is
listed in `FIXED`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from models_store.losses import LOSSES
from models_store.optimizers import OPTIMIZERS, UNFIT
from models_store.schedulers import SCHEDULERS
from models_store.signatures import Arguments
from problems import FieldError, Problem, did_you_mean, match

__all__ = ["FIXED", "LOSSES", "OPTIMIZERS", "SCHEDULERS", "UNFIT", "Part", "complete"]

Part = Literal["optimizer", "scheduler", "loss"]

_KNOWN: Mapping[Part, Mapping[str, type[Arguments]]] = {
    "optimizer": OPTIMIZERS,
    "scheduler": SCHEDULERS,
    "loss": LOSSES,
}

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
    "size_average": "PyTorch has put reduction in its place",
    "reduce": "PyTorch has put reduction in its place",
}


def complete(part: Part, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """`{"name": …}` and every argument, those not given filled in with PyTorch's defaults.

    Raises `Problem`: optimizer_unknown, scheduler_unknown or loss_unknown, unknown_field,
    invalid_request.
    """
    found = match(name, _KNOWN[part])
    if found is None:
        raise _unknown(part, name)
    try:
        return {"name": found, **_KNOWN[part][found].model_validate(given).model_dump()}
    except ValidationError as error:
        raise _problem(part, found, error) from None


def _unknown(part: Part, name: str) -> Problem:
    detail, hint = f"There is no {part} named {name!r}.", did_you_mean(name, _KNOWN[part])
    unfit = match(name, UNFIT) if part == "optimizer" else None
    if unfit is not None:
        detail, hint = f"danlu does not train with {unfit}: {UNFIT[unfit]}.", "Take another one."
    errors: list[FieldError] = [{"loc": ["body", part, "name"], "msg": f"unknown {part}"}]
    return Problem(f"{part}_unknown", detail, hint=hint, errors=errors)


def _problem(part: Part, name: str, error: ValidationError) -> Problem:
    """The first kind of trouble decides the code: an unknown argument, or a value out of range."""
    unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
    errors: list[FieldError] = [
        {"loc": ["body", part, *e["loc"]], "msg": _message(name, e["loc"], e["type"], e["msg"])}
        for e in error.errors()
    ]
    if not unknown:
        first = errors[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        return Problem("invalid_request", f"{where}: {first['msg']}", errors=errors)
    *path, wanted = map(str, unknown[0])
    known = _fields(_KNOWN[part][name], path)
    hint = f"Leave it out: {FIXED[wanted]}." if wanted in FIXED else did_you_mean(wanted, known)
    return Problem(
        "unknown_field",
        f"{'.'.join([name, *path])} has no argument {wanted!r} here.",
        hint=hint,
        errors=errors,
    )


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    """The arguments at a place inside: Muon has an AdamW."""
    for step in path:
        # To mypy any type at all; an argument with a place inside is a model.
        model = model.model_fields[step].annotation  # type: ignore[assignment]
    return list(model.model_fields)


def _message(name: str, loc: tuple[int | str, ...], kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, ")
    return f"{'.'.join([name, *map(str, loc[:-1])])} takes no {loc[-1]!r}"
