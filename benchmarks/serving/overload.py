"""Far more connections than can be served: are all answered with 200 or 429, does memory stay, and
is it over when they are gone?

Every client comes again at once, also one that was told to wait: the worst there is.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.imports import rss_mb
from benchmarks.listeners import say
from benchmarks.memory import Curve
from benchmarks.serving import load, networks, pictures, servers
from benchmarks.serving.load import Loaded
from benchmarks.serving.memory import held
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import Server
from benchmarks.training.table import word

CONNECTIONS, SECONDS, _USUAL = 512, 30, 32
ALLOWED = {200, 429}
# Memory is flat if from here on it comes to no more than it had then, but for this.
FLAT_AFTER, FLAT_MB = 10.0, 20.0
MOST_P50 = 1.25  # two seconds afterwards, as many times what it was


@dataclass(frozen=True, slots=True)
class _Round:
    """Load as usual, the overload, and again as usual between one second and two afterwards; with
    memory, private and RSS, before and after, and how it went.
    """

    before: Loaded
    during: Loaded
    after: Loaded
    curve: Curve
    memory: tuple[float, float]
    later: tuple[float, float]

    @property
    def ratio(self) -> float:
        """p50 afterwards, as a part of what it was."""
        return self.after.p50_ms / self.before.p50_ms

    @property
    def first_mb(self) -> float:
        """Most memory in the first seconds."""
        return max((mb for seconds, mb in self.curve.seen if seconds < FLAT_AFTER), default=0.0)

    @property
    def grown_mb(self) -> float:
        """And how much more than that later."""
        return max(self.curve.most(after=FLAT_AFTER) - self.first_mb, 0.0)


def measure(plan: Plan) -> tuple[bool, str]:
    """Whether all is as promised, and the text."""
    checkpoint = networks.checkpoint(networks.CIFAR10, plan.data, plan.work)
    body = plan.work / "body"
    body.write_bytes(load.form([pictures.picture(pictures.SMALL, plan.data)]))
    home = plan.work / "homes" / "overload"
    networks.home(home, [checkpoint])
    found = []
    with servers.danlu("danlu", home) as server:
        load.run(server.wait().target, body, connections=_USUAL, seconds=2)
        for number in range(plan.rounds):
            found.append(_overload(server, body))
            one = found[-1]
            say(
                f"{number} overload p50 {one.before.p50_ms:.1f} ms, {one.after.p50_ms:.1f} ms after"
            )
    return _table(found)


def _overload(server: Server, body: Path) -> _Round:
    before = load.run(server.target, body, connections=_USUAL, seconds=2)
    memory = _memory(server)
    with Curve(lambda: held(server)) as curve:
        during = load.run(server.target, body, connections=CONNECTIONS, seconds=SECONDS, count=True)
    time.sleep(1)  # and a second of load: that is within two
    after = load.run(server.target, body, connections=_USUAL, seconds=1)
    return _Round(before, during, after, curve, memory, _memory(server))


def _memory(server: Server) -> tuple[float, float]:
    """Private anonymous memory and RSS, all processes together."""
    return held(server), sum(map(rss_mb, server.pids()))


def _table(rounds: Sequence[_Round]) -> tuple[bool, str]:
    during = [one.during for one in rounds]
    counts: Counter[int] = Counter()
    for one in during:
        counts.update(one.statuses)
    statuses = ", ".join(f"{count:,} of {status}" for status, count in sorted(counts.items()))
    lost = sum(one.lost for one in during)
    answered = [one.statuses.get(200, 0) / one.seconds for one in during]
    p50s = "; ".join(f"{one.before.p50_ms:.1f} and {one.after.p50_ms:.1f} ms" for one in rounds)
    ratio = statistics.median(one.ratio for one in rounds)
    failed = sum(one.after.bad + one.after.lost for one in rounds)
    first, last = rounds[0], rounds[-1]
    grown = max(one.grown_mb for one in rounds)
    rows = [
        ("answers by status", statuses, "200 and 429 alone", set(counts) <= ALLOWED),
        ("requests without an answer", f"{lost}", "none", not lost),
        (
            "all answers a second, p99",
            f"{statistics.median(one.rate for one in during):,.0f}, "
            f"{statistics.median(one.p99_ms for one in during):,.0f} ms",
            "",
            None,
        ),
        (
            f"answers of 200 a second; of {_USUAL} connections before",
            f"{statistics.median(answered):,.0f}; "
            f"{statistics.median(one.before.rate for one in rounds):,.0f}",
            "",
            None,
        ),
        ("memory before, RSS", _mb(first.memory), "", None),
        ("most in the first ten seconds", f"{first.first_mb:.0f} MB", "", None),
        (
            "more than that afterwards, in any round",
            f"{grown:.0f} MB",
            f"at most {FLAT_MB:.0f} MB",
            grown <= FLAT_MB,
        ),
        ("memory when all is over, RSS", _mb(last.later), "", None),
        (f"p50 of {_USUAL} connections, before and between 1 s and 2 s afterwards", p50s, "", None),
        (
            "the one as a part of the other, median",
            f"{ratio:.2f}",
            f"at most {MOST_P50:.2f}, none failed",
            ratio <= MOST_P50 and not failed,
        ),
    ]
    text = f"| {len(rounds)} times {CONNECTIONS} connections for {SECONDS} s | | promised | |\n"
    text += "|---|---|---|---|\n"
    for what, measured, promised, kept in rows:
        said = "" if kept is None else word(kept)
        text += f"| {what} | {measured} | {promised} | {said} |\n"
    return all(kept is not False for *_, kept in rows), text


def _mb(memory: tuple[float, float]) -> str:
    return f"{memory[0]:.0f} MB, {memory[1]:.0f} MB"
