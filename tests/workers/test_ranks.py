"""Forks of a process: that they begin, are heard, and end with whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers import processes

Until = Callable[..., Any]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are seen in /proc")

# Says the pids of its followers, whether they were ready in time, and what it hears of them.
LEADER = """
import os, signal, sys, time
from workers import ranks

def work(rank, words):
    order = words.recv()
    if order == "raise":
        raise RuntimeError("of a test")
    words.send(ranks.READY if order == "hang" else {"rank": rank})
    words.recv()

os.setsid()
followers = ranks.fork(2, work)
print(*followers.pids, flush=True)
# Whole: one line in pieces, and another thread's may come between.
say = lambda what: lambda said: os.write(1, f"{what} {said}\\n".encode())
followers.watch(on_failed=say("failed"), on_gone=say("gone"))
for words, order in zip(followers.words, sys.argv[1:3]):
    words.send(order)
late = time.monotonic() + (0.5 if "tell" in sys.argv else 20)
os.write(1, f"{followers.wait(lambda: time.monotonic() > late)}\\n".encode())
if "end" in sys.argv:
    followers.end()
time.sleep(60)
"""


class Leader:
    def __init__(self, *orders: str) -> None:
        command = [sys.executable, "-c", LEADER, *orders]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pids = [int(pid) for pid in self.line().split()]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def lead() -> Iterator[Callable[..., Leader]]:
    started: list[Leader] = []

    def lead(*orders: str) -> Leader:
        started.append(Leader(*orders))
        return started[-1]

    yield lead
    for leader in started:
        processes.end_group(leader.process.pid)
        leader.process.kill()
        leader.process.communicate()


Lead = Callable[..., Leader]


def test_one_that_is_killed_is_missed(lead: Lead) -> None:
    leader = lead("hang", "hang")
    assert leader.line() == "True"
    assert {os.getpgid(pid) for pid in leader.pids} == {leader.process.pid}

    os.kill(leader.pids[1], signal.SIGTERM)  # which is the leader's to hear
    began = time.monotonic()
    os.kill(leader.pids[0], signal.SIGKILL)

    assert leader.line() == "gone was ended by signal 9 (Killed)"
    assert time.monotonic() - began < 30  # half of what the leader lives without a word
    assert processes.is_running(leader.pids[1])


def test_one_that_fails_is_heard_and_one_that_ends_without_a_word_is_missed(lead: Lead) -> None:
    leader = lead("tell", "raise")

    assert {leader.line() for _ in range(3)} == {
        "failed {'rank': 1}",
        "gone ended with exit code 1",
        "False",  # they were never ready, and somebody said stop
    }


def test_they_end_with_who_leads_also_when_they_hang(lead: Lead, until: Until) -> None:
    leader = lead("hang", "hang")
    assert leader.line() == "True"
    os.kill(leader.pids[0], signal.SIGSTOP)

    leader.process.kill()

    until(lambda: not any(map(processes.is_running, leader.pids)))


def test_they_end_when_there_is_nothing_left_to_do_and_nobody_misses_them(
    lead: Lead, until: Until
) -> None:
    leader = lead("hang", "hang", "end")
    assert leader.line() == "True"

    until(lambda: not any(map(processes.is_running, leader.pids)))

    leader.process.kill()
    assert leader.line() == ""
