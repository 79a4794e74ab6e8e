"""How fast does danlu train, beside the loops that people write and beside its own limit?

    python -m benchmarks.training --data FOLDER [--parts cifar10_net …] [--device cuda]
        [--work FOLDER --page docs/performance.md]

`FOLDER` of the data holds `MNIST/raw` as torchvision has it, and `cifar10-jpeg` as folders of JPEGs
below train/ and test/. Every contender runs in a process of its own, one after the other, round by
round, and ratios are taken within a round. The parts are one for each network, `fast` (the recipes
made for speed; that for CIFAR-10 on a GPU only), `jobs` (how soon jobs begin and end, what progress
costs) and `accuracy` (ten epochs with three seeds; an hour); `files` is of `jobs` what is about
60,000 JPEG files, in a minute.
Exit code 1 if a promise is not kept. Wants the machine for itself.

Each part leaves its text in the folder `--work`, so that parts may be run by themselves; `--page`
puts all of them together, also with no part at all after `--parts`; other sections stay.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import page
from benchmarks.listeners import say
from benchmarks.training import fast, rounds, starts, table
from benchmarks.training.cases import CASES
from benchmarks.training.contender import CONTENDERS
from benchmarks.training.rounds import Plan

PARTS = [*CASES, "fast", "jobs", "accuracy"]
FILES = "files"  # of `jobs` what is about 60,000 files, alone; no part of the page
SEEDS, EPOCHS = 3, 10  # of accuracy
HEADING = """\
# Performance, measured

How fast danlu trains beside the loops that people write, and beside its own limit: its network
computing on one batch again and again. Made by `make bench`.

Every contender runs in a process of its own, in turns, round by round, and ratios are taken within
a round. Each trains two epochs, of which the second counts: its training part alone, evaluation
stands beside it. danlu's figures are a whole job's, with database, progress and checkpoints, in a
process set up as the worker's child is. Images of CIFAR-10 are JPEG files, shuffled for all;
MNIST's are in order, as the notes have them. Accuracy is that of the last epoch on the test images.
Memory is the peak of what a contender's processes had together, a shared page counted in parts
(Pss), looked at once a second.

"""
MADE = "\nMeasured on {date}, on {hardware}: {count} rounds, {images} an epoch.\n"


def main() -> int:
    """Measures and prints, and writes the page if there is to be one."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            *(given.data.resolve(), work, given.device),
            epochs=2,
            images=given.images,
            evaluate=True,
            together=given.together,
        )
        good = True
        for part in given.parts:
            count = given.runs if part == "fast" else given.rounds
            kept, text = _measure(part, plan, count, given.contenders)
            good = good and kept
            (work / _file(part, given.device)).write_text(text, encoding="utf-8")
            say(f"\n{text}")
        if given.page:
            files = [work / _file(part, device) for device in ("cpu", "cuda") for part in PARTS]
            texts = [file.read_text("utf-8") for file in files if file.exists()]
            named = "".join(f"- **{name}**: {what}\n" for name, what in CONTENDERS.items())
            page.renew(given.page, "\n".join([HEADING + named, *texts]))
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--parts", nargs="*", choices=[*PARTS, FILES], default=PARTS[:-1])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="of an epoch; all if left out")
    parser.add_argument("--runs", type=int, default=10, help="of each recipe made for speed")
    parser.add_argument("--together", action="store_true", help="all in one process")
    parser.add_argument("--work", type=Path, help="folder of results and decoded images, kept")
    parser.add_argument("--page", type=Path, help="write what is in the folder there")
    return parser.parse_args()


def _file(part: str, device: str) -> str:
    return f"{part}.md" if device == "cpu" else f"{part}-{device}.md"


def _measure(part: str, plan: Plan, count: int, contenders: list[str]) -> tuple[bool, str]:
    """Whether a part's promises are kept, and its text."""
    if part == "accuracy":
        return _accuracy(replace(plan, epochs=EPOCHS, images=None))
    if part in ("jobs", FILES):
        good, text = starts.measure(plan, count, only_files=part == FILES)
        return good, f"## Jobs, from the request to the end\n{_made(plan, count)}\n{text}"
    if part == "fast":
        good, text = fast.measure(plan, count)
        return good, f"## Recipes made for speed{_on(plan)}\n{_made(plan, count)}\n{text}"
    case = CASES[part]
    wanted = [name for name in contenders if name != "notes, unpacked" or not case.is_array]
    runs = rounds.run(plan, part, wanted, count)
    promises = table.ON_GPU if plan.device == "cuda" else table.PROMISES
    compared, good = table.ratios(part, runs, promises)
    text = f"## {part}, batch {case.batch_size}{_on(plan)}\n{_made(plan, count)}"
    return good, f"{text}\n{table.times(runs)}\n{compared}"


def _accuracy(plan: Plan) -> tuple[bool, str]:
    good, text = True, f"## Accuracy after {EPOCHS} epochs\n{_made(plan, SEEDS)}"
    for name, case in CASES.items():
        runs = rounds.run(plan, name, ["notes", "danlu fp32", "danlu auto"], SEEDS)
        compared, kept = table.accuracies(runs, least_share=case.least_share)
        good = good and kept
        text += f"\n{name}:\n\n{compared}"
    return good, text


def _on(plan: Plan) -> str:
    return ", on a GPU" if plan.device == "cuda" else ""


def _made(plan: Plan, count: int) -> str:
    return MADE.format(
        date=datetime.now(UTC).date().isoformat(),
        hardware=rounds.hardware(plan.device),
        count=count,
        images="all images" if plan.images is None else f"{plan.images:,} images",
    )


if __name__ == "__main__":
    sys.exit(main())
