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
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from models_store import architectures, checkpoints, file_formats, fitting, pickles, zoo
from models_store.file_formats import invalid
from models_store.manifest import Manifest
from models_store.quarantine import confine
from problems import Problem

_DAMAGED = "It is damaged or cut off."

# Where programs keep the weights among other dictionaries of tensors, and what wrappers put before
# every key.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEPTH = 3  # of dictionaries in dictionaries that are looked into
_PREFIXES = ("module.", "_orig_mod.")
# Outputs that help while training; danlu builds these networks without them.
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception": ("AuxLogits.",)}

# What is of these is no network, but stands beside a state_dict.
_NO_NETWORKS = {"numpy", *sys.stdlib_module_names}
_ASKED_FOR = re.compile(r"GLOBAL ([\w.]+)")
_WHOLE_MODEL = """Where its classes are defined, make a state_dict of it:
model = torch.load("model.pth", weights_only=False)  # runs what is in it: only a file you trust
torch.save(model.state_dict(), "weights.pth")"""
_OTHER_THINGS = """Where you trust the file, save its weights alone:
held = torch.load("model.pth", weights_only=False)
torch.save(held["state_dict"], "weights.pth")"""
_BARE_PICKLE = """Where its classes are defined, make a file of torch.save of it:
held = pickle.load(open("model.pkl", "rb"))  # runs what is in it: only a file you trust
state = held if isinstance(held, dict) else held.state_dict()
torch.save({key: torch.as_tensor(value) for key, value in state.items()}, "weights.pth")"""
_NEW_PROTOCOL = """Save it again, with the protocol that torch.save takes by itself:
held = torch.load("model.pth", weights_only=False)  # runs what is in it: only a file you trust
torch.save(held, "weights.pth")"""

State = dict[str, torch.Tensor]
Keys = tuple[str, ...]


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
        too_large = invalid("It takes too much memory to be read.")
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
    path, state = unwrapped(read(file))
    state = _named_alike(state, network)
    auxiliary = _auxiliary(planned)
    left_out = sorted(key for key in state if key.startswith(auxiliary))
    weights = fitted({k: v for k, v in state.items() if k not in set(left_out)}, network)
    made_with = dict(manifest.made_with)
    if path:
        made_with["taken_from"] = ".".join(path)[:200]
    if left_out:
        made_with["left_out"] = f"{len(left_out)} keys, {left_out[0]} first"
    manifest = manifest.model_copy(update={"made_with": made_with})
    return checkpoints.save(root, weights, manifest), left_out


def read(file: Path) -> Any:
    """What the file holds, without running any of it: safetensors, or a pickle of nothing but
    tensors and plain containers. Raises `Problem` model_file_invalid.
    """
    format_ = file_formats.of(file)
    try:
        if format_ == "safetensors":
            return load_file(file)
        if format_ == "pickle":
            with file.open("rb") as opened:
                raise _bare(pickles.asks_for(opened))
        file_formats.check_zip(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            # The other place that unpickles: people's files are so. No code runs, weights only.
            return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise _refused(error, file) from error
    except (Problem, MemoryError):
        raise
    # Everything, on purpose: for a damaged file the unpickler raises whatever its code runs into,
    # IndexError, struct.error, AssertionError and more.
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise invalid(_DAMAGED) from error


def unwrapped(held: Any) -> tuple[Keys, State]:
    """The state_dict in it, after the keys that lead there: it itself, or the only one in the
    dictionaries that it is, or the one that is called so; without what DataParallel and
    torch.compile put before its keys. Raises `Problem` model_file_invalid.
    """
    if not isinstance(held, Mapping) or not held:
        raise invalid(f"It holds no state_dict, but {_kind(held)}.")
    found = dict(_states(held))
    if not found:
        key, value = next(item for item in held.items() if not _is_weight(*item))
        raise invalid(f"It is no state_dict: {str(key)[:80]!r} is {_kind(value)}.")
    known: list[Keys] = [(name,) for name in _WRAPPERS if (name,) in found]
    if len(found) > 1 and not known:
        raise _several(list(found))
    path = (known or list(found))[0]
    state = found[path]
    while prefix := next((one for one in _PREFIXES if all(k.startswith(one) for k in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return path, state


def _states(held: Mapping[Any, Any], path: Keys = ()) -> Iterator[tuple[Keys, State]]:
    """The dictionaries of tensors in a dictionary, each with the keys that lead to it."""
    if held and all(_is_weight(key, value) for key, value in held.items()):
        yield path, dict(held)
    elif len(path) < _DEPTH:
        for key, value in held.items():
            # An optimizer's moments are dictionaries of tensors, by number.
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _states(value, (*path, key))


def _several(paths: list[Keys]) -> Problem:
    written = ["".join(f"[{key[:80]!r}]" for key in path) for path in paths]
    named = ", ".join(f"held{one}" for one in written[: fitting.SHOWN])
    return invalid(
        f"It holds {len(paths)} state_dicts: {named}.",
        f"""Save the one that is meant:
held = torch.load("model.pth")
torch.save(held{written[0]}, "weights.pth")""",
    )


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
            raise invalid(f"{key} holds what is no number (NaN or infinite).")
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
        case int() | float():
            return "a number"
    return f"a {type(value).__name__}"


def _refused(error: Exception, file: Path) -> Problem:
    """A pickle that asks for more than tensors: most often a whole model (the notes, 2.12.1)."""
    found = _ASKED_FOR.search(str(error))
    asked = None if found is None else found[1]
    if asked is None and (asked := _asked_in_zip(file)) is None:
        return invalid(_DAMAGED)
    if asked == "collections.OrderedDict":
        return invalid("Its pickle is of a protocol that cannot be read safely.", _NEW_PROTOCOL)
    return invalid(
        f"The file is a pickle that asks for {asked[:100]} when it is read, which may be any "
        "code, so danlu does not run it.",
        _OTHER_THINGS if asked.partition(".")[0] in _NO_NETWORKS else _WHOLE_MODEL,
    )


def _asked_in_zip(file: Path) -> str | None:
    """What a zip of torch.save asks for whose protocol PyTorch cannot read with weights_only."""
    try:
        with zipfile.ZipFile(file) as opened:
            name = next(one for one in opened.namelist() if one.endswith("/data.pkl"))
            with opened.open(name) as stream:
                return pickles.asks_for(stream)
    except MemoryError:
        raise
    except Exception:  # damaged: zipfile and pickletools have many kinds
        return None


def _bare(asked: str | None) -> Problem:
    asks = "" if asked is None else f", and asks for {asked[:100]} when it is read"
    return invalid(
        f"The file is a pickle that pickle.dump wrote, not torch.save{asks}. It may hold any code, "
        "so danlu does not run it.",
        _BARE_PICKLE,
    )


if __name__ == "__main__":
    main()
