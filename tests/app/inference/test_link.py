"""A process that is started, spoken to and ended."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.inference.entry import Plan
from app.inference.link import Link, start_method
from workers.processes import is_running


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.skipif(sys.platform != "linux", reason="forkserver")
def test_it_answers_and_ends_when_we_hang_up(tmp_path, method):
    plan = Plan(tmp_path, "cpu", "fp32", threads=1, cores=2, log_level="error")

    async def talk():
        heard: asyncio.Queue = asyncio.Queue()
        ended = asyncio.Event()
        link = await Link.start(
            plan, method, heard=lambda said, _: heard.put_nowait(said), ended=ended.set
        )
        assert (await heard.get())["did"] == "start"
        for number in range(3):
            link.say({"do": "load", "checkpoint": f"ckpt_{number}"})
        told = [await heard.get() for _ in range(3)]
        assert [said["checkpoint"] for said in told] == ["ckpt_0", "ckpt_1", "ckpt_2"]
        assert os.getpriority(os.PRIO_PROCESS, link.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        await link.close()
        assert ended.is_set()
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_its_end_is_heard_of(tmp_path):
    plan = Plan(tmp_path, "cpu", "fp32", threads=1, cores=2, log_level="error")

    async def talk():
        ended = asyncio.Event()
        link = await Link.start(plan, start_method("auto"), heard=lambda *_: None, ended=ended.set)
        link.kill()
        await asyncio.wait_for(ended.wait(), 20)
        link.say({"do": "load", "checkpoint": "ckpt_1"})  # into the void
        await link.close()

    asyncio.run(talk())


def test_one_that_hangs_is_ended_when_we_close(tmp_path):
    plan = Plan(tmp_path, "cpu", "fp32", threads=1, cores=2, log_level="error")

    async def talk():
        link = await Link.start(
            plan, start_method("auto"), heard=lambda *_: None, ended=lambda: None
        )
        os.kill(link.pid, signal.SIGSTOP)
        began = time.monotonic()
        await link.close()
        assert time.monotonic() - began < 10
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)

    asyncio.run(talk())


def test_ways_to_start():
    assert start_method("spawn") == "spawn"
    assert start_method("auto") == ("forkserver" if sys.platform == "linux" else "spawn")


STARTS = """
import asyncio
import contextlib
import sys
from pathlib import Path
from app.inference.entry import Plan
from app.inference.link import Link

async def start():
    plan = Plan(Path(), "cpu", "fp32", threads=1, cores=1, log_level="info")
    nobody = {"heard": lambda *_: None, "ended": lambda: None}
    asyncio.get_running_loop().add_reader(sys.stdin, asyncio.current_task().cancel)
    await Link.start(plan, "forkserver", **nobody)

with contextlib.suppress(asyncio.CancelledError):
    asyncio.run(start())
"""
reads_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="danlu has forkservers on Linux alone, and /proc is read"
)


@contextmanager
def starting() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that waits for its first process until its stdin closes, and its forkserver, which
    is as good as busy with an import, for ever.
    """
    deadline = time.monotonic() + 60
    command = [sys.executable, "-P", "-c", STARTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        found: list[int] = []
        while not found:  # what ties it is imported before torch
            assert time.monotonic() < deadline
            for pid in map(int, children.read_text().split()):
                place = Path(f"/proc/{pid}")
                is_one = "forkserver import main" in (place / "cmdline").read_text()
                if is_one and "libtorch" in (place / "maps").read_text():
                    found.append(pid)
        os.kill(found[0], signal.SIGSTOP)
        try:
            yield server, found[0]
        finally:
            server.kill()
    while is_running(found[0]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@reads_proc
def test_a_forkserver_that_still_imports_torch_ends_with_its_server() -> None:
    with starting() as (_, forkserver):
        assert is_running(forkserver)


@reads_proc
def test_a_server_that_is_told_to_stop_does_not_wait_for_torch() -> None:
    with starting() as (server, _):
        server.communicate(timeout=30)
        assert server.returncode == 0
