"""Far more connections than can be served: are all answered with 200 or 429, does memory stay, and
is it over when they are gone?

Every client comes again at once, also one that was told to wait: the worst there is.
"""

import time
from pathlib import Path

from benchmarks.imports import rss_mb
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


def measure(plan: Plan) -> tuple[bool, str]:
    """Whether all is as promised, and the text."""
    checkpoint = networks.checkpoint(networks.CIFAR10, plan.data, plan.work)
    body = plan.work / "body"
    body.write_bytes(load.form([pictures.picture(pictures.SMALL, plan.data)]))
    home = plan.work / "homes" / "overload"
    networks.home(home, [checkpoint])
    with servers.danlu("danlu", home) as server:
        return _overload(server.wait(), body)


def _overload(server: Server, body: Path) -> tuple[bool, str]:
    load.run(server.target, body, connections=_USUAL, seconds=2)
    before = load.run(server.target, body, connections=_USUAL, seconds=2)
    memory = _memory(server)
    with Curve(lambda: held(server)) as curve:
        during = load.run(server.target, body, connections=CONNECTIONS, seconds=SECONDS, count=True)
    time.sleep(1)  # and a second of load: that is within two
    after = load.run(server.target, body, connections=_USUAL, seconds=1)
    later = _memory(server)
    return _table(before, during, after, curve, (memory, later))


def _memory(server: Server) -> tuple[float, float]:
    """Private anonymous memory and RSS, all processes together."""
    return held(server), sum(map(rss_mb, server.pids()))


def _table(
    before: Loaded,
    during: Loaded,
    after: Loaded,
    curve: Curve,
    memory: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[bool, str]:
    then = max((mb for seconds, mb in curve.seen if seconds < FLAT_AFTER), default=0.0)
    grown = curve.most(after=FLAT_AFTER) - then
    statuses = ", ".join(f"{count:,} of {status}" for status, count in during.statuses.items())
    (mb, rss), (mb_later, rss_later) = memory
    rows = [
        ("answers by status", statuses, "200 and 429 alone", set(during.statuses) <= ALLOWED),
        ("requests without an answer", f"{during.lost}", "none", not during.lost),
        ("all answers a second, p99", f"{during.rate:,.0f}, {during.p99_ms:,.0f} ms", "", None),
        (
            f"answers of 200 a second; of {_USUAL} connections before",
            f"{during.statuses.get(200, 0) / during.seconds:,.0f}; {before.rate:,.0f}",
            "",
            None,
        ),
        ("memory before, RSS", f"{mb:.0f} MB, {rss:.0f} MB", "", None),
        ("most in the first ten seconds", f"{then:.0f} MB", "", None),
        (
            "more than that afterwards",
            f"{max(grown, 0):.0f} MB",
            f"at most {FLAT_MB:.0f} MB",
            grown <= FLAT_MB,
        ),
        ("memory when it is over, RSS", f"{mb_later:.0f} MB, {rss_later:.0f} MB", "", None),
        (
            f"p50 of {_USUAL} connections, before and between 1 s and 2 s afterwards",
            f"{before.p50_ms:.1f} ms, {after.p50_ms:.1f} ms",
            f"at most {MOST_P50:.2f} times",
            after.p50_ms <= MOST_P50 * before.p50_ms and not after.bad + after.lost,
        ),
    ]
    text = f"| {CONNECTIONS} connections, {SECONDS} s | | promised | |\n|---|---|---|---|\n"
    for what, measured, promised, kept in rows:
        said = "" if kept is None else word(kept)
        text += f"| {what} | {measured} | {promised} | {said} |\n"
    return all(kept is not False for *_, kept in rows), text
