"""Rounds in which each contender runs once, in a process of its own.

Knows nothing of what they do.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.imports import session_of
from benchmarks.listeners import say
from benchmarks.memory import Curve, of_all, pss_mb
from benchmarks.training import contender, loops
from benchmarks.training.cases import CASES
from benchmarks.training.table import epoch
from danlu import environment

_LOOK_SECONDS = 1.0  # a look stops the contender for a few milliseconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What every contender is told; `images` of the training part make an epoch, None: all."""

    data: Path
    work: Path
    device: str
    epochs: int
    images: int | None
    evaluate: bool
    together: bool = False  # all in this process: where one that starts takes long


def run(
    plan: Plan, case: str, contenders: Sequence[str], count: int
) -> dict[str, list[dict[str, Any]]]:
    """`count` rounds, each with a seed of its own. The images are decoded before the first."""
    ours = [name for name in contenders if name.startswith("danlu")]
    if ours:
        once(replace(plan, epochs=1, images=1000, evaluate=False), case, ours[0], 0)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for number in range(count):
        # There and back again: who is first is last in the next round.
        for name in contenders if number % 2 == 0 else reversed(contenders):
            measured = once(plan, case, name, number)
            found[name].append(measured)
            reached = f", {measured['accuracies'][-1]:.4f}" if measured["accuracies"] else ""
            say(f"{number + 1}/{count} {case} {name:16} {epoch(measured):7.2f} s{reached}")
            sys.stdout.flush()
    return found


def once(plan: Plan, case: str, name: str, seed: int) -> dict[str, Any]:
    """One run. Raises `CalledProcessError`; what the contender wrote is in `work`/log."""
    measured = _here(plan, case, name, seed) if plan.together else _apart(plan, case, name, seed)
    measured["steps"] = -(-measured["images"] // CASES[case].batch_size)
    return measured


def _here(plan: Plan, case: str, name: str, seed: int) -> dict[str, Any]:
    asked = loops.Asked(plan.data, plan.device, plan.epochs, plan.images, seed, plan.evaluate)
    with Curve(lambda: pss_mb(os.getpid()), every_seconds=_LOOK_SECONDS) as curve:
        measured = asdict(contender.loop(name, plan.work)(CASES[case], asked))
    return measured | {"peak_mb": curve.most()}


def _apart(plan: Plan, case: str, name: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.training.contender", name, case]
    command += ["--data", str(plan.data), "--work", str(plan.work), "--device", plan.device]
    command += ["--epochs", str(plan.epochs), "--seed", str(seed)]
    command += ["--images", str(plan.images)] if plan.images else []
    command += ["--evaluate"] if plan.evaluate else []
    variables = environment.variables()
    if name.partition(" ")[0] in ("danlu", "limit"):
        variables |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "20000"}  # as the worker does
    with (plan.work / "log").open("wb") as log:
        started = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        with Curve(
            lambda: of_all(lambda: session_of(started.pid)), every_seconds=_LOOK_SECONDS
        ) as curve:
            told, _ = started.communicate()
    if started.returncode:
        say((plan.work / "log").read_text(errors="replace")[-2000:])
        raise subprocess.CalledProcessError(started.returncode, command)
    measured: dict[str, Any] = json.loads(told)
    measured["peak_mb"] = curve.most()
    return measured


def hardware(device: str) -> str:
    """In words, with the version of PyTorch."""
    on = f"{os.cpu_count()} cores ({_processor()})"
    if device == "cuda":
        on = f"one {torch.cuda.get_device_name()}, {on}"
    return f"{on}, PyTorch {torch.__version__.partition('+')[0]}"


def _processor() -> str:
    """Its name as Linux tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    abilities = torch.cpu.get_capabilities()
    bf16 = [name for name in ("amx_bf16", "avx512_bf16") if abilities.get(name)]
    return f"{named[0] if named else platform.machine()}, {' and '.join(bf16) or 'no bf16'}"
