"""Files of pretrained weights: found on this machine or downloaded, and taken only when their
checksum is right.

Knows nothing of what is in them.
"""

import contextlib
import hashlib
import math
import socket
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO

import httpx

from data_store import downloads, durable
from data_store.downloads import NotServed
from data_store.progress import Progress, paced
from problems import Problem

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file; `sha256` is how its checksum begins, and `bytes` about how large it is."""

    name: str
    url: str
    sha256: str
    bytes: int


def find(wanted: Wanted, folders: Sequence[Path]) -> Path | None:
    """Where the file lies already, whole."""
    paths = (folder / wanted.name for folder in folders)
    return next((path for path in paths if _is_right(path, wanted)), None)


def fetch(
    wanted: Wanted,
    folder: Path,
    progress: Progress,
    *,
    connect_seconds: float = downloads.CONNECT_SECONDS,
    seconds: float = math.inf,
) -> Path:
    """Downloads the file into `folder`, under its name only when it is whole.

    A server that does not answer within `connect_seconds`, or has not given everything within
    `seconds`, is given up. Raises `disk_full`, or `weights_unavailable` whose hint says which file
    belongs where.
    """
    deadline = monotonic() + seconds
    try:
        _find_host(wanted.url, connect_seconds)
        timeout = httpx.Timeout(min(downloads.PAUSE_SECONDS, seconds), connect=connect_seconds)
        durable.sweep(folder, f"{wanted.name}.*.part")
        with downloads.client(timeout) as client, durable.replacing(folder / wanted.name) as out:
            _stream(client, wanted, out=out, progress=progress, deadline=deadline)
    except NotServed as error:
        raise _unavailable(f"{wanted.url}: {error}", wanted, folder) from error
    except OSError as error:
        if error.errno in downloads.FULL:
            raise Problem("disk_full", f"The disk filled up while writing to {folder}.") from error
        raise _unavailable(
            f"{folder} cannot be written: {error.strerror}", wanted, folder
        ) from error
    return folder / wanted.name


def _find_host(url: str, seconds: float) -> None:
    """Name services may think for half a minute before they say no, and nothing can interrupt them:
    they are asked in a thread that is left behind. A proxy looks names up itself.
    """
    if urllib.request.getproxies():
        return
    host, answered = httpx.URL(url).host, threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
        answered.set()

    threading.Thread(target=ask, name="find-host", daemon=True).start()
    if not answered.wait(seconds):
        raise NotServed(f"the name {host} was not found within {seconds:.0f} s")


def _stream(
    client: httpx.Client, wanted: Wanted, *, out: IO[bytes], progress: Progress, deadline: float
) -> None:
    digest = hashlib.sha256()
    advance = paced(progress, "downloading", wanted.bytes)
    most = 2 * wanted.bytes + _CHUNK
    try:
        with client.stream("GET", wanted.url, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            for chunk in response.iter_raw():  # as it comes, or a slow server is never given up
                if out.tell() > most:
                    break
                if monotonic() > deadline:
                    raise NotServed("too slow")
                out.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotServed(downloads.in_words(error)) from error
    if not digest.hexdigest().startswith(wanted.sha256):
        raise NotServed("another file came: its sha256 is wrong")


def _is_right(path: Path, wanted: Wanted) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(wanted.sha256)
    except OSError:
        return False


def _unavailable(detail: str, wanted: Wanted, folder: Path) -> Problem:
    wrong = "; the one that is there is another" if (folder / wanted.name).is_file() else ""
    hint = (
        f"Put {wanted.name} (about {wanted.bytes / 1e6:,.0f} MB, sha256 {wanted.sha256}…{wrong}) "
        f"from {wanted.url} into {folder.resolve()} and train again, or train with "
        "pretrained: false."
    )
    return Problem("weights_unavailable", f"{detail}.", hint=hint)
