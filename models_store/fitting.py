"""Whether weights are those of a network, by their keys and shapes, and in words where not.

Knows nothing of where either comes from.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from problems import FieldError, Problem

SHOWN = 10
"""Keys that are named, of each kind."""

Shapes = Mapping[str, tuple[int, ...]]


def shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Of each weight."""
    return {key: tuple(value.shape) for key, value in state.items()}


def check(given: Shapes, ours: Shapes, *, of: str) -> None:
    """Raises `Problem` weights_misfit that says which keys are missing, unexpected or of another
    shape in the `given` weights; `of` is the field of the body that they came by.
    """
    missing = [key for key in ours if key not in given]
    unexpected = [key for key in given if key not in ours]
    differing = [key for key in ours if key in given and given[key] != ours[key]]
    kinds: Sequence[tuple[list[str], str, Callable[[str], str]]] = (
        (missing, "missing", lambda key: f"missing; {_written(ours[key])} in this network"),
        (unexpected, "unexpected", lambda key: f"not of this network; {_written(given[key])}"),
        (
            differing,
            "of another shape",
            lambda key: f"{_written(given[key])} there, {_written(ours[key])} in this network",
        ),
    )
    said = ", ".join(f"{len(keys)} {what} ({keys[0][:80]})" for keys, what, _ in kinds if keys)
    if said:
        errors = [one for keys, _, tell in kinds for one in _named(keys, tell, of)]
        raise Problem("weights_misfit", f"Of {len(ours)} weights: {said}.", errors=errors)


def _named(keys: list[str], tell: Callable[[str], str], of: str) -> list[FieldError]:
    shown: list[FieldError] = [
        {"loc": ["body", of, key[:200]], "msg": tell(key)} for key in keys[:SHOWN]
    ]
    if len(keys) > SHOWN:
        shown.append({"loc": ["body", of], "msg": f"and {len(keys) - SHOWN} more of this kind"})
    return shown


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
