"""How the programs log: lines, objects, and no secrets in either."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from settings import Settings
from settings.logs import CHATTY, log_to_stderr

KEY = 'a"key+of/37'
URL = "postgresql+psycopg://lin:p%40ss+word@db/danlu"
Logged = Callable[..., str]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """Sets the logging up, lets something log, and returns what was written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in CHATTY}

    def log(write: Callable[[logging.Logger], Any], **settings: Any) -> str:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        root.handlers.clear()  # pytest's own would be closed
        log_to_stderr(Settings(**settings), "worker")
        write(logging.getLogger("workers.part"))
        return written.getvalue()

    yield log
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def fail(log: logging.Logger) -> None:
    try:
        raise ValueError(f"{KEY} was wrong")
    except ValueError:
        log.exception("it failed")


def test_a_line_for_people(logged: Logged) -> None:
    line = logged(lambda log: log.info("job %s starts", 7))

    assert line[2] == line[5] == ":"
    assert line[8:] == " worker  job 7 starts\n"


def test_a_line_of_a_request_names_it(logged: Logged) -> None:
    line = logged(lambda log: log.info("read", extra={"request_id": "req_1"}))

    assert line[8:] == " worker  [req_1] read\n"


def test_what_a_request_says_begins_no_line_and_paints_nothing(logged: Logged) -> None:
    text = logged(lambda log: log.info("%s", "a\n12:00:00 server  all is well\x1b[31m\x85"))

    assert text.count("\n") == 1
    assert r"a\x0a12:00:00 server  all is well\x1b[31m\x85" in text


def test_a_traceback_is_whole(logged: Logged) -> None:
    text = logged(fail)

    assert "worker  it failed\nTraceback (most recent call last):\n" in text


def test_an_object_for_each_line(logged: Logged) -> None:
    text = logged(
        lambda log: (log.info("炉 %s", "x\ny", extra={"color_message": "z"}), fail(log)),
        log_format="json",
    )
    first, second = map(json.loads, text.splitlines())

    moment = datetime.fromisoformat(first.pop("time"))
    assert moment.utcoffset() is not None
    assert first == {"level": "INFO", "logger": "workers.part", "message": "炉 x\ny"}
    assert set(second) == {"time", "level", "logger", "message", "exc_info"}
    assert second["exc_info"].startswith("Traceback")


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_hidden_wherever_they_turn_up(logged: Logged, form: str) -> None:
    def write(log: logging.Logger) -> None:
        log.error("%s and %r, %s", KEY, KEY, "a%22key%2Bof%2f37 and a%22key%2Bof/37")
        log.error("%s of %s", URL, "p@ss+word")
        fail(log)

    text = logged(write, api_key=KEY, database_url=URL, log_format=form)

    assert "of/37" not in text
    assert "37" not in text.replace(":37", "").replace(".37", "") or "***" in text
    assert "word" not in text
    assert "ss%2B" not in text
    assert text.count("***") >= 6


def test_without_secrets_nothing_is_hidden(logged: Logged) -> None:
    assert "***" not in logged(lambda log: log.info("postgresql://db/danlu"))


@pytest.mark.parametrize("name", ["alembic", "httpx", "torch", "uvicorn.error"])
@pytest.mark.parametrize(("level", "heard"), [("info", False), ("debug", True)])
def test_libraries_that_talk_much(logged: Logged, name: str, level: str, heard: bool) -> None:
    text = logged(lambda _: logging.getLogger(f"{name}.x").info("much"), log_level=level)

    assert ("much" in text) is heard


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(Settings(api_key=KEY, database_url=URL))

    assert KEY not in shown
    assert "word" not in shown
