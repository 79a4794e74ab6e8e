"""How the programs log to stderr: lines for people or one JSON object each, and never a secret.

Knows the settings; knows nothing of requests or jobs.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pythonjsonlogger.json import JsonFormatter

from settings.settings import Settings

# torch sets itself so when it is imported, which a stop may come before.
CHATTY = ("alembic", "httpx", "torch", "uvicorn.error")
_HIDDEN = "***"
# What is logged may come from a request: it must not begin a line of its own or paint the terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Mask:
    """Hides the secrets of some settings in whatever text: the key, the database's password."""

    def __init__(self, settings: Settings) -> None:
        forms = {form for secret in _secrets(settings) for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first))
        # In small letters or capitals, as the digits of %2f may be.
        self._secret = re.compile(either, re.IGNORECASE) if forms else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        return self._secret.sub(_HIDDEN, text) if self._secret else text


class Lines(logging.Formatter):
    """`12:30:01 server  [req_1f] what happened`; a traceback goes on lines of its own."""

    def __init__(self, program: str, mask: Mask) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._program = program
        self._mask = mask

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line itself."""
        request_id = getattr(record, "request_id", None)
        of_request = f"[{request_id}] " if request_id else ""
        message = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.message)
        return f"{self.formatTime(record, self.datefmt)} {self._program}  {of_request}{message}"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and what belongs to it."""
        return self._mask(super().format(record))


class Objects(JsonFormatter):
    """`time level logger message`, and `request_id` and `exc_info` where there are any."""

    _FIELDS = ("time", "level", "logger", "message", "request_id", "exc_info", "stack_info")

    def __init__(self, mask: Mask) -> None:
        super().__init__(
            ["levelname", "name", "message", "request_id"],
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            json_ensure_ascii=False,
        )
        self._mask = mask

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Ours alone: libraries attach what they like to a record."""
        found = {name: log_data.get(name) for name in self._FIELDS}
        found["time"] = log_data["time"].isoformat()
        return {name: self._mask(str(value)) for name, value in found.items() if value is not None}


def log_to_stderr(
    settings: Settings, program: str, *, filters: Sequence[logging.Filter] = ()
) -> None:
    """Sets up the logging of this process, in place of what was there; `filters` see every record.

    Libraries that talk much are heard from `debug` on.
    """
    mask = Mask(settings)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects(mask) if settings.log_format == "json" else Lines(program, mask))
    for one in filters:
        handler.addFilter(one)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    chatty = logging.NOTSET if settings.log_level == "debug" else logging.WARNING
    for name in CHATTY:
        logging.getLogger(name).setLevel(chatty)


def _secrets(settings: Settings) -> list[str]:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    password = None
    with contextlib.suppress(ValueError):
        password = urlsplit(settings.database).password
    return [secret for secret in (key, password) if secret]


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as addresses and tracebacks have it."""
    return {
        form
        for text in (secret, unquote(secret))
        for form in (text, quote(text), quote(text, safe=""), quote_plus(text), repr(text)[1:-1])
    }
