"""One file of a data set, looked at for the doctor: whether it can be read, and how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from data_store import fingerprints, limits
from data_store.fingerprints import Fingerprint
from images import opening
from problems import Problem


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that can be read: its SHA-256 and size in bytes, and the image in it."""

    sha256: bytes
    bytes: int
    width: int
    height: int
    format: str
    mode: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that cannot: a code of `problems` and the reason. It has no bytes if it is gone."""

    sha256: bytes
    bytes: int
    code: str
    message: str


def look(path: Path) -> Seen | Unreadable:
    """Decodes the image as a whole. Any file is something that can be told."""
    data = b""
    try:
        if path.stat().st_size > limits.MOST_IMAGE_BYTES:
            raise Problem("image_too_large", f"It has over {limits.MOST_IMAGE_BYTES:,} bytes.")
        data = path.read_bytes()
        opened = opening.read(data, at_least=fingerprints.AT_LEAST)
    except Problem as problem:
        return Unreadable(sha256(data).digest(), len(data), problem.code, problem.detail)
    except OSError as error:
        return unreadable(f"It cannot be read: {error.strerror}.")
    return Seen(
        sha256=sha256(data).digest(),
        bytes=len(data),
        width=opened.width,
        height=opened.height,
        format=opened.format,
        mode=opened.mode,
        fingerprint=fingerprints.take(opened, data),
    )


def unreadable(message: str) -> Unreadable:
    """Of a file whose bytes are not known."""
    return Unreadable(sha256().digest(), 0, "not_an_image", message)


def look_at(paths: Sequence[str]) -> list[Seen | Unreadable]:
    """Each of several files."""
    return [look(Path(path)) for path in paths]
