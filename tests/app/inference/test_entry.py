"""A process begins without torch, and does not outlive its server, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.inference.entry import Plan
from workers.processes import is_running

PROGRAM = """
import asyncio, pathlib, sys
from app.inference.entry import Plan
from app.inference.link import start_method
from app.inference.pool import Bounds, Pool

async def main():
    plan = Plan(pathlib.Path(sys.argv[1]), "cpu", "fp32", threads=1, cores=2, log_level="error")
    bounds = Bounds(1, memory_bytes=1 << 30, idle_seconds=60, seconds=60)
    pool = Pool(plan, bounds, method=start_method("auto"), device=lambda: "cpu")
    await pool.start()
    load = asyncio.create_task(pool.load("ckpt_1"))
    await asyncio.sleep(0.2)
    print(*[pid for pid, _ in pool.pids()], "torch" in sys.modules, flush=True)
    await load

asyncio.run(main())
"""


def test_it_ends_with_its_server_even_while_it_hangs(settings, train):
    """It waits for weights that never come."""
    made = train(settings, epochs=1)
    folder = (settings.checkpoints / made.best).rename(settings.checkpoints / "ckpt_1")
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(settings.checkpoints)],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        pid, torch = server.stdout.readline().split()
        assert torch == "False", "the server needs none"
        assert is_running(int(pid))
        server.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_same_plan_on_another_device():
    plan = Plan(Path("/srv"), "cpu", "bf16", threads=3, cores=2, log_level="info")
    assert plan.on("cuda:1") == Plan(
        Path("/srv"), "cuda:1", "bf16", threads=3, cores=2, log_level="info"
    )
