"""What danlu's processes hold with one small model, and whether the server stays awake while it
loads others under load.
"""

import multiprocessing
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.imports import rss_mb
from benchmarks.listeners import percentile, watch_health
from benchmarks.memory import anonymous_mb
from benchmarks.serving import load, networks, pictures, servers
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import Server
from benchmarks.training.table import word

MOST_MB, MOST_HEALTH_MS = 450.0, 50.0
_SMALL, _LARGE = 20, 3  # models that are loaded under load
_CONNECTIONS, _SECONDS = 32, 12
_NOT_TO_BE = "torchvision"


def measure(plan: Plan) -> tuple[bool, str]:
    """Whether all is as promised, and the text."""
    small = networks.checkpoint(networks.CIFAR10, plan.data, plan.work)
    large = networks.checkpoint(networks.RESNET18, plan.data, plan.work)
    image = pictures.picture(pictures.SMALL, plan.data)
    body = plan.work / "body"
    body.write_bytes(load.form([image]))
    home = plan.work / "homes" / "memory"
    others = networks.home(home, [small, *[small] * _SMALL, *[large] * _LARGE])[1:]
    with servers.danlu("danlu", home) as server:
        server.wait().ask(image)
        good, text = _processes(server)
        times, loading = _health(server, body, image, others)
    middle, late = percentile(times, 0.5), percentile(times, 0.99)
    awake = late < MOST_HEALTH_MS
    text += (
        f"\n`/healthz`, {len(times):,} times while {_CONNECTIONS} connections predict and "
        f"{len(others)} models are loaded (of which {_LARGE} ResNet-18) in {loading:.1f} s: "
        f"p50 {middle:.1f} ms, p99 {late:.1f} ms, most {max(times):.1f} ms. "
        f"Promised: p99 under {MOST_HEALTH_MS:.0f} ms: {word(awake)}.\n"
    )
    return good and awake, text


def _processes(server: Server) -> tuple[bool, str]:
    """With one small model that has answered."""
    text = (
        f"| process | private anonymous memory, MB | RSS, MB | {_NOT_TO_BE} | promised | |\n"
        "|---|---|---|---|---|---|\n"
    )
    good = True
    server.roles()  # once all have told
    said = server.said()
    of_server = {pid: "the server's forkserver" for pid in server.pids() if pid not in said}
    for pid, role in {server.process.pid: "parent", **said, **of_server}.items():
        megabytes, imported = anonymous_mb(pid), maps(pid, _NOT_TO_BE)
        cells = [role, f"{megabytes:.0f}", f"{rss_mb(pid):.0f}", "imported" if imported else "no"]
        if role in ("server", "predictor"):
            good &= megabytes < MOST_MB and not imported
            cells += [
                f"under {MOST_MB:.0f} MB, no {_NOT_TO_BE}",
                word(megabytes < MOST_MB and not imported),
            ]
        text += f"| {' | '.join([*cells, '', ''][:6])} |\n"
    return good, text


def _health(
    server: Server, body: Path, image: bytes, others: list[str]
) -> tuple[list[float], float]:
    """Milliseconds of each look, and the seconds that loading the other models took."""
    ours, theirs = multiprocessing.Pipe()
    watching = multiprocessing.get_context("spawn").Process(
        target=watch_health, args=(server.url, theirs), daemon=True
    )
    watching.start()
    asking = threading.Thread(
        target=load.run,
        args=(server.target, body),
        kwargs={"connections": _CONNECTIONS, "seconds": _SECONDS},
    )
    asking.start()
    time.sleep(2)
    began = time.perf_counter()
    for one in others:
        files = {"file": ("image.jpg", image, "image/jpeg")}
        httpx.post(f"{server.url}/predict?model={one}", files=files, timeout=60).raise_for_status()
    loading = time.perf_counter() - began
    asking.join()
    ours.send("stop")
    times: list[float] = ours.recv()
    watching.join()
    return times, loading


def held(server: Server) -> float:
    """Private anonymous memory of a server and of the processes that compute for it, in MB."""
    return sum(map(anonymous_mb, server.pids()))


def maps(pid: int, library: str) -> bool:
    """Whether files of that library are in the process."""
    with suppress(OSError):
        return library in Path(f"/proc/{pid}/maps").read_text()
    return False
