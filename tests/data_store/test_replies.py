"""Answers as they come: names that nobody finds, silence, proxies, and hanging up."""

import base64
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from data_store import replies
from data_store.patience import Patience
from data_store.replies import NotServed, Refused
from tests.data_store.mirrors import NOBODY, SOON, Mirror, no_such_name, served

Threads = Callable[[str], list[threading.Thread]]


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, patience: Patience = SOON) -> list[Any]:
    return list(replies.ask(url, {}, patience))


def fails(url: str, patience: Patience = SOON) -> str:
    with pytest.raises(NotServed) as caught:
        ask(url, patience)
    return str(caught.value)


def all_end(threads: Threads) -> bool:
    left = threads("download")
    for thread in left:
        thread.join(Patience().silent_seconds - 5)  # before it gives up by itself
    return not any(thread.is_alive() for thread in left)


def test_head_and_bytes_as_they_were_sent(threads: Threads) -> None:
    gzipped = {"Content-Encoding": "x-gzip"}  # as some real servers mislabel a .gz
    with served(Mirror({"/a": b"some bytes"}, headers=gzipped)) as mirror:
        head, *pieces = (said for said in ask(mirror.url + "a") if said is not None)
    assert isinstance(head, httpx.Response)
    assert head.status_code == 200
    assert b"".join(pieces) == b"some bytes"
    assert all_end(threads)


def test_of_a_refusal_only_the_head_is_given() -> None:
    with served(Mirror()) as mirror:
        (head,) = (said for said in ask(mirror.url) if said is not None)
    assert head.status_code == 404


def test_hanging_up_takes_no_time(threads: Threads) -> None:
    with served(Mirror({"/a": b"x" * 10}, then="stall", after=5)) as mirror:
        answer = replies.ask(mirror.url + "a", {}, Patience())
        while next(answer) != b"xxxxx":
            pass
        assert next(answer) is None
        began = monotonic()
        answer.close()
        assert monotonic() - began < Patience().silent_seconds - 5
        assert all_end(threads)


def test_so_does_hanging_up_on_one_that_says_more_than_is_heard(threads: Threads) -> None:
    with served(Mirror({"/a": bytes(20_000_000)})) as mirror:
        answer = replies.ask(mirror.url + "a", {}, Patience())
        next(answer)
        answer.close()
        assert all_end(threads)


def test_hanging_up_while_it_connects_leaves_no_connection_open(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is collected open is a warning, and with pytest an error, of whatever test runs then."""
    left, connect = threading.Event(), socket.create_connection

    def late(*how: Any, **more: Any) -> socket.socket:
        left.wait()
        return connect(*how, **more)

    with served(Mirror({"/a": b"x"})) as mirror:
        monkeypatch.setattr(socket, "create_connection", late)
        answer = replies.ask(mirror.url + "a", {}, Patience())
        assert next(answer) is None
        answer.close()
        left.set()
        assert all_end(threads)


def test_time_in_which_this_process_stands_still_is_no_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when its disk or the whole machine stalls: nobody listened."""
    stood_still, hear = threading.Event(), replies._Asking.hear

    def late(asking: replies._Asking) -> Any:
        said = hear(asking)
        if said is None and not stood_still.is_set():
            sleep(SOON.silent_seconds + 0.1)
            stood_still.set()
        return said

    with served(Mirror({"/a": b"x"})) as mirror:
        give = mirror.answer
        mirror.instead = lambda to: (stood_still.wait(), give(to))[1]
        monkeypatch.setattr(replies._Asking, "hear", late)
        assert [said for said in ask(mirror.url + "a") if said is not None][1:] == [b"x"]


def test_silence_is_given_up() -> None:
    with served(Mirror({"/a": b"x" * 10}, then="stall", after=5)) as mirror:
        assert fails(mirror.url + "a") == "said nothing for 1 s"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where nobody takes the call: its queue of callers is full."""
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        first.connect(listening.getsockname())
        with socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(listening.getsockname())
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_one_that_does_not_take_the_call_is_given_up_soon(silent: str) -> None:
    """The system would try for two minutes."""
    began = monotonic()
    assert "ConnectTimeout" in fails(silent, Patience(connect_seconds=0.2))
    assert monotonic() - began < 25


def test_a_name_that_is_none_is_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    began = monotonic()
    assert "ConnectError" in fails("http://example.invalid/", Patience())
    assert monotonic() - began < Patience().silent_seconds - 5


def test_a_name_service_that_says_nothing_is_not_waited_for(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving = threading.Event()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: leaving.wait(30))
    began = monotonic()
    said = fails("http://example.invalid/", Patience(connect_seconds=0.1))
    assert said == "its name was not found within 0.1 s"
    assert monotonic() - began < 25
    left = threads("download")
    leaving.set()
    for thread in left:
        thread.join()


def test_a_proxy_looks_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    looked: list[str] = []
    lookup = socket.getaddrinfo

    def look(host: str, *more: Any, **named: Any) -> Any:
        looked.append(host)
        return lookup(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    assert "ConnectError" in fails("http://example.invalid/")
    assert "example.invalid" not in looked


def test_a_password_is_sent_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    given: list[str] = []
    with served(Mirror({"/a": b"x"})) as mirror:
        answer = mirror.answer

        def note(to: Any) -> None:
            given.append(to.headers["Authorization"])
            answer(to)

        mirror.instead = note
        with caplog.at_level(logging.INFO, logger="httpx"):
            ask(mirror.url.replace("http://", "http://lin:secret@") + "a")
    assert given == ["Basic " + base64.b64encode(b"lin:secret").decode()]
    assert mirror.url in caplog.text
    assert "secret" not in caplog.text


def test_certificates_that_are_not_there_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there.pem")
    assert "No such file" in fails("http://127.0.0.1:9/")


def test_a_useless_proxy_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(Refused, match=r"cannot be asked: .*scheme"):
        ask("http://example.invalid/")


def test_an_error_of_ours_is_not_a_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("ours")

    monkeypatch.setattr(httpx, "Client", broken)
    with pytest.raises(TypeError, match="ours"):
        ask(NOBODY)
