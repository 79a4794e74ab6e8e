"""`python -m app`: reads the settings, listens, and serves until told to stop.

The composition root of the server. Listens before anything heavy is imported; stops on SIGTERM, on
Ctrl-C, and when `danlu serve` is gone.
"""

import gc
import ipaddress
import logging
import signal
import socket
import sys
from types import FrameType

from pydantic import ValidationError

from settings import Settings

log = logging.getLogger("app")


def main() -> int:
    """Exit codes: 0 stopped, 1 cannot serve here, 2 a setting is wrong, 4 database too new."""
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors():
            name = str(wrong["loc"][0]).upper()
            sys.stderr.write(f"DANLU_{name.removeprefix('DANLU_')}: {wrong['msg']}\n")
        return 2
    _log_to_stderr(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_early)
    try:
        listening = listen(settings)
    except OSError as error:
        hint = "DANLU_HOST and DANLU_PORT choose another place; port 0 takes a free one."
        log.error("cannot listen on %s:%s: %s. %s", settings.host, settings.port, error, hint)
        return 1
    host, port = listening.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    log.info("http://%s:%s, home %s", address, port, settings.home)
    # Imported late: whoever connects meanwhile waits in the socket's queue, and is not refused.
    from app import serving

    return serving.serve(settings, listening)


def listen(settings: Settings) -> socket.socket:
    """A listening socket: the one that `danlu serve` made, or our own. Raises `OSError`."""
    if settings.listen_fd is not None:
        handed = socket.socket(fileno=settings.listen_fd)
        handed.listen(2048)
        return handed
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = socket.getaddrinfo(settings.host, settings.port, family)[0][4][0]
    if not (settings.no_auth or ipaddress.ip_address(address).is_loopback):
        raise OSError(
            "others could reach it, and danlu has no keys yet; set DANLU_NO_AUTH=1 to insist"
        )
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _stop_early(_number: int, _frame: FrameType | None) -> None:
    """Before uvicorn handles signals there is nothing to wind up. It raises the signal again when
    it has stopped, and then this makes it a normal end.
    """
    sys.exit(0)


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s server  %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("alembic", "uvicorn.error", "httpx"):
        if settings.log_level != "debug":
            logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        # The interpreter searches everything for garbage on its way out: a second with torch.
        gc.freeze()
