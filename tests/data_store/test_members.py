"""What a process of a crew does."""

import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

PROGRAM = "from data_store import members; members.main()"


def start() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, "-P", "-c", PROGRAM], stdin=theirs.fileno())
    return process, Connection(ours.detach())


def test_it_answers_until_nobody_asks() -> None:
    process, channel = start()
    with channel:
        channel.send(sorted)
        channel.send([3, 1])
        assert channel.recv() == [1, 3]
        channel.send("ba")
        assert channel.recv() == ["a", "b"]
    assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends it at once")
def test_it_ends_with_who_started_it_whatever_it_is_at() -> None:
    """The process between is killed while its own, which holds our pipe, is at work for longer
    than this test may take.
    """
    between = f"""
import socket, subprocess, sys, time
from multiprocessing.connection import Connection
ours, theirs = socket.socketpair()
process = subprocess.Popen([sys.executable, "-P", "-c", {PROGRAM!r}], stdin=theirs.fileno())
channel = Connection(ours.detach())
channel.send(eval)
channel.send("[print('at work', flush=True), __import__('time').sleep(600)]")
time.sleep(600)
"""
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", between], stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.readline() == b"at work\n"
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert pipe.read() == b""  # nobody has it any more
