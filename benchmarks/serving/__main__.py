"""How fast does danlu predict, beside the servers that people write and beside its own limit?

    python -m benchmarks.serving --data FOLDER [--parts small …] [--litserve-python PYTHON]
        [--work FOLDER --page docs/performance.md]

`FOLDER` of the data holds `cifar10-jpeg` as folders of JPEGs below train/ and test/. The load is
made by wrk. Every server runs in processes of its own on this machine; they get the same load in
turns, round by round, and ratios are taken within a round. Labels are compared before anything is
timed. Exit code 1 if a promise is not kept. Wants the machine for itself.

`small` and `large` are an image of 958 bytes and one of 100 kB on `cifar10_net`, `resnet18` is one
of 15 kB on ResNet-18 at 224 pixels; with `-training` the same while a job trains beside it.
`overload`: 512 connections for half a minute, in each round; `hundred`: as many checkpoints under
a small budget; `memory`: of each process, and /healthz while models are loaded.

What is measured stays in the folder `--work`, so that parts may be run by themselves, and with
`--more` rounds or other numbers of connections are added to those that are there; `--page` renews
the section of the page by all that is there, also with no part at all after `--parts`.
"""

import argparse
import importlib.util
import json
import signal
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import page
from benchmarks.listeners import say
from benchmarks.serving import beside, hundred, load, memory, overload, rounds, table
from benchmarks.serving.cases import CASES, CONNECTIONS, CONTENDERS
from benchmarks.serving.rounds import Plan, Record

PROOFS = {"overload": overload.measure, "hundred": hundred.measure, "memory": memory.measure}
PARTS = [*CASES, *(name + rounds.TRAINING for name in CASES), *PROOFS]
HEADING = """\
## Serving

How fast `POST /predict` is beside the servers that people write, with the same network, image and
machine. Made by `make bench-serve`. wrk posts one image as a multipart form again and again over so
many connections, on the same cores as the server; servers take turns, round by round, and ratios
are taken within a round. Before anything is timed each has given the same labels to other images.
Milliseconds are wrk's; `failed` counts answers other than 200 and requests without any. What is
promised beside plain FastAPI is about a `def` endpoint, as FastAPI has it for code that blocks; an
`async def` one, which lets nothing else be answered meanwhile, is shown beside it.

"""
TITLES = {
    "small": "A JPEG of 958 bytes, `cifar10_net`",
    "large": "A JPEG of 100 kB (640 by 480), `cifar10_net`",
    "resnet18": "A JPEG of 15 kB (224 by 224), ResNet-18",
    "overload": "Overload",
    "hundred": "A hundred checkpoints",
    "memory": "Memory, and staying awake",
}


def main() -> int:
    """Measures and prints, and renews the section if there is to be one."""
    # An end by SIGTERM takes the servers along, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = _arguments()
    if given.parts:
        load.check()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            data=given.data.resolve(),
            work=work,
            connections=given.connections,
            rounds=given.rounds,
            litserve=given.litserve_python,
            contenders=given.contenders,
        )
        for part in given.parts:
            good = _measure(part, plan, more=given.more) and good
            say(f"\n{_text(part, work)}")
        if given.page:
            named = "".join(f"- **{name}**: {what}\n" for name, what in CONTENDERS.items())
            texts = filter(None, (_text(part, work) for part in PARTS))
            page.renew(given.page, "\n".join([HEADING + named, *texts]))
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--connections", nargs="+", type=int, default=CONNECTIONS)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--more", action="store_true", help="add to what is in the folder")
    parser.add_argument("--litserve-python", type=Path, default=_python(), help="one that has it")
    parser.add_argument("--work", type=Path, help="folder of results, networks and homes, kept")
    parser.add_argument("--page", type=Path, help="renew its section by what is in the folder")
    return parser.parse_args()


def _python() -> Path | None:
    """This one, if it has litserve."""
    return Path(sys.executable) if importlib.util.find_spec("litserve") else None


def _measure(part: str, plan: Plan, *, more: bool) -> bool:
    """Whether a part's promises are kept; what is measured is in its file, line by line."""
    made = _made()
    if part in PROOFS:
        good, text = PROOFS[part](plan)
        (plan.work / f"{part}.md").write_text(f"{made}.\n\n{text}", encoding="utf-8")
        return good
    file = plan.work / f"{part}.jsonl"
    if not more:
        file.unlink(missing_ok=True)
    first = 1 + max((one["round"] for one in _read(file)), default=-1)
    with file.open("a", encoding="utf-8") as lines:
        for record in rounds.run(part, plan, first):
            lines.write(json.dumps({"made": made, **record}) + "\n")
            lines.flush()
    return _compared(part, _read(file))[0]


def _compared(part: str, records: list[Record]) -> tuple[bool, str]:
    """Whether promises are kept, and the tables."""
    if part.endswith(rounds.TRAINING):
        good, text = beside.table(records, rounds.cores())
        return good, f"{table.times(records)}\n{text}"
    good, compared = table.ratios(part, records)
    tables = table.times(records), table.alone(records, rounds.cores()), compared
    return good, "\n".join(filter(None, tables))


def _text(part: str, work: Path) -> str:
    """What has been measured of a part, "" if nothing."""
    file, text = work / f"{part}.md", ""
    if part in PROOFS:
        text = file.read_text("utf-8") if file.exists() else ""
    elif records := _read(file.with_suffix(".jsonl")):
        counts = Counter((one["contender"], one["connections"]) for one in records).values()
        made = "; ".join(dict.fromkeys(one["made"] for one in records))
        count = "" if min(counts) == max(counts) else f"{min(counts)} to "
        text = f"{made}. Rounds: {count}{max(counts)}."
        if not any(one["contender"] == "litserve" for one in records):
            text += " litserve: not measured."
        text += f"\n\n{_compared(part, records)[1]}"
    title = TITLES[part.removesuffix(rounds.TRAINING)]
    title += ", beside a training job" if part.endswith(rounds.TRAINING) else ""
    return text and f"### {title}\n\n{text}"


def _read(file: Path) -> list[Record]:
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def _made() -> str:
    """When and on what, and with which settings from outside."""
    given = [f", {name}={value}" for name, value in rounds.variables().items()]
    date = datetime.now(UTC).date().isoformat()
    return f"Measured on {date}, on {rounds.hardware()}{''.join(given)}"


if __name__ == "__main__":
    sys.exit(main())
