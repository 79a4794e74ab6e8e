"""A program that stands in for the server or the worker: notes its pid and what it was told in
variables, then behaves as told in words.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

folder, name, *behaviour = sys.argv[1:]


def note(kind: str, pid: int) -> None:
    """As a whole file or none."""
    partial = Path(folder, f".{pid}")
    partial.write_text(str(pid))
    partial.rename(Path(folder, f"{kind}.{pid}.pid"))


def end_with_the_parent() -> None:
    os.read(int(os.environ["DANLU_PARENT_FD"]), 1)
    os._exit(0)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


if "stubborn" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if "helper" in behaviour:
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note(f"{name}-helper", helper.pid)
if name == "worker":
    # Only the server may hold the port; nobody else is told of it, nor has any socket open.
    assert "DANLU_LISTEN_FD" not in os.environ
    assert not any(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in range(3, 20) if is_open(fd))
told = {key: value for key, value in os.environ.items() if key.startswith("DANLU_")}
Path(folder, f"{name}.{os.getpid()}.json").write_text(json.dumps(told))
threading.Thread(target=end_with_the_parent, daemon=True).start()
note(name, os.getpid())
if "dying" in behaviour:
    os._exit(7)
if "answering" in behaviour:
    listener = socket.socket(fileno=int(os.environ["DANLU_LISTEN_FD"]))
    while True:
        asked, _ = listener.accept()
        body = f"{os.environ['DANLU_HOME']} {os.environ['DANLU_PORT']}".encode()
        asked.recv(65536)
        asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        asked.close()
time.sleep(60)
