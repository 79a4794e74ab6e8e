"""What a server answers to one request, handed over as it comes.

A thread asks and reads: looking a name up, connecting and reading cannot be interrupted, and who
waits for a file must hear within a second that he is to stop. Knows nothing of files.
"""

import contextlib
import queue
import socket
import threading
import urllib.request
from collections.abc import Generator, Mapping
from typing import Any

import httpx

from data_store.patience import Patience

TICK_SECONDS = 0.1
# Pieces that came and were not taken yet; with more the server has to wait.
_WAITING = 16
_LEAVE_SECONDS = 0.5
_FOUND, _END = "found", "end"


class NotServed(Exception):
    """One address did not give the file; it may be asked again."""


class Refused(NotServed):
    """It never will."""


class _Left(Exception):
    """Nobody listens any more."""


def ask(
    url: str, headers: Mapping[str, str], patience: Patience
) -> Generator[httpx.Response | bytes | None]:
    """Yields the head of the answer, then its bytes as they were sent (a .gz that a server calls an
    encoding is left alone); and None whenever nothing came for a tenth of a second.

    Raises `NotServed` when the server fails or is silent for too long. Close it to hang up.
    """
    asking = _Asking(url, headers, patience)
    asking.start()
    quiet, limit, silent = 0.0, patience.connect_seconds, "its name was not found within"
    try:
        while (said := asking.hear()) != _END:
            # Not by a clock: while this process stood still, nobody listened.
            quiet = quiet + TICK_SECONDS if said is None else 0.0
            if said == _FOUND:
                limit, silent = patience.silent_seconds, "said nothing for"
            elif quiet > limit:
                raise NotServed(f"{silent} {limit:g} s")
            if isinstance(said, Exception):
                raise _not_served(said) from said
            if said != _FOUND:
                yield said
    finally:
        asking.leave()


def shown(url: str) -> str:
    """An address without the password that it may carry."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _not_served(error: Exception) -> Exception:
    """What became of a request, in words; an error of ours stays what it is."""
    if isinstance(error, httpx.InvalidURL):
        return Refused(f"{error}")
    if isinstance(error, httpx.HTTPError | OSError):
        return NotServed(f"{type(error).__name__}: {error}")
    # The environment names a proxy of no use.
    if isinstance(error, ImportError | ValueError):
        return Refused(f"cannot be asked: {error}")
    return error


class _Asking(threading.Thread):
    """Asks one server and puts what it says into a queue."""

    def __init__(self, url: str, headers: Mapping[str, str], patience: Patience) -> None:
        super().__init__(name="download", daemon=True)
        self._address, self._headers, self._patience = url, headers, patience
        self._said: queue.Queue[Any] = queue.Queue(_WAITING)
        self._left = threading.Event()
        self._stream: Any = None

    def hear(self) -> Any:
        """What it says next; None when it says nothing for a while."""
        try:
            return self._said.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return None

    def leave(self) -> None:
        """Hangs up. A thread that looks a name up cannot be woken: it is left behind."""
        self._left.set()
        if self._stream is not None:
            with contextlib.suppress(OSError):
                opened = self._stream.get_extra_info("socket")
                # Not TLS's own, which would wait for an answer; this wakes whoever reads.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
        self.join(_LEAVE_SECONDS)

    def run(self) -> None:
        """Whatever goes wrong is said to who listens."""
        with contextlib.suppress(_Left):
            try:
                self._ask()
                self._say(_END)
            except _Left:
                raise
            except Exception as error:
                self._say(error)

    def _ask(self) -> None:
        url = httpx.URL(self._address)
        self._find_host(url.host)
        self._say(_FOUND)
        # Who listens gives a silent server up; this is for when nobody does any more.
        timeout = httpx.Timeout(
            self._patience.silent_seconds + 5, connect=self._patience.connect_seconds
        )
        with (
            httpx.Client(timeout=timeout, follow_redirects=True) as client,
            client.stream(
                "GET",
                url.copy_with(userinfo=b""),  # as it is logged
                auth=(url.username, url.password) if url.userinfo else None,
                headers=self._headers,
                extensions={"trace": self._trace},
            ) as response,
        ):
            self._say(response)
            if response.is_success:
                for piece in response.iter_raw():
                    self._say(piece)

    def _find_host(self, host: str) -> None:
        """Name services may think for half a minute before they say no; a proxy asks them itself.
        That there is no such name is the client's to say.
        """
        if urllib.request.getproxies().keys() <= {"no"}:  # those that need none are no proxy
            with contextlib.suppress(OSError, UnicodeError):
                socket.getaddrinfo(host, None)

    def _say(self, word: object) -> None:
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                self._said.put(word, timeout=TICK_SECONDS)
                return
        raise _Left

    def _trace(self, _: str, told: dict[str, Any]) -> None:
        """Called by httpcore at each step: keeps the connection, to hang up on."""
        made = told.get("return_value")
        if hasattr(made, "get_extra_info"):
            self._stream = made
            if self._left.is_set():
                self._stream.close()  # nobody else does, where it is not even the client's yet
                raise _Left
