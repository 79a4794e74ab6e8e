"""What was measured, as tables: medians over the rounds, and ratios within each round.

Knows nothing of how it was measured.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.serving.cases import CONTENDERS, PROMISES, Promise
from benchmarks.training.table import word

Records = Sequence[Mapping[str, Any]]
WORDS = {"rate": "requests/s", "p50_ms": "p50", "p99_ms": "p99"}


def times(records: Records) -> str:
    """Of each contender at each number of connections."""
    text = (
        "| connections | contender | requests/s: median | min | max | p50, ms | p99, ms "
        "| failed | its CPU, ms a request |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    for connections in connections_of(records):
        at = [one for one in records if one["connections"] == connections]
        for name in names_of(at):
            found = [one for one in at if one["contender"] == name]
            rates = [one["rate"] for one in found]
            cpu = [1000 * one["server_cpu_seconds"] / max(one["requests"], 1) for one in found]
            cells = (
                f"{connections}",
                name,
                *(f"{value:,.0f}" for value in (statistics.median(rates), min(rates), max(rates))),
                f"{_median(found, 'p50_ms'):,.1f}",
                f"{_median(found, 'p99_ms'):,.1f}",
                f"{sum(one['bad'] + one['lost'] for one in found)}",
                f"{statistics.median(cpu):.2f}",
            )
            text += f"| {' | '.join(cells)} |\n"
    return text


def ratios(part: str, records: Records) -> tuple[bool, str]:
    """Whether the medians keep what is promised; and ratios of that, and of danlu's requests a
    second to each other's.
    """
    text = (
        "| connections | ratio | median | min | max | promised | |\n|---|---|---|---|---|---|---|\n"
    )
    good = True
    for one in _wanted(part, records):
        found = _within(one, records)
        if not found:
            continue
        middle = statistics.median(found)
        kept = one.kept(middle)
        good = good and kept is not False
        cells = (
            f"{one.connections}",
            f"{_said(one.first)} : {_said(one.second)}",
            *(f"{value:.2f}" for value in (middle, min(found), max(found))),
            one.limit(),
            "" if kept is None else word(kept),
        )
        text += f"| {' | '.join(cells)} |\n"
    return good, text


def alone(records: Records, cores: int) -> str:
    """Of the network without a server: its rate, and the share of it that is left when decoding and
    taking requests in, as the echo does, need their part of the same cores.
    """
    text = (
        "| network alone | images/s: median | min | max | batch, layout | decoding, ms of a core "
        "| taking in, ms of a core | ceiling, of the network alone |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    echoes = [one for one in records if one["contender"] == "echo" and one["connections"] == 32]
    taken = [(one["server_cpu_seconds"] + one["cpu_seconds"]) / one["requests"] for one in echoes]
    taking = statistics.median(taken) if taken else 0.0
    bare = [one for one in records if one["connections"] == 0]
    for name in names_of(bare):
        found = [one for one in bare if one["contender"] == name]
        rates = [one["rate"] for one in found]
        middle, decoding = statistics.median(rates), _median(found, "decode_seconds")
        ceiling = 1 / (1 + middle * (decoding + taking) / cores)
        cells = (
            name,
            *(f"{value:,.1f}" for value in (middle, min(rates), max(rates))),
            ", ".join(sorted({f"{one['batch']} {one['layout']}" for one in found})),
            f"{1000 * decoding:.2f}",
            f"{1000 * taking:.2f}" if taken else "not measured",
            f"{ceiling:.0%}",
        )
        text += f"| {' | '.join(cells)} |\n"
    return text if bare else ""


def _wanted(part: str, records: Records) -> list[Promise]:
    """The promises, and each other ratio of requests a second."""
    promised = [one for one in PROMISES if one.case == part]
    known = {(one.connections, one.first, one.second) for one in promised}
    more = []
    for connections in connections_of(records):
        at = [one for one in records if one["connections"] == connections]
        names = names_of(at)
        ours = [name for name in names if name.startswith("danlu")]
        for pair in ((mine, other) for mine in ours for other in names if other not in ours):
            first, second = ((name, "rate") for name in pair)
            if (connections, first, second) not in known:
                more.append(Promise(part, connections, first, second))
    return sorted(promised + more, key=lambda one: one.connections)


def _within(one: Promise, records: Records) -> list[float]:
    """The ratio in each round that has both."""
    firsts, seconds = (_by_round(one, what, records) for what in (one.first, one.second))
    return [firsts[number] / seconds[number] for number in firsts if seconds.get(number)]


def _by_round(one: Promise, what: tuple[str, str], records: Records) -> dict[int, float]:
    name, quantity = what
    connections = 0 if name.startswith("bare") else one.connections
    return {
        record["round"]: record[quantity]
        for record in records
        if record["contender"] == name and record["connections"] == connections
    }


def _said(what: tuple[str, str]) -> str:
    return f"{what[0]}, {WORDS[what[1]]}"


def connections_of(records: Records) -> list[int]:
    """The numbers of connections; 0, of what is no server, is none."""
    return sorted({one["connections"] for one in records} - {0})


def names_of(records: Records) -> list[str]:
    """Contenders in the order of the list of them, whoever was first in the first round."""
    places = {name: place for place, name in enumerate(CONTENDERS)}
    found = dict.fromkeys(one["contender"] for one in records)
    return sorted(
        found, key=lambda one: next(places[name] for name in places if one.startswith(name))
    )


def _median(records: Records, column: str) -> float:
    return float(statistics.median(one[column] for one in records))
