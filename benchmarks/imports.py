"""A zip of CIFAR-10's 60,000 JPEGs with planted faults is imported: how fast, and are they found?

    python -m benchmarks.imports --data DIR

DIR holds `cifar10-jpeg`, a folder per class in `train` and `test`. Makes the zip and a home in a
temporary folder, starts a worker there and lets it import. Memory is the sum over the job's process
and all that it starts, beyond what a child that does nothing has. Prints a table; exit code 1 if
the import takes a minute or 500 MB, or if a fault is not reported by name.
"""

import argparse
import hashlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.listeners import say
from danlu import environment
from data_store import staging
from database import engine, jobs
from database.tables import Job

LIMIT_SECONDS = 60.0
LIMIT_MB = 500.0
LOOK_SECONDS = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def pack(source: Path, target: Path) -> dict[str, set[str]]:
    """The zip, and the paths that each finding of the report must name."""
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))
    train = [path for path in files if path.startswith("train/")]
    cut, texts = train[100:25_000:5_000], train[200:15_000:5_000]
    shared, doubled = train[300:40_300:2_000], train[400:35_400:5_000]
    with zipfile.ZipFile(target, "w") as packed:
        for path in files:
            data = (source / path).read_bytes()
            data = data[: len(data) // 2] if path in cut else data
            packed.writestr(f"photos/{path}", b"no image at all" if path in texts else data)
        for path in shared:
            twin = f"photos/{path.replace('train', 'test')}".replace(".jpg", "-again.jpg")
            packed.writestr(twin, (source / path).read_bytes())
        for path in doubled:
            twin = f"photos/{path}".replace(".jpg", "-copy.jpg")
            packed.writestr(twin, (source / path).read_bytes())
    return {
        "unreadable_images": {*cut, *texts},
        "same_image_in_parts": set(shared),
        "duplicates": set(doubled),
    }


def bare_child_mb() -> float:
    """What a child of the worker's forkserver has that does nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workers.child"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_tell_rss, args=(theirs,))
    process.start()
    megabytes: float = ours.recv()
    process.join()
    return megabytes


def _tell_rss(channel: Connection) -> None:
    channel.send(rss_mb(os.getpid()))


def rss_mb(pid: int) -> float:
    """Resident memory of a process, 0 of one that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6
    except (OSError, IndexError):
        return 0.0


def session_of(leader: int) -> Iterator[int]:
    """The processes of a child's session: itself and what it has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            yield int(folder.name)


def cpu_seconds(pid: int) -> float:
    """Of a process and of those that it started and that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def run(home: Path, archive: Path) -> tuple[Job, dict[str, float], float, float]:
    """Imports it with a worker of its own: the job, seconds of each phase, the most memory, and
    how long all cores together computed.
    """
    url = f"sqlite:///{home / 'danlu.sqlite3'}"
    engine.migrate(url)
    connected = engine.connect(url)
    sessions = engine.session_factory(connected)
    (home / "uploads").mkdir()
    archive.rename(home / "uploads" / "upload")
    with (home / "log").open("wb") as log:
        variables = environment.variables() | {"DANLU_HOME": str(home)}
        command = [sys.executable, "-P", "-m", "workers"]
        worker = subprocess.Popen(command, env=variables, stderr=log)
        try:
            while b"ready" not in (home / "log").read_bytes():
                time.sleep(0.1)
            with sessions.begin() as session:
                request = {"upload": "upload", "sha256": sha256(home), "merge": False}
                asked = jobs.enqueue(
                    session,
                    kind="import",
                    dataset="photos",
                    recipe=None,
                    request=request,
                    owner="benchmark",
                ).id
            phases: dict[str, float] = {}
            most = spent = 0.0
            while True:
                with sessions() as session:
                    job = jobs.get(session, asked)
                if job.state in jobs.ENDED:
                    return job, phases, most, spent
                if job.worker_pid:
                    pids = list(session_of(job.worker_pid))
                    most = max(most, sum(map(rss_mb, pids)))
                    spent = max(spent, sum(map(cpu_seconds, pids)))
                phase = (job.progress or {}).get("phase") or "starting"
                phases[phase] = phases.get(phase, 0.0) + LOOK_SECONDS
                time.sleep(LOOK_SECONDS)
        finally:
            worker.terminate()
            worker.wait(60)
            connected.dispose()


def sha256(home: Path) -> str:
    """Of the upload."""
    with (home / "uploads" / "upload").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named(finding: dict[str, Any]) -> set[str]:
    """Every file that a finding names."""
    names: set[str] = set()
    for item in finding["items"]:
        names |= {item.get("file", ""), item.get("twin", ""), *item.get("files", [])}
    return names - {""}


def main(data: Path) -> int:
    """Prints the table; the exit code."""
    bare = bare_child_mb()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        planted = pack(data / "cifar10-jpeg", Path(folder) / "cifar10.zip")
        say(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        job, phases, most, spent = run(home, Path(folder) / "cifar10.zip")
        if job.started_at is None or job.finished_at is None or job.state != "succeeded":
            say(f"the job {job.state}: {job.error}")
            return 1
        seconds = (job.finished_at - job.started_at).total_seconds()
        report = staging.read(home / "datasets" / "photos", staging.REPORT) or {}
    say(f"{report['images']:,} images in {seconds:.1f} s, of which about")
    for phase, lasted in phases.items():
        say(f"  {phase:10} {lasted:5.1f} s")
    say(f"all cores together computed for {spent:.1f} s")
    say(f"memory: {most - bare:.0f} MB beyond a bare child's {bare:.0f} MB")
    found = {finding["code"]: finding for finding in report["findings"]}
    good = seconds < LIMIT_SECONDS and most - bare < LIMIT_MB
    for code, paths in planted.items():
        missing = paths - named(found.get(code, {"items": []}))
        say(f"{code:20} {len(paths) - len(missing)} of {len(paths)} planted are named")
        good = good and not missing
    for code in found.keys() - planted.keys():
        say(f"{code:20} {found[code]['message']}")
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar10-jpeg")
    sys.exit(main(parser.parse_args().data))
