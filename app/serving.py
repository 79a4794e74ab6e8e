"""Serves the application on a socket until told to stop, by a signal or by the end of its parent.

Knows uvicorn; knows nothing of requests.
"""

import contextlib
import gc
import logging
import os
import resource
import socket
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from app.main import create_app
from app.protocol import Connection, Limits
from app.resources import Resources
from database import engine
from problems import Problem
from settings import Settings

log = logging.getLogger("app")

_DRAIN_SECONDS = 10
_MOST_FILES = 65_536
_TICKS_BETWEEN_LOOKS = 20
# Longer than clients and proxies keep an idle connection (httpx 5 s, load balancers 60 s): with
# uvicorn's own 5 s, a request that goes out as we hang up is lost.
IDLE_SECONDS = 75
# Descriptors that are not for connections: the database, images, libraries that are imported late.
_OWN_FILES = 150


class Server(uvicorn.Server):
    """uvicorn, which lets long polls go before it waits for connections to close."""

    def __init__(self, app: FastAPI, *, log_requests: bool, limits: Limits) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Connection, limits=limits),  # type: ignore[arg-type]
                log_config=None,
                access_log=log_requests,
                server_header=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )
        self._held: Resources = app.state.resources
        self._database = engine.identity(self._held.settings.database)
        self.home_gone = False
        self._frozen = False

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; True stops the server."""
        if not self._frozen and self._held.warmup.state != "loading":
            self._frozen = True
            # Torch and all else that stays is not searched for garbage any more: each time took a
            # tenth of a second, in which nobody was answered.
            gc.freeze()
            # What a request leaves behind is no circle, and need not be looked for every 700
            # objects: that took a twentieth of the time.
            gc.set_threshold(50_000, 20, 100)
        if counter % _TICKS_BETWEEN_LOOKS == 0 and not self.home_gone:
            url = self._held.settings.database
            self.home_gone = engine.identity(url) != self._database
            if self.home_gone:
                log.critical("the home %s is not there any more", self._held.settings.home)
        return await super().on_tick(counter) or self.home_gone

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains and stops."""
        self._held.feed.close()
        await super().shutdown(sockets)

    def stop_with_parent(self, descriptor: int) -> None:
        """Stops once the pipe of `danlu serve` closes, whatever closed it."""

        def watch() -> None:
            while os.read(descriptor, 1):
                pass
            log.info("danlu serve is gone: stopping")
            self.should_exit = True

        threading.Thread(target=watch, name="parent", daemon=True).start()


def serve(settings: Settings, listening: socket.socket, *, limits: Limits | None = None) -> int:
    """Exit codes: 0 stopped, 1 home or database cannot be used, 4 it is of a newer danlu, 5 another
    machine uses it, 6 it is gone.

    `limits` None: the usual ones, with as many connections as the system lets us have.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        engine.migrate(settings.database)
        engine.refuse_other_machines(settings.database)
    except Problem as problem:
        log.error("%s %s", problem.detail, problem.hint)
        return 4 if problem.code == "database_newer" else 5
    except OSError as error:
        log.error("the home %s cannot be used: %s", settings.home, error)
        return 1
    except (SQLAlchemyError, ImportError) as error:
        reason = getattr(error, "orig", None) or error
        hint = "DANLU_DATABASE_URL says where it is, and danlu doctor looks for what is wrong."
        log.error("the database cannot be used: %s. %s", reason, hint)
        return 1
    limits = limits or Limits(connections=max(_OWN_FILES, _raised_file_limit() - _OWN_FILES))
    log_requests = settings.log_level == "debug"
    server = Server(create_app(settings), log_requests=log_requests, limits=limits)
    if settings.parent_fd is not None:
        server.stop_with_parent(settings.parent_fd)
    server.run(sockets=[listening])
    return 6 if server.home_gone else 0


def _raised_file_limit() -> int:
    """The descriptors that this process may have now: as many as it can be given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
