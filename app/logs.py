"""What the server's log lines say of requests: the id of the one at work, and no key in an address.

How lines look is `settings.logs`'s to know.
"""

import logging
from contextvars import ContextVar
from urllib.parse import unquote_plus

from settings import Settings
from settings.logs import log_to_stderr

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that this task or thread works for."""


class _RequestId(logging.Filter):
    """Gives every record the id of its request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class _HiddenKey(logging.Filter):
    """Takes the key out of the addresses in uvicorn's access log, a wrong one too: it may be the
    right one of another server, or but a letter off.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _without_key(word) if isinstance(word, str) else word for word in record.args
            )
        return True


def configure(settings: Settings) -> None:
    """Sets up the server's log."""
    log_to_stderr(settings, "server", filters=[_RequestId()])
    access = logging.getLogger("uvicorn.access")
    access.filters = [_HiddenKey()]


def _without_key(address: str) -> str:
    path, mark, query = address.partition("?")
    fields = query.split("&") if mark else []
    shown = ["key=***" if unquote_plus(f.partition("=")[0]) == "key" else f for f in fields]
    return path + mark + "&".join(shown)
