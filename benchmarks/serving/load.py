"""Load by wrk: one body posted again and again, over so many connections, for so many seconds.

Knows nothing of what answers.
"""

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")
BOUNDARY = "danlu-benchmark-7f3a9c51d2"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
# Longer than any answer takes; wrk's own 2 s are not.
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Loaded:
    """What wrk saw. `bad`: other statuses than 2xx and 3xx. `lost`: no answer at all.
    `cpu_seconds` are wrk's own.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    bad: int
    lost: int
    cpu_seconds: float
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def check() -> None:
    """Ends the program with a clear message if there is no wrk."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not there, which makes the load: apt-get install wrk")


def form(images: Sequence[bytes]) -> bytes:
    """A multipart body with a part named file for each, as curl -F file=@image.jpg makes it."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="{name}"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    parts = [head.format(name="file").encode() + image + b"\r\n" for image in images]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def run(url: str, body: Path, *, connections: int, seconds: float, count: bool = False) -> Loaded:
    """Posts the file `body`, a `form`. `count` tells answers by status, at some cost."""
    command = ["wrk", "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_TIMEOUT_SECONDS}s"]
    command += ["--script", str(SCRIPT), url, "--", str(body), KIND, *(["count"] if count else [])]
    before = _cpu_of_children()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = _cpu_of_children() - before
    line = next(line for line in told.splitlines() if line.startswith("measured "))
    found = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", line)}
    return Loaded(
        requests=int(found["requests"]),
        seconds=found["microseconds"] / 1e6,
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        bad=int(found["bad"]),
        lost=int(found["lost"]),
        cpu_seconds=spent,
        statuses={
            int(name.removeprefix("status_")): int(value)
            for name, value in found.items()
            if name.startswith("status_")
        },
    )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
