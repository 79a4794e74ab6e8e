"""Serves the application on a socket until told to stop, by a signal or by the end of its parent.

Knows uvicorn; knows nothing of requests.
"""

import logging
import os
import socket
import threading

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from app.main import create_app
from app.protocol import Connection
from app.resources import Resources
from database import engine
from problems import Problem
from settings import Settings

log = logging.getLogger("app")

_DRAIN_SECONDS = 10


class Server(uvicorn.Server):
    """uvicorn, which lets long polls go before it waits for connections to close."""

    def __init__(self, app: FastAPI, *, log_requests: bool) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                log_config=None,
                access_log=log_requests,
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )
        self._held: Resources = app.state.resources

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains and stops."""
        self._held.waiting.close()
        await super().shutdown(sockets)

    def stop_with_parent(self, descriptor: int) -> None:
        """Stops once the pipe of `danlu serve` closes, whatever closed it."""

        def watch() -> None:
            while os.read(descriptor, 1):
                pass
            log.info("danlu serve is gone: stopping")
            self.should_exit = True

        threading.Thread(target=watch, name="parent", daemon=True).start()


def serve(settings: Settings, listening: socket.socket) -> int:
    """Exit codes: 0 stopped, 1 home or database cannot be used, 4 it is of a newer danlu."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        engine.migrate(settings.database)
    except Problem as problem:
        log.error("%s %s", problem.detail, problem.hint)
        return 4
    except OSError as error:
        log.error("the home %s cannot be used: %s", settings.home, error)
        return 1
    except (SQLAlchemyError, ImportError) as error:
        reason = getattr(error, "orig", None) or error
        log.error("the database cannot be used: %s. DANLU_DATABASE_URL says where it is.", reason)
        return 1
    server = Server(create_app(settings), log_requests=settings.log_level == "debug")
    if settings.parent_fd is not None:
        server.stop_with_parent(settings.parent_fd)
    server.run(sockets=[listening])
    return 0
