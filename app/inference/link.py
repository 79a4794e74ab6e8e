"""An inference process as its server knows it: started, spoken to, heard, and ended.

Lives in the server's event loop. Which process is asked what is `app.predictor`'s to say.
"""

import asyncio
import logging
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Self, cast

import anyio.to_thread

from app.inference.entry import Plan, work
from app.inference.messages import Reader, pack
from data_store import leash

log = logging.getLogger(__name__)

Method = Literal["forkserver", "spawn"]
_PRELOADED = "app.inference.process"
Heard = Callable[[dict[str, Any], bytes], None]


class Link(asyncio.Protocol):
    """A process, and the socket to it. `heard` is given each message, `ended` called once."""

    def __init__(self, process: BaseProcess, heard: Heard, ended: Callable[[], None]) -> None:
        self._process = process
        self._reader = Reader()
        self._heard = heard
        self._ended = ended
        self._transport: asyncio.WriteTransport | None = None
        self._unsent: list[bytes] = []

    @classmethod
    async def start(
        cls, plan: Plan, method: Method, *, heard: Heard, ended: Callable[[], None]
    ) -> Self:
        """A process that has begun; it imports torch yet where it is not forked from one that has.

        Raises `OSError` when the system has no room for it.
        """
        _prepare(method)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await _begun(method, theirs, plan)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        link = cls(process, heard, ended)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        return link

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    def say(self, said: Mapping[str, Any], data: Sequence[bytes] = ()) -> None:
        """Sends a message, together with what else is said before the loop turns."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent += pack(said, data)

    def kill(self) -> None:
        """For one that hangs; `ended` is called as for one that died."""
        self._process.kill()

    async def close(self) -> None:
        """Hangs up, upon which the process ends."""
        if self._transport is not None:
            self._transport.close()
        await anyio.to_thread.run_sync(self._bury)

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        """asyncio."""
        for said, rest in self._reader.feed(data):
            self._heard(said, rest)

    def connection_lost(self, _exc: Exception | None) -> None:
        """asyncio."""
        self._ended()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(unsent)

    def _bury(self) -> None:
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def start_method(wanted: Literal["auto", "forkserver", "spawn"]) -> Method:
    """forkserver on Linux, where a process that has torch imported is copied in milliseconds."""
    if wanted != "auto":
        return wanted
    return "forkserver" if sys.platform == "linux" else "spawn"


async def _begun(method: Method, channel: socket.socket, plan: Plan) -> BaseProcess:
    """`_started` in a daemon: a server that is told to stop does not wait for torch."""
    begun: Future[BaseProcess] = Future()
    begun.set_running_or_notify_cancel()  # once nobody waits for it any more, it goes on unheard

    def run() -> None:
        try:
            begun.set_result(_started(method, channel, plan))
        except BaseException as error:
            begun.set_exception(error)

    threading.Thread(target=run, name="starting", daemon=True).start()
    return await asyncio.wrap_future(begun)


def _started(method: Method, channel: socket.socket, plan: Plan) -> BaseProcess:
    """Waits until the process has begun: for seconds where torch has to be imported first."""
    context: Any = multiprocessing.get_context(method)
    process: BaseProcess = context.Process(target=work, args=(channel, plan), daemon=True)
    process.start()
    return process


def _prepare(method: Method) -> None:
    """Before the threads of a pool are asked to start a process: a forkserver ends with the thread
    that has started it. The main one stays; where the server itself is in another, as in tests, it
    is not tied.
    """
    _spin_briefly()
    if method != "forkserver":
        return
    if threading.current_thread() is threading.main_thread():
        leash.preload(_PRELOADED)
    else:
        multiprocessing.set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()


def _spin_briefly() -> None:
    """Threads of a network that wait for each other sleep soon: while they spin they take the core
    that the server needs (docs/decisions/0029).
    """
    variables = os.environ  # noqa: TID251 - libgomp reads them in the processes, no settings
    if "OMP_WAIT_POLICY" not in variables:
        variables["OMP_WAIT_POLICY"] = "passive"
        variables.setdefault("GOMP_SPINCOUNT", "1000")
