"""Weights from elsewhere, read in a process of their own that is thrown away: `python -m
models_store.foreign`.

Takes a JSON request on stdin, saves a checkpoint and prints what became of it. Whoever starts it
sets its limits: see `quarantine`. Nothing of the file is ever run.
"""

import errno
import json
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from models_store import architectures, checkpoints, fitting, zoo
from models_store.manifest import Manifest
from models_store.quarantine import confine, format_of
from problems import Problem

_DAMAGED = "It is damaged or cut off."

# Where programs keep the weights among other things, and what wrappers put before every key.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
# Outputs that help while training; danlu builds these networks without them.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception": ("AuxLogits.",)}

_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")
_WHOLE_MODEL = """Where its classes are defined, make a state_dict of it:
model = torch.load("model.pth", weights_only=False)  # runs what is in it: only a file you trust
torch.save(model.state_dict(), "weights.pth")"""
_OTHER_THINGS = """Where you trust the file, save its weights alone:
held = torch.load("model.pth", weights_only=False)
torch.save(held["state_dict"], "weights.pth")"""

State = dict[str, torch.Tensor]


def main() -> None:
    """Does what stdin asks for."""
    request = json.loads(sys.stdin.buffer.read())
    file = Path(request["file"])
    torch.set_num_threads(1)
    confine(file.stat().st_size)
    try:
        folder, left_out = arrive(
            file, Manifest.model_validate(request["manifest"]), Path(request["root"])
        )
        told: dict[str, Any] = {
            "disk_bytes": checkpoints.disk_bytes(folder),
            "left_out": left_out,
        }
    except Problem as problem:
        told = {"problem": {**problem.as_dict(), "errors": problem.errors}}
    except (MemoryError, RuntimeError):  # PyTorch says the first in words
        too_large = _invalid("It takes too much memory to be read.")
        told = {"problem": {**too_large.as_dict(), "errors": too_large.errors}}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = Problem("disk_full", "There is no room for the checkpoint.")
        told = {"problem": {**full.as_dict(), "errors": []}}
    sys.stdout.write(json.dumps(told))


def arrive(file: Path, manifest: Manifest, root: Path) -> tuple[Path, list[str]]:
    """Saves the checkpoint that `manifest` describes with the weights of `file` below `root`.

    Returns its folder and the keys that were left out. Raises `Problem` model_file_invalid,
    weights_misfit, and what `architectures.plan` raises.
    """
    pre = manifest.preprocessing
    planned = architectures.plan(
        manifest.architecture,
        channels=pre.channels,
        size=pre.input_size,
        classes=len(manifest.classes),
    )
    network = architectures.outline(planned)
    state = _named_alike(unwrapped(read(file)), network)
    auxiliary = _auxiliary(planned)
    left_out = sorted(key for key in state if key.startswith(auxiliary))
    weights = fitted({k: v for k, v in state.items() if k not in set(left_out)}, network)
    if left_out:
        told = f"{len(left_out)} keys, {left_out[0]} first"
        made_with = {**manifest.made_with, "left_out": told}
        manifest = manifest.model_copy(update={"made_with": made_with})
    return checkpoints.save(root, weights, manifest), left_out


def read(file: Path) -> Any:
    """What the file holds, without running any of it: safetensors, or a pickle of nothing but
    tensors and plain containers. Raises `Problem` model_file_invalid.
    """
    format_ = format_of(file)
    try:
        if format_ == "safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            # The other place that unpickles: people's files are so. No code runs, weights only.
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise _refused(error) from error
    except (Problem, MemoryError):
        raise
    # Everything, on purpose: for a damaged file the unpickler raises whatever its code runs into,
    # IndexError, struct.error, AssertionError and more.
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise _invalid(_DAMAGED) from error


def unwrapped(held: Any) -> State:
    """The state_dict in it: it itself, or what a checkpoint of another program calls so, without
    what DataParallel and torch.compile put before the keys. Raises `Problem` model_file_invalid.
    """
    for name in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
            break
    if not isinstance(held, Mapping) or not held:
        raise _invalid(f"It holds no state_dict, but {_kind(held)}.")
    if strange := [key for key, value in held.items() if not _is_weight(key, value)]:
        raise _invalid(
            f"It is no state_dict: {str(strange[0])[:80]!r} is {_kind(held[strange[0]])}."
        )
    state = dict(held)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fitted(state: Mapping[str, torch.Tensor], network: nn.Module) -> State:
    """The weights as the network has them: its keys, in its order, in its types.

    Raises `Problem` weights_misfit that says which keys and shapes differ, and model_file_invalid
    for weights that are no numbers.
    """
    ours = network.state_dict()
    state = {**_counters(ours), **state}
    fitting.check(fitting.shapes(state), fitting.shapes(ours), of="file")
    found = {key: state[key].to(ours[key].dtype).clone() for key in ours}
    for key, value in found.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise _invalid(f"{key} holds what is no number (NaN or infinite).")
    return found


def _named_alike(state: State, network: nn.Module) -> State:
    """With the keys of danlu's networks where a bare Sequential was saved, or the other way."""
    ours = set(network.state_dict())
    if ours & set(state):
        return state
    for renamed in (
        {f"model.{key}": value for key, value in state.items()},
        {key.removeprefix("model."): value for key, value in state.items()},
    ):
        if len(renamed) == len(state) and ours & set(renamed):
            return renamed
    return state


def _counters(ours: Mapping[str, torch.Tensor]) -> State:
    """How many batches a BatchNorm has seen: older files lack it, and no prediction needs it."""
    return {
        key: torch.zeros((), dtype=value.dtype)
        for key, value in ours.items()
        if key.endswith("num_batches_tracked")
    }


def _auxiliary(planned: architectures.Plan) -> tuple[str, ...]:
    if not architectures.of_zoo(planned):
        return ()
    return _AUXILIARY.get(zoo.family(str(planned.architecture)), ())


def _is_weight(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and not value.is_quantized
        and not value.is_complex()
    )


def _kind(value: Any) -> str:
    match value:
        case dict():
            return "another dictionary" if value else "an empty dictionary"
        case str():
            return "text"
    return f"a {type(value).__name__}"


def _refused(error: Exception) -> Problem:
    """A pickle that asks for more than tensors: most often a whole model (the notes, 2.12.1)."""
    found = _ASKED_FOR.search(str(error))
    if found is None:
        return _invalid(_DAMAGED)
    return Problem(
        "model_file_invalid",
        f"The file is a pickle that asks for {found[1][:100]} when it is read, which may be any "
        "code, so danlu does not run it.",
        hint=_OTHER_THINGS if found[1].startswith("numpy.") else _WHOLE_MODEL,
        errors=[{"loc": ["body", "file"], "msg": "no state_dict"}],
    )


def _invalid(why: str) -> Problem:
    return Problem(
        "model_file_invalid", why, errors=[{"loc": ["body", "file"], "msg": "no state_dict"}]
    )


if __name__ == "__main__":
    main()
