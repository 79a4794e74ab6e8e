"""The key of a server: where it is found, what it may look like, and who needs a new one.

Knows no server; what the key opens is the server's to say.
"""

import ipaddress
import re
import secrets
import socket
from pathlib import Path
from urllib.parse import parse_qs

from danlu import environment
from danlu.errors import DanluError

UNUSABLE = "key_unusable"
VARIABLE, FILE_VARIABLE = "DANLU_API_KEY", "DANLU_API_KEY_FILE"

_WORD = re.compile(r"[\x21-\x7e]+")  # what a header can carry


def found() -> str | None:
    """The key that the environment names or keeps in a file. Raises `DanluError`."""
    variables = environment.variables()
    key = variables.get(VARIABLE, "").strip() or None
    if file := variables.get(FILE_VARIABLE):
        held = _read(Path(file).expanduser())
        if key not in (None, held):
            detail = f"{VARIABLE} and {FILE_VARIABLE} differ."
            raise DanluError(UNUSABLE, detail, hint="Set only one of them.")
        key = held
    return None if key is None else checked(key)


def checked(key: str) -> str:
    """The key, if it is one word of ASCII. Raises `DanluError`, which does not repeat it."""
    if not _WORD.fullmatch(key):
        hint = "A key is one word of ASCII letters, digits and signs."
        raise DanluError(UNUSABLE, "The key cannot be sent.", hint=hint)
    return key


def in_address(address: str) -> tuple[str, str | None]:
    """An address without the key that it may carry, as `danlu serve` prints it, and that key."""
    plain, _, query = address.partition("?")
    keys = parse_qs(query).get("key")
    return (plain, keys[0]) if keys else (address, None)


def in_shell() -> str:
    """The key as a shell finds it where we did, for a line that does not show it."""
    variables = environment.variables()
    if in_address(environment.url())[1] is not None:
        return "${DANLU_URL##*key=}"
    if variables.get(VARIABLE, "").strip():
        return f"${VARIABLE}"
    return f'$(cat "${FILE_VARIABLE}")'


def found_for_server(*, no_auth: bool) -> str | None:
    """The key that a server here will ask for. Raises `DanluError`, also when it may ask none."""
    key = found()
    if key is not None and no_auth:
        detail = "There is a key, and --no-auth says that none is asked for."
        hint = f"Leave --no-auth and DANLU_NO_AUTH out, or unset {VARIABLE}."
        raise DanluError(UNUSABLE, detail, hint=hint)
    return key


def made_for(listener: socket.socket) -> str | None:
    """A new key where others than this machine's users can reach the listener."""
    host = listener.getsockname()[0]
    return None if ipaddress.ip_address(host).is_loopback else secrets.token_urlsafe(24)


def _read(file: Path) -> str:
    hint = f"{FILE_VARIABLE} names the file that holds the key."
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DanluError(UNUSABLE, f"{file} cannot be read: {reason}.", hint=hint) from None
    if not key:
        raise DanluError(UNUSABLE, f"{file} is empty.", hint=hint)
    return key
