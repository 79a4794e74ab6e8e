"""Does one thing in several processes at the same moment and prints what each of them got.

A program, so that one import serves them all: `python at_once.py claim URL PROCESSES`.
"""

import json
import multiprocessing
import os
import sys

import alembic.command  # noqa: F401 - migrate() imports it; the processes are to meet in the database

from database import engine, jobs


def migrate(url: str) -> list[str]:
    engine.migrate(url)
    return []


def claim(url: str) -> list[str]:
    """Claims and finishes until nothing is left; the ids claimed."""
    sessions = engine.session_factory(engine.connect(url))
    claimed: list[str] = []
    while True:
        with sessions.begin() as session:
            job = jobs.claim(session, worker_id=f"w{os.getpid()}", host="here", device=None)
        if job is None:
            return claimed
        claimed.append(job.id)
        fence = jobs.fence_of(job)
        with sessions.begin() as session:
            assert jobs.start(session, fence, pid=os.getpid(), device=None)
        with sessions.begin() as session:
            assert jobs.finish(session, fence, state=jobs.State.succeeded)


def main(what: str, url: str, count: str) -> None:
    context = multiprocessing.get_context("fork")
    together, results = context.Barrier(int(count)), context.SimpleQueue()

    def work() -> None:
        together.wait(timeout=60)
        results.put({"claim": claim, "migrate": migrate}[what](url))

    processes = [context.Process(target=work) for _ in range(int(count))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(1)
    json.dump([results.get() for _ in processes], sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
