"""Where a training run stands, on disk: everything that its next epoch depends on, in one file.

`runs/<job>/state/training.safetensors` holds weights, moments and random states as tensors and the
rest as JSON in its header; nothing in it can run code. Written beside, synced and renamed, so what
is there is whole; a checksum tells what the disk has changed since. Knows no rows.
"""

import json
import logging
import math
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from workers.training import Training

log = logging.getLogger(__name__)

FOLDER = "state"
_FILE = "training.safetensors"
_SETTLED = "settled"
_NETWORK, _OPTIMIZER, _RANDOM = "network.", "optimizer.", "random."
# Of the time of a training that may go into its state: kept after each epoch of digits, which
# lasts 0.15 s, it would be a tenth. What is interrupted repeats a second or two then, to the bit.
_SHARE = 0.02


class Keeper:
    """Keeps the state of one attempt after its epochs: the first, the last, and as many between as
    take little of the time.
    """

    def __init__(self, run: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._next = -math.inf

    def keep(self, training: Training, *, last: bool) -> None:
        """Keeps this epoch's state if it is time to, or the `last` one. Raises `OSError`."""
        began = self._clock()
        if began < self._next and not last:
            return
        keep(self._run, training)
        took = self._clock() - began
        self._next = began + took / _SHARE


def keep(run: Path, training: Training) -> None:
    """Replaces the state in the run's folder. Raises `OSError`, and nothing half-written stays: on
    a full disk it would keep the room in which the row of the job could be told of it.
    """
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    tensors, described = _taken_apart(training)
    unfinished = folder / f"{_FILE}.tmp"
    written = json.dumps(described)
    metadata = {"training": written, "crc32": _checksum(tensors, written)}
    try:
        with unfinished.open("wb") as file:
            file.write(save(tensors, metadata=metadata))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / _FILE)
    finally:
        unfinished.unlink(missing_ok=True)


def restore(run: Path, training: Training) -> bool:
    """Brings a fresh `training` to where the kept state left off; False: there is none to use.

    A file that is damaged is as good as none: the log says so.
    """
    path = run / FOLDER / _FILE
    try:
        with safe_open(path, framework="pt") as file:
            written = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if written["crc32"] != _checksum(tensors, written["training"]):
            raise ValueError("it is not what was kept")
    except FileNotFoundError:
        return False
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the state %s cannot be used: %s", path, error)
        return False
    _put_together(training, tensors, json.loads(written["training"]))
    return True


def settle(run: Path, training: Training) -> None:
    """Notes that a run which a limit had ended was judged too, so that nothing is left to do of it.
    Raises `OSError`.
    """
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    (run / FOLDER / _SETTLED).write_text(str(training.epoch))


def is_settled(run: Path, training: Training) -> bool:
    """Whether it was noted: who trains on now was asked to go on after the end."""
    try:
        return (run / FOLDER / _SETTLED).read_text() == str(training.epoch)
    except OSError:
        return False


def disk_bytes(run: Path) -> int:
    """Bytes of the kept state; 0 if there is none."""
    try:
        return (run / FOLDER / _FILE).stat().st_size
    except OSError:
        return 0


def _checksum(tensors: dict[str, torch.Tensor], described: str) -> str:
    """Of all that `keep` writes."""
    checksum = zlib.crc32(described.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        checksum = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _taken_apart(training: Training) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    whole = training.optimizer.state_dict()
    tensors = {f"{_NETWORK}{key}": value for key, value in training.network.state_dict().items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in whole["state"].items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_OPTIMIZER}{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    tensors |= {f"{_RANDOM}{key}": value for key, value in training.random_states().items()}
    described = {
        "epoch": training.epoch,
        "step": training.step,
        "steps": training.steps,
        "device": training.device.type,
        "param_groups": whole["param_groups"],
        "optimizer": numbers,
        "scheduler": training.scheduler.state_dict() if training.scheduler else None,
        "limits": training.limits.state_dict(),
        "scaler": training.scaler.state_dict() if training.scaler else None,
    }
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, described


def _put_together(
    training: Training, tensors: dict[str, torch.Tensor], described: dict[str, Any]
) -> None:
    training.network.load_state_dict(_beneath(_NETWORK, tensors))
    parameters = [one for group in training.optimizer.param_groups for one in group["params"]]
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in described["optimizer"].items()
    }
    for key, value in _beneath(_OPTIMIZER, tensors).items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        # In the memory layout of its weight, as the optimizer had made it.
        laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        state.setdefault(int(index), {})[name] = laid_out
    training.optimizer.load_state_dict({"state": state, "param_groups": described["param_groups"]})
    training.epoch, training.step = described["epoch"], described["step"]
    if training.device.type == described["device"]:  # others draw other numbers from it
        training.set_random_states(_beneath(_RANDOM, tensors))
    if "limits" in described:  # not in a state of before there were any
        training.limits.load_state_dict(described["limits"])
    if training.scaler is not None and described.get("scaler"):
        training.scaler.load_state_dict(described["scaler"])
    _take_up_schedule(training, described)


def _take_up_schedule(training: Training, described: dict[str, Any]) -> None:
    """A schedule that fills the run is another one in a longer run."""
    schedule, kept = training.scheduler, described["scheduler"]
    if schedule is None:
        return
    if kept is None or (schedule.fills_the_run and described["steps"] != training.steps):
        schedule.advance(training.epoch)
    else:
        schedule.load_state_dict(kept, updates=training.step)


def _beneath(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
