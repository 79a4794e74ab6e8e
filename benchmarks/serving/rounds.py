"""Rounds in which each contender, all on one machine, gets the same load in turn.

Knows what is measured; neither promises nor tables.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.listeners import say
from benchmarks.serving import beside, load, networks, pictures, servers
from benchmarks.serving.cases import CASES, Case
from benchmarks.serving.servers import Server
from danlu import environment

Record = dict[str, Any]
TRAINING = "-training"  # what the name of a part ends with that is measured beside a job
_FORMS = {"plain (def)": "def", "plain (async def)": "async", "echo": "echo"}
_CHECKED = 20  # images whose labels must agree before anything is timed
_UNSURE = 0.05  # two probabilities that are nearer may change places where numbers are rounded


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured; `litserve`: a Python that has it, None: it is left out."""

    data: Path
    work: Path
    connections: Sequence[int]
    rounds: int
    litserve: Path | None
    contenders: Sequence[str]


def run(part: str, plan: Plan, first: int) -> Iterator[Record]:
    """A record for each contender and number of connections in each round; rounds are counted from
    `first`.
    """
    name = part.removesuffix(TRAINING)
    case = replace(CASES[name], bare=False, seconds=6) if part.endswith(TRAINING) else CASES[name]
    with running(case, plan) as contenders:
        body = body_of(case, plan)
        agree(case, contenders, plan)
        for one in contenders:
            one.pause()
        for number in range(first, first + plan.rounds):
            found = _beside if part.endswith(TRAINING) else _by_themselves
            for record in found(case, contenders, body, plan, number):
                yield tell(record, part, number)
            if case.bare and "bare" in plan.contenders:
                for record in bare(case, plan):
                    yield tell(record, part, number)


def _by_themselves(
    case: Case, contenders: list[Server], body: Path, plan: Plan, number: int
) -> Iterator[Record]:
    # There and back again: who is first is last in the next round.
    order = contenders if number % 2 == 0 else contenders[::-1]
    for connections in plan.connections:
        for one in order:
            yield measure(one, case, body, connections)


def _beside(
    case: Case, contenders: list[Server], body: Path, plan: Plan, number: int
) -> Iterator[Record]:
    """danlu's without a job, then all beside one that trains on the first of danlu's."""
    ours = [one for one in contenders if one.is_danlu]
    for record in _by_themselves(case, ours, body, plan, number):
        yield record | {"contender": record["contender"] + beside.IDLE}
    with beside.job(ours[0]) as job:
        alone = job.alone()
        order = contenders if number % 2 == 0 else contenders[::-1]
        for connections in plan.connections:
            for one in order:
                record = measure(one, case, body, connections, job)
                yield record | {"alone_seconds": alone}


def measure(
    one: Server, case: Case, body: Path, connections: int, job: beside.Job | None = None
) -> Record:
    """One contender under load, after some of it that is not measured."""
    one.go_on()
    load.run(one.target, body, connections=connections, seconds=case.warm_seconds)
    one.settle()
    before = one.cpu_seconds()
    if job is not None:
        job.epochs()
    found = load.run(one.target, body, connections=connections, seconds=case.seconds)
    spent = one.cpu_seconds() - before
    epochs = job.epochs()[1:] if job is not None else []  # the first began before
    one.settle()
    one.pause()
    return {
        "contender": one.name,
        "connections": connections,
        "rate": found.rate,
        "server_cpu_seconds": spent,
        "epoch_seconds": statistics.fmean(epochs) if epochs else None,
        **asdict(found),
    }


def tell(record: Record, part: str, number: int) -> Record:
    """Shows it as it comes."""
    record = {"part": part, "round": number, **record}
    failed = record.get("bad", 0) + record.get("lost", 0)
    line = f"{number + 1} {part} {record['connections']:4} {record['contender']:18} "
    line += f"{record['rate']:8.1f}/s"
    if "p50_ms" in record:
        line += f" p50 {record['p50_ms']:7.1f} ms, p99 {record['p99_ms']:7.1f} ms"
    say(line + (f", {failed} failed" if failed else ""))
    sys.stdout.flush()
    return record


def bare(case: Case, plan: Plan) -> Iterator[Record]:
    """The network alone, in a process of its own."""
    checkpoint = networks.checkpoint(case.network, plan.data, plan.work)
    picture = plan.work / "picture.jpg"
    picture.write_bytes(pictures.picture(case.picture, plan.data))
    command = [sys.executable, "-m", "benchmarks.serving.bare", str(checkpoint)]
    command += ["--picture", str(picture)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(told.stdout)
    seconds = found.pop("decode_seconds")
    for name, what in found.items():
        yield {"contender": name, "connections": 0, "decode_seconds": seconds, **what}


@contextmanager
def running(case: Case, plan: Plan) -> Iterator[list[Server]]:
    """The servers of a case, danlu's first."""
    checkpoint = networks.checkpoint(case.network, plan.data, plan.work)
    with ExitStack() as stack:
        started = []
        for name, settings in case.ours.items() if "danlu" in plan.contenders else ():
            home = plan.work / "homes" / name.replace(" ", "-")
            networks.home(home, [checkpoint])
            server = servers.danlu(
                name, home, data=beside.data(plan.data, plan.work), settings=settings
            )
            started.append(stack.enter_context(server))
        for name in plan.contenders:
            if name in ("danlu", "bare"):
                continue
            if name != "litserve":
                started.append(
                    stack.enter_context(servers.plain(name, _FORMS[name], checkpoint, plan.work))
                )
            elif plan.litserve:
                server = servers.litserve(name, plan.litserve, checkpoint, plan.work)
                started.append(stack.enter_context(server))
        yield [one.wait() for one in started]


def body_of(case: Case, plan: Plan) -> Path:
    """The file that is posted."""
    body = plan.work / "body"
    body.write_bytes(load.form([pictures.picture(case.picture, plan.data)]))
    return body


def agree(case: Case, contenders: Sequence[Server], plan: Plan) -> None:
    """Ends the program if one gives another label than the plain server's network does, where that
    is not as good as undecided between two.
    """
    from benchmarks.serving.plain import Model

    model = Model(networks.checkpoint(case.network, plan.data, plan.work))
    asked = [pictures.picture(case.picture, plan.data), *pictures.some(plan.data, _CHECKED)]
    right = [(image, model.classify(image)) for image in asked]
    sure = [(image, told["label"]) for image, told in right if _gap(told["top"]) > _UNSURE]
    for one in contenders:
        wrong = [label for image, label in sure if one.name != "echo" and one.ask(image) != label]
        if wrong:
            sys.exit(f"{one.name} gives other labels to images of {wrong}")
    say(f"{len(sure)} of {len(asked)} images have a sure label, and all give it")


def _gap(top: Sequence[Any]) -> float:
    """Between the two most probable classes."""
    return float(top[0]["probability"] - top[1]["probability"])


def hardware() -> str:
    """In words."""
    from benchmarks.training import rounds

    return rounds.hardware("cpu")


def cores() -> int:
    """Of this machine."""
    return os.cpu_count() or 1


def variables() -> dict[str, str]:
    """Settings of danlu's that were given from outside, which the page must name."""
    return {
        name: value
        for name, value in environment.variables().items()
        if name.startswith("DANLU_PREDICT")
    }
