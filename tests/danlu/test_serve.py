import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from danlu import DanluError, serve

STAND_IN = str(Path(__file__).with_name("stand_in_half.py"))
SAYS = "print(place.url, place.key, place.asks, flush=True)"
PARENT = """
import json, signal, sys
from pathlib import Path
from danlu.serve import serve
home, commands, grace, options = sys.argv[1:]
serve(
    **{"host": "127.0.0.1", **json.loads(options)},
    port=0, home=Path(home), commands=json.loads(commands), grace_seconds=float(grace),
    announce=lambda line: print(line, file=sys.stderr, flush=True),
    ready=lambda place: SAYS,
)
""".replace("SAYS", SAYS)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a zombie has ended, though nobody has asked how
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # it ends just now; or there is no such file here
        return not Path("/proc/self").exists()


def until(true: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


class Parent:
    """`serve` in a process of its own, with stand-ins for the halves."""

    def __init__(
        self, folder: Path, halves: dict[str, str], *, grace: float, **options: Any
    ) -> None:
        self.folder = folder
        self.expected = sum(2 if "helper" in how else 1 for how in halves.values())
        commands = {
            name: [sys.executable, STAND_IN, str(folder), name, *how.split()]
            for name, how in halves.items()
        }
        arguments = [str(folder / "home"), json.dumps(commands), str(grace), json.dumps(options)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        self.url, self.key, self.asks = self.process.stdout.readline().split()

    def pids(self, kind: str = "*") -> list[int]:
        return [int(file.read_text()) for file in self.folder.glob(f"{kind}.*.pid")]

    def told(self, half: str) -> list[dict[str, str]]:
        """The variables of each process of a half, in no order."""
        return [json.loads(file.read_text()) for file in self.folder.glob(f"{half}.*.json")]

    def started(self) -> list[int]:
        until(lambda: len(self.pids()) >= self.expected)
        return self.pids()

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def clean(self) -> None:
        self.process.kill()
        self.process.communicate()
        for pid in self.pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[..., Parent]]:
    made: list[Parent] = []

    def make(halves: dict[str, str], *, grace: float = 20.0, **options: Any) -> Parent:
        made.append(Parent(tmp_path, halves, grace=grace, **options))
        return made[-1]

    yield make
    for one in made:
        one.clean()


BOTH = {"server": "answering", "worker": ""}


def test_the_server_answers_on_the_port_that_the_parent_took(
    parent: Callable[..., Parent], tmp_path: Path
) -> None:
    running = parent(BOTH)

    with httpx.Client(trust_env=False) as http:
        answer = http.get(running.url, timeout=20).text

    assert answer == f"{tmp_path / 'home'} {running.url.rpartition(':')[2]}"
    assert (tmp_path / "home").is_dir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything(parent: Callable[..., Parent], number: int) -> None:
    running = parent({"server": "answering helper", "worker": "helper"})
    pids = running.started()

    code, errors = running.end(number)

    assert code == 0, errors
    assert len(pids) == 4
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_signal_as_soon_as_it_has_said_where_it_is(tmp_path: Path) -> None:
    program = PARENT.replace(SAYS, "signal.raise_signal(signal.SIGTERM)")
    commands = json.dumps({"worker": [sys.executable, STAND_IN, str(tmp_path), "worker"]})
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), commands, "20", "{}"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "Stopping; press Ctrl-C again to stop at once.\n"


def test_ctrl_c_in_the_terminal_reaches_the_parent_alone(parent: Callable[..., Parent]) -> None:
    running = parent(BOTH)
    pids = running.started()

    # Halves in the parent's group would end at this with a traceback instead of draining.
    os.killpg(running.process.pid, signal.SIGINT)
    _, errors = running.process.communicate(timeout=30)

    assert running.process.returncode == 0
    assert errors == "Stopping; press Ctrl-C again to stop at once.\n"
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_half_that_does_not_stop_is_killed(parent: Callable[..., Parent]) -> None:
    running = parent({"server": "answering", "worker": "stubborn"}, grace=0.3)
    pids = running.started()

    assert running.end(signal.SIGTERM)[0] == 0

    until(lambda: not any(alive(pid) for pid in pids))


def test_a_second_ctrl_c_kills_at_once(parent: Callable[..., Parent]) -> None:
    running = parent({"worker": "stubborn"}, grace=60.0)
    pids = running.started()
    assert running.process.stderr

    running.process.send_signal(signal.SIGINT)
    assert "again" in running.process.stderr.readline()
    running.process.send_signal(signal.SIGINT)
    running.process.communicate(timeout=30)

    until(lambda: not any(alive(pid) for pid in pids))


def test_halves_do_not_outlive_a_parent_that_is_killed(parent: Callable[..., Parent]) -> None:
    running = parent({"server": "answering", "worker": "stubborn"})
    pids = running.started()

    running.process.kill()

    until(lambda: not any(alive(pid) for pid in pids))


def test_a_half_that_dies_is_started_again(parent: Callable[..., Parent]) -> None:
    running = parent({"server": "answering", "worker": "helper"})
    running.started()
    (first,), (helper,) = running.pids("worker"), running.pids("worker-helper")
    server = running.pids("server")

    os.kill(first, signal.SIGKILL)

    until(lambda: len(running.pids("worker")) == 2)
    assert not alive(helper)
    assert running.pids("server") == server
    assert "The worker was ended by SIGKILL; it starts again in 1 s." in running.end(15)[1]


def test_a_half_that_cannot_be_started_again_now_is_tried_later(tmp_path: Path) -> None:
    """As where the system has no process or no memory free, which passes."""
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    commands = {
        name: [str(runs), STAND_IN, str(tmp_path), name]
        for name, runs in (("server", sys.executable), ("worker", program))
    }
    said: list[str] = []

    def tended(half: str, *, starts: int) -> list[Path]:
        halves.tend(said.append)
        found = list(tmp_path.glob(f"{half}.*.pid"))
        return found if len(found) == starts else []

    with serve.Halves(commands, home=tmp_path) as halves:
        [first] = until(lambda: tended("worker", starts=1))
        [server] = until(lambda: tended("server", starts=1))
        program.unlink()
        os.kill(int(first.read_text()), signal.SIGKILL)
        until(lambda: tended("worker", starts=1) and len(said) == 2)
        program.symlink_to(sys.executable)
        until(lambda: tended("worker", starts=2))
        assert halves.ended() is None
        assert tended("server", starts=1) == [server]

    assert said == [
        "The worker was ended by SIGKILL; it starts again in 1 s.",
        "The worker could not be started: No such file or directory; it starts again in 2 s.",
    ]


def test_a_server_that_others_reach_has_one_key_for_as_long_as_the_parent_lives(
    parent: Callable[..., Parent],
) -> None:
    running = parent({"server": "", "worker": ""}, host="0.0.0.0")
    running.started()
    (first,) = running.pids("server")

    os.kill(first, signal.SIGKILL)
    until(lambda: len(running.pids("server")) == 2)

    assert len(running.key) >= 32
    assert running.asks == "True"
    assert [told["DANLU_API_KEY"] for told in running.told("server")] == [running.key] * 2
    assert ["DANLU_API_KEY" in told for told in running.told("worker")] == [False]
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert running.key not in commands


def test_a_server_of_this_machine_alone_needs_no_key(parent: Callable[..., Parent]) -> None:
    running = parent({"server": ""})
    running.started()

    assert (running.key, running.asks) == ("None", "False")
    [told] = running.told("server")
    assert not {"DANLU_API_KEY", "DANLU_NO_AUTH"} & set(told)


def test_who_insists_gets_no_key(parent: Callable[..., Parent]) -> None:
    running = parent({"server": ""}, host="0.0.0.0", no_auth=True)
    running.started()

    assert (running.key, running.asks) == ("None", "False")
    [told] = running.told("server")
    assert told["DANLU_NO_AUTH"] == "1"
    assert "DANLU_API_KEY" not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_key_of_ones_own_is_the_servers_alone(
    parent: Callable[..., Parent], host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("hush\n")
    monkeypatch.setenv("DANLU_API_KEY", "hush")
    monkeypatch.setenv("DANLU_API_KEY_FILE", str(file))
    running = parent({"server": "", "worker": ""}, host=host)
    running.started()

    assert (running.key, running.asks) == ("None", "True")
    [server], [worker] = running.told("server"), running.told("worker")
    assert (server["DANLU_API_KEY"], server["DANLU_API_KEY_FILE"]) == ("hush", str(file))
    assert not {"DANLU_API_KEY", "DANLU_API_KEY_FILE"} & set(worker)


def test_the_server_hears_the_name_it_was_given(parent: Callable[..., Parent]) -> None:
    running = parent({"server": ""}, host="localhost")
    running.started()

    assert running.told("server")[0]["DANLU_HOST"] == "localhost"


def test_the_server_hears_the_path_that_it_lies_below(parent: Callable[..., Parent]) -> None:
    running = parent({"server": ""}, root_path="/danlu")
    running.started()

    assert running.told("server")[0]["DANLU_ROOT_PATH"] == "/danlu"


def test_a_key_and_no_key_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_API_KEY", "hush")

    with pytest.raises(DanluError, match="--no-auth") as caught:
        serve.serve(
            host="127.0.0.1",
            port=0,
            home=tmp_path,
            announce=print,
            ready=print,
            no_auth=True,
        )

    assert "hush" not in f"{caught.value} {caught.value.hint}"


def test_without_a_server_there_is_no_port(parent: Callable[..., Parent]) -> None:
    running = parent({"worker": ""})

    assert (running.url, running.key, running.asks) == ("None", "None", "False")


def test_pauses_double_up_to_half_a_minute_and_a_minute_of_health_forgives() -> None:
    pauses = [0.0]
    for _ in range(7):
        pauses.append(serve.next_pause(pauses[-1], 0.1))

    assert pauses[1:] == [1, 2, 4, 8, 16, 30, 30]
    assert serve.next_pause(30, 59) == 30
    assert serve.next_pause(30, 60) == 1


def test_halves_tell_which_has_ended(tmp_path: Path) -> None:
    command = [sys.executable, STAND_IN, str(tmp_path), "worker", "dying"]

    with serve.Halves({"worker": command}, home=tmp_path) as halves:
        assert until(halves.ended) == "the worker ended with code 7"


@pytest.mark.parametrize(
    ("code", "words"), [(2, "setting"), (4, "newer danlu"), (5, "Another worker")]
)
def test_some_ends_no_restart_helps(tmp_path: Path, code: int, words: str) -> None:
    good = [sys.executable, STAND_IN, str(tmp_path), "server"]
    newer = [sys.executable, "-c", f"raise SystemExit({code})"]
    commands = {"server": good, "worker": newer}

    with (
        pytest.raises(DanluError, match=words),
        serve.Halves(commands, home=tmp_path) as halves,
    ):
        until(lambda: halves.tend(print))

    assert not [file for file in tmp_path.glob("*.pid") if alive(int(file.read_text()))]


def test_a_program_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    good = [sys.executable, STAND_IN, str(tmp_path), "server"]
    halves = serve.Halves({"server": good, "worker": ["/no/such/program"]}, home=tmp_path)

    with pytest.raises(FileNotFoundError), halves:
        pass  # pragma: no cover

    assert not [file for file in tmp_path.glob("*.pid") if alive(int(file.read_text()))]


def test_a_taken_port_is_said_at_once() -> None:
    with serve.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(DanluError, match=f"Port {port} of 127.0.0.1") as caught:
            serve.listen("127.0.0.1", port)

    assert caught.value.code == serve.PORT_TAKEN
    assert "--port" in str(caught.value.hint)


def test_a_port_may_be_used_again_at_once() -> None:
    with serve.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            asked, _ = first.accept()
            asked.close()

    serve.listen("127.0.0.1", port).close()


def test_an_address_of_all_is_shown_by_the_name_of_the_machine() -> None:
    with serve.listen("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        assert serve.url(listener) == f"http://{socket.gethostname()}:{port}"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_of_elsewhere(host: str) -> None:
    with pytest.raises(DanluError) as caught:
        serve.listen(host, 0)

    assert caught.value.hint


def test_names_and_both_families_of_addresses() -> None:
    with serve.listen("localhost", 0) as listener:
        assert serve.url(listener).startswith("http://")
    if socket.has_ipv6:
        try:
            listener = serve.listen("::1", 0)
        except DanluError:
            pytest.skip("this machine has no IPv6")
        with listener:
            assert serve.url(listener).startswith("http://[::1]:")


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(DanluError, match="cannot be made") as caught:
        serve.make_home(tmp_path / "file" / "home")

    assert caught.value.code == "home_unusable"


def test_the_home_is_absolute_for_programs_that_start_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert serve.make_home(Path("here")) == tmp_path / "here"


def test_the_parent_needs_no_torch() -> None:
    program = "import sys, danlu.cli, danlu.demo; print('torch' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert found.stdout == "False\n", found.stderr
