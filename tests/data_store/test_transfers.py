"""One file from servers that stall, cut off, lie, and change their mind."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from data_store import patience, transfers, unfinished
from data_store.patience import PATIENCE, Pace, Patience
from data_store.replies import NotServed
from data_store.transfers import Wanted
from problems import Problem
from tests.data_store.mirrors import NOBODY, SOON, Mirror, served

Serve = Callable[..., Mirror]
DATA = os.urandom(400_000)
NAME = "file.bin"
SLOW = replace(SOON, slow=20_000)


def wanted(data: bytes = DATA, *, exact: bool = True, size: int | None = None) -> Wanted:
    checksum = hashlib.md5(data).hexdigest()
    return Wanted(NAME, size or len(data), algorithm="md5", checksum=checksum, exact=exact)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as stack:

        def serve(data: bytes = DATA, **behaviour: Any) -> Mirror:
            mirror = Mirror({f"/{NAME}": data}, **behaviour)
            return stack.enter_context(served(mirror))

        yield serve


class Bringing:
    def __init__(self, folder: Path) -> None:
        self.target = folder / "below" / NAME
        self.part = unfinished.path_of(self.target)
        self.told: list[int] = []
        self.at: Callable[[int], None] = self.told.append

    def __call__(self, *mirrors: Mirror | str, one: Wanted | None = None, **how: Any) -> str | None:
        urls = [m if isinstance(m, str) else m.url + NAME for m in mirrors]
        given = {"at": self.at, "patience": SOON, **how}
        return transfers.bring(one or wanted(), self.target, urls, **given)

    def fails(self, *mirrors: Mirror | str, **how: Any) -> str:
        with pytest.raises(NotServed) as caught:
            self(*mirrors, **how)
        assert not self.target.exists()
        return str(caught.value)

    def left(self, data: bytes) -> None:
        """As an earlier process left it."""
        self.part.parent.mkdir(exist_ok=True)
        self.part.write_bytes(data)

    def whole(self) -> bool:
        """And nothing else."""
        there = [path.name for path in self.target.parent.iterdir()]
        return there == [NAME] and self.target.read_bytes() == DATA


@pytest.fixture
def bring(tmp_path: Path) -> Bringing:
    return Bringing(tmp_path)


def firsts(mirror: Mirror) -> list[int]:
    """From which byte on it was asked, each time."""
    return [begin for _, begin in mirror.asked]


def test_it_comes_from_the_fourth_resumed_never_from_the_start(
    serve: Serve, bring: Bringing
) -> None:
    stalls = serve(then="stall", after=100_000)
    cuts = serve(then="cut", after=100_000)
    lies = serve(lies=True)
    good = serve()

    assert bring(stalls, cuts, lies, good) == good.url + NAME

    assert bring.whole()
    assert (firsts(stalls), firsts(cuts)) == ([0], [100_000])
    assert (firsts(lies), firsts(good)) == ([200_000], [200_000])
    assert bring.told[-1] == len(DATA)


def test_what_is_there_is_not_asked_for(serve: Serve, bring: Bringing) -> None:
    good = serve()
    bring.left(DATA)
    assert bring(good) is None
    assert bring.whole()
    assert bring(good) is None  # somebody else was faster
    assert bring.whole()
    assert good.asked == []


@pytest.mark.parametrize("there", [0, 123_456])
def test_a_server_that_knows_no_ranges_gives_the_rest_too(
    there: int, serve: Serve, bring: Bringing
) -> None:
    bring.left(DATA[:there])
    whole = serve(ranges=False)
    bring(whole)
    assert bring.whole()
    assert min(bring.told) >= 0
    assert bring.told == sorted(bring.told)


def test_one_that_cuts_off_again_and_again_gets_there(serve: Serve, bring: Bringing) -> None:
    cuts = serve(then="cut", after=90_000)
    bring(NOBODY, cuts)
    assert bring.whole()
    assert firsts(cuts) == [0, 90_000, 180_000, 270_000, 360_000]


def test_one_that_knows_no_ranges_and_cuts_off_does_not_go_on_forever(
    serve: Serve, bring: Bringing
) -> None:
    cuts = serve(then="cut", after=90_000, ranges=False)
    assert "RemoteProtocolError" in bring.fails(cuts)
    assert len(cuts.asked) == 2
    assert bring.part.read_bytes() == DATA[:90_000]


@pytest.mark.parametrize(
    "there",
    [b"x" * 1000, b"x" * len(DATA), b"x" * 500_000, DATA[::-1][:9]],
    ids=["short", "as long", "longer", "backwards"],
)
def test_what_was_wrong_from_the_start_is_found_out(
    there: bytes, serve: Serve, bring: Bringing
) -> None:
    """A power cut may leave zeros."""
    bring.left(there)
    first, second = serve(), serve()
    bring(first, second)
    assert bring.whole()
    assert len(first.asked) + len(second.asked) <= 3


def test_a_liar_that_is_cut_off_spoils_it_for_nobody(serve: Serve, bring: Bringing) -> None:
    liar = serve(lies=True, then="cut", after=100_000)
    first, second = serve(), serve()
    bring(liar, first, second)
    assert bring.whole()
    assert firsts(liar) == [0]
    assert sorted([firsts(first), firsts(second)]) == [[100_000], [100_000, 0]]


def test_who_lies_is_not_asked_again(serve: Serve, bring: Bringing) -> None:
    liar = serve(lies=True)
    cuts = serve(then="cut", after=150_000)
    bring(liar, cuts)
    assert bring.whole()
    assert len(liar.asked) == 1
    assert len(cuts.asked) == 3


def test_nobody_has_it(serve: Serve, bring: Bringing) -> None:
    lies, short, gone, page = (
        serve(lies=True),
        serve(DATA[:-1]),
        serve(status=403),
        serve(headers={"Content-Type": "text/html; charset=utf-8"}),
    )
    busy = serve(status=503)

    said = bring.fails(NOBODY, lies, short, gone, page, busy)

    assert said.startswith(f"{NAME} could not be downloaded: {NOBODY} ConnectError")
    assert f"{lies.url}{NAME} gave another file: its md5 is wrong; " in said
    assert "has another file: of 399,999 bytes, not of 400,000; " in said
    assert "says 403 Forbidden; " in said
    assert "gave a web page; " in said
    assert "says 503 Service Unavailable" in said
    assert not list(bring.target.parent.iterdir())


def test_an_address_that_is_none(bring: Bringing) -> None:
    said = bring.fails("http://127.0.0.1:port/file", "ftp://127.0.0.1/file")
    assert "Invalid port" in said
    assert "UnsupportedProtocol" in said


def test_passwords_are_not_told(serve: Serve, bring: Bringing) -> None:
    said = bring.fails("http://lin:secret@127.0.0.1:9/file")
    assert "http://127.0.0.1:9/file" in said
    assert "secret" not in said


def test_too_much_is_as_wrong_as_other_bytes(serve: Serve, bring: Bringing) -> None:
    more = serve(DATA + b"and more", length=False)
    less = serve(DATA[:300_000], length=False)
    assert "it is too long" in bring.fails(more)
    assert f"says 416 {HTTPStatus(416).phrase}" in bring.fails(less)  # Python 3.13 words it anew
    good = serve()
    bring(good)
    assert firsts(good) == [300_000]


def test_a_size_that_is_only_about(serve: Serve, bring: Bringing) -> None:
    about = wanted(exact=False, size=401_000)
    cut, good = serve(then="cut", after=200_000, length=False), serve(length=False)
    bring(cut, good, one=about)
    assert bring.whole()
    assert firsts(good) == [200_000]


def test_more_than_there_is_cannot_be_gone_on_with(serve: Serve, bring: Bringing) -> None:
    bring.left(DATA + b"x")
    good = serve()
    bring(good, one=wanted(exact=False))
    assert bring.whole()
    assert firsts(good) == [400_001, 0]


def test_another_part_than_was_asked_for(serve: Serve, bring: Bringing) -> None:
    bring.left(DATA[:1000])
    for said, header in (
        ("does not say which part", {"Content-Range": "bytes */400000"}),
        ("another part of the file", {"Content-Range": "bytes 7-399999/400000"}),
    ):
        odd = serve(headers=header)
        odd.instead = as_206(odd)
        assert said in bring.fails(odd)
    assert bring.part.stat().st_size == 1000


def as_206(mirror: Mirror) -> Callable[[Any], None]:
    def answer(to: Any) -> None:
        to.send_response(206)
        for name, value in mirror.headers.items():
            to.send_header(name, value)
        to.end_headers()

    return answer


def test_a_file_that_changes_meanwhile_is_had_from_one_piece(serve: Serve, bring: Bringing) -> None:
    changing = serve(bytes(400_000), then="cut", after=100_000, headers={"ETag": '"old"'})
    give = changing.answer

    def answer(to: Any) -> None:
        give(to)
        changing.files[f"/{NAME}"] = DATA
        changing.then, changing.headers = "all", {"ETag": '"new"'}

    changing.instead = answer
    bring(changing)
    assert bring.whole()
    assert firsts(changing) == [0, 100_000, 0]


def test_a_slow_one_is_left_for_a_fast_one(serve: Serve, bring: Bringing) -> None:
    """It would take hours for all of the file."""
    slow, good = serve(then="trickle", after=1000), serve()
    assert bring(slow, good, patience=SLOW) == good.url + NAME
    assert bring.whole()
    assert firsts(good)[0] >= 1000


def test_where_all_are_slow_the_fastest_gets_another_chance(
    serve: Serve, bring: Bringing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 bytes a second are none; some thousands are, where nobody gives more. They take that time
    on a clock of their own, however long they take.
    """
    crawls, walks = serve(), serve()
    now, speed, add = 0.0, 1, Pace.add

    def pass_time(pace: Pace, count: int) -> None:
        nonlocal now
        now += count / speed
        add(pace, count)

    def give(mirror: Mirror, to: Any, data: bytes) -> None:
        nonlocal speed
        speed, piece = (50, 1) if mirror is crawls else (10_000, 500)
        there = unfinished.size(bring.target)
        for at in range(0, len(data), piece):
            to.wfile.write(data[at : at + piece])
            while unfinished.size(bring.target) <= there + at:  # until it is taken
                if mirror.leaving.wait(0.005):
                    return

    monkeypatch.setattr(patience, "monotonic", lambda: now)
    monkeypatch.setattr(Pace, "add", pass_time)
    monkeypatch.setattr(Mirror, "_give", give)
    small = DATA[:6_000]
    for one in (crawls, walks):
        one.files[f"/{NAME}"] = small
    assert bring(walks, crawls, one=wanted(small), patience=SLOW) == walks.url + NAME
    assert bring.target.read_bytes() == small
    assert (len(walks.asked), len(crawls.asked)) == (2, 1)
    assert min(firsts(walks)[1:]) > 0


def test_one_that_crawls_is_given_up_even_alone(serve: Serve, bring: Bringing) -> None:
    """It too would take hours."""
    assert "gave only" in bring.fails(serve(then="trickle"), NOBODY, patience=SLOW)
    assert bring.part.exists()


def test_stopped_in_the_middle_it_goes_on_there(serve: Serve, bring: Bringing) -> None:
    silent, good = serve(then="stall", after=70_000), serve()
    asked = threading.Event()

    def stop(size: int) -> None:
        if size:
            asked.set()
            raise KeyboardInterrupt

    bring.at = stop
    began = monotonic()
    with pytest.raises(KeyboardInterrupt):
        bring(silent, patience=PATIENCE)
    assert monotonic() - began < PATIENCE.silent_seconds - 5
    there = bring.part.stat().st_size
    assert there > 0
    bring.at = bring.told.append
    bring(good)
    assert bring.whole()
    assert firsts(good) == [there]


def test_of_two_that_want_it_one_downloads(serve: Serve, bring: Bringing, tmp_path: Path) -> None:
    stalls, never = serve(then="stall", after=100_000), serve()
    other = Bringing(tmp_path)
    patient = {"patience": Patience(silent_seconds=20)}
    done = threading.Event()

    class Enough(Exception):
        pass

    def until_told(size: int) -> None:
        bring.told.append(size)
        if done.is_set():
            raise Enough

    def first() -> None:
        with pytest.raises(Enough):
            bring(stalls, **patient)

    bring.at = until_told
    thread = threading.Thread(target=first)
    thread.start()
    seen: list[int] = []

    def waits(size: int) -> None:
        seen.append(size)
        if seen.count(100_000) == 2:
            done.set()  # the first one goes; the other takes over where it was

    deadline = monotonic() + 60
    while not unfinished.size(bring.target):
        assert monotonic() < deadline
        sleep(0.01)
    other.at = waits
    assert other(never) == never.url + NAME
    thread.join()
    assert other.whole()
    assert firsts(never) == [100_000]
    assert stalls.asked == [(f"/{NAME}", 0)]


def test_who_waits_gets_what_the_other_brought(
    serve: Serve, bring: Bringing, tmp_path: Path
) -> None:
    good, never = serve(then="stall", after=399_999), serve()
    thread = threading.Thread(target=lambda: bring(good, never, patience=PATIENCE))
    thread.start()
    other = Bringing(tmp_path)
    other.at = lambda _: good.leaving.set()  # so it is not done before somebody waits for it
    while not unfinished.size(bring.target):
        sleep(0.01)
    assert other(NOBODY) is None
    thread.join()
    assert other.whole()


def test_a_process_that_is_killed_leaves_what_it_had(
    serve: Serve, bring: Bringing, tmp_path: Path
) -> None:
    stalls, good = serve(then="stall", after=100_000), serve()
    program = (
        "from pathlib import Path\n"
        "from data_store import transfers\n"
        "from data_store.patience import PATIENCE\n"
        f"one = transfers.{wanted()!r}\n"
        f"transfers.bring(one, Path({str(bring.target)!r}), [{stalls.url + NAME!r}],\n"
        "    at=lambda size: None, patience=PATIENCE)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    deadline = monotonic() + 60
    while unfinished.size(bring.target) < 100_000:
        assert monotonic() < deadline
        sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    bring(good)
    assert bring.whole()
    assert firsts(good) == [100_000]


def test_a_disk_without_room_is_told_of_before(
    serve: Serve, bring: Bringing, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    good = serve()
    with pytest.raises(Problem, match="takes 400,000 bytes more; 100 are free") as caught:
        bring(good)
    assert caught.value.code == "disk_full"
    assert good.asked == []
    assert not list(bring.target.parent.iterdir())


def test_a_disk_that_fills_up_keeps_nothing(
    serve: Serve, bring: Bringing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(descriptor: int, data: Any) -> int:
        if os.fstat(descriptor).st_size > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(unfinished.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        bring(serve())
    assert not list(bring.target.parent.iterdir())
