"""`python -m app`: reads the settings, listens, and serves until told to stop.

The composition root of the server. Listens before anything heavy is imported; stops on SIGTERM, on
Ctrl-C, and when `danlu serve` is gone.
"""

import gc
import ipaddress
import logging
import secrets
import signal
import socket
import sys
from types import FrameType

from pydantic import SecretStr, ValidationError

from app import logs, triton
from settings import Settings, what_is_wrong

log = logging.getLogger("app")


def main() -> int:
    """Exit codes: 0 stopped, 1 cannot serve here; 2, 4 and 6: no restart helps."""
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(what_is_wrong(error))
        return 2
    logs.configure(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_early)
    try:
        listening = listen(settings)
    except OSError as error:
        hint = "DANLU_HOST and DANLU_PORT choose another place; port 0 takes a free one."
        log.error("cannot listen on %s:%s: %s. %s", settings.host, settings.port, error, hint)
        return 1
    log.info("%s, home %s", _url(listening), settings.home)
    settings = _with_key(settings, listening)
    triton.leave_out()
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
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _with_key(settings: Settings, listening: socket.socket) -> Settings:
    """The settings with a key of our own making, where others reach the server and nobody has
    thought of one. It is shown here and nowhere else.
    """
    host = listening.getsockname()[0]
    if settings.api_key or settings.no_auth or ipaddress.ip_address(host).is_loopback:
        return settings
    key = secrets.token_urlsafe(24)
    said = "others can reach this server, so it has a key now: %s/?key=%s"
    # At every level of the log: without it nobody could come in.
    log.log(max(logging.WARNING, log.getEffectiveLevel()), said, _url(listening), key)
    keyed = settings.model_copy(update={"api_key": SecretStr(key)})
    logs.configure(keyed)
    return keyed


def _url(listening: socket.socket) -> str:
    """Address to open in a browser."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_early(_number: int, _frame: FrameType | None) -> None:
    """Before uvicorn handles signals there is nothing to wind up. It raises the signal again when
    it has stopped, and then this makes it a normal end.
    """
    sys.exit(0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        # The interpreter searches everything for garbage on its way out: a second with torch.
        gc.freeze()
