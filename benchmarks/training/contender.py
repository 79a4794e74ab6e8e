"""One contender in this process: prints what it measured as a line of JSON.

    python -m benchmarks.training.contender 'danlu auto' cifar10_net --data FOLDER --work FOLDER

`benchmarks.training` starts it, once for each run.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks.training import loops
from benchmarks.training.cases import CASES, Case
from benchmarks.training.loops import Asked, Measured

# What each is, in the order of the table.
CONTENDERS = {
    "notes": "the loop of the notes over files or idx arrays, float32",
    "notes, unpacked": "the same over pixels in memory, as torchvision's CIFAR10 class has them",
    "workers": "DataLoader with a worker process for each core, float32",
    "danlu fp32": "a job of danlu's with `precision: fp32`",
    "limit fp32": "its computing alone, on one batch again and again",
    "danlu auto": "a job of danlu's with `precision: auto`",
    "limit auto": "its computing alone, on one batch again and again",
}


def loop(name: str, work: Path) -> Callable[[Case, Asked], Measured]:
    """The contender of that name."""
    kind, _, how = name.partition(" ")
    if kind == "danlu":
        from benchmarks.training import job

        return lambda case, asked: job.danlu(case, asked, precision=how, work=work)
    if kind == "limit":
        return lambda case, asked: loops.limit(case, asked, precision=how)
    if kind == "workers":
        return loops.workers
    return lambda case, asked: loops.notes(case, asked, unpacked=bool(how))


def main() -> int:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true")
    given = parser.parse_args()
    asked = Asked(
        data=given.data,
        device=given.device,
        epochs=given.epochs,
        images=given.images,
        seed=given.seed,
        evaluate=given.evaluate,
    )
    measured = loop(given.name, given.work)(CASES[given.case], asked)
    sys.stdout.write(json.dumps(asdict(measured)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
