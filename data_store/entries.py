"""The names in an archive: from bytes to paths, and which of them nobody may follow.

Knows nothing of images and of where files go.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from data_store import encodings
from data_store.encodings import Encoding
from problems import Problem

# Of a whole archive, the names of what is no image too. What an import keeps in memory of each,
# about 2 kB while it is compared with all others, stays below half a gigabyte.
MOST_ENTRIES = 200_000
# Of all of them together in an archive, long before it is asked which can be written.
MOST_NAMES_BYTES = 64_000_000
# Of one: no system has longer paths.
_MOST_RAW_BYTES = 4096
# In UTF-8. File systems take 255 a name, and a file that is written first has a suffix behind it.
_MOST_NAME_BYTES = 240
_MOST_PATH_BYTES = 1_000
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Name:
    """As it lies in the archive; `known` when that says that it is UTF-8."""

    raw: bytes
    known: bool


Advance = Callable[[int], None]
"""Told how many bytes of an archive more are done, 0 now and then; may raise to stop."""


class Content(Protocol):
    """What is in a file of an archive."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes more; none at the end. Raises `Problem` when it is damaged."""


@dataclass(frozen=True, slots=True)
class Read:
    """Names as paths with `/`, composed as NFC has it; `encoding` is what unknown ones were in."""

    paths: list[str]
    encoding: Encoding


def read(names: Sequence[Name], tick: Callable[[], None] = lambda: None) -> Read:
    """The paths that names mean. `tick` is called for each. Raises `Problem` archive_unsafe,
    archive_invalid.
    """
    unknown = [name.raw for name in names if not name.known]
    encoding: Encoding = "utf-8"
    if not all(map(bytes.isascii, unknown)):
        encoding = encodings.guess(unknown)
    paths = []
    for name in names:
        tick()
        paths.append(path(_text(name, encoding)))
    return Read(paths, encoding)


def check_length(raw: bytes) -> None:
    """Raises `Problem` archive_invalid for a name that is not worth a look."""
    if len(raw) > _MOST_RAW_BYTES:
        raise _too_long(raw.decode("utf-8", "replace"))


def path(text: str) -> str:
    """`text` without what says nothing, `./a//b` being `a/b`. Raises `Problem` archive_unsafe."""
    text = unicodedata.normalize("NFC", text).replace("\\", "/")
    steps = [step for step in text.split("/") if step not in ("", ".")]
    if text.startswith("/"):
        raise _unsafe(f"{shown(text)} is an absolute path")
    if text[1:2] == ":" and text[0].isascii() and text[0].isalpha():
        raise _unsafe(f"{shown(text)} begins with a drive letter")
    if ".." in steps:
        raise _unsafe(f"{shown(text)} leads out of the archive with ..")
    return "/".join(steps)


def check_writable(path: str) -> None:
    """Raises `Problem` archive_unsafe or archive_invalid for what no file should be called."""
    control = (unicodedata.category(character) in ("Cc", "Cs") for character in path)
    if not path.isprintable() and any(control):
        raise _unsafe(f"{shown(path)} has a control character in its name")
    too_long = max(len(step.encode()) for step in path.split("/")) > _MOST_NAME_BYTES
    if too_long or len(path.encode()) > _MOST_PATH_BYTES:
        raise _too_long(path)


def fold(path: str) -> str:
    """The same for names that some file systems would take for one: `Cat` and `cat`."""
    return unicodedata.normalize("NFC", path.casefold())


def link(text: str) -> Problem:
    """The problem of an entry that is a link."""
    return _unsafe(f"{shown(text)} is a link")


def device(text: str) -> Problem:
    """The problem of an entry that is neither a file nor a folder."""
    return _unsafe(f"{shown(text)} is a device or a pipe")


def too_many() -> Problem:
    """The problem of an archive with too many entries."""
    most = f"{MOST_ENTRIES:,} entries, or more than {MOST_NAMES_BYTES // 10**6} MB of names"
    return Problem("archive_too_large", f"The archive has more than {most}.")


def shown(text: str) -> str:
    """`text` in quotes, on one line and not endless."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _text(name: Name, encoding: Encoding) -> str:
    try:
        return name.raw.decode("utf-8" if name.known else encoding)
    except UnicodeDecodeError:
        raise Problem(
            "archive_invalid",
            f"The archive says that the name {name.raw[:_SHOWN]!r} is UTF-8, and it is not.",
            hint="Pack the folder of images again.",
        ) from None


def _too_long(text: str) -> Problem:
    return Problem(
        "archive_invalid",
        f"The name {shown(text)} is too long for a file system.",
        hint=f"Shorten it to {_MOST_NAME_BYTES} bytes: 240 letters, or 80 Chinese characters.",
    )


def _unsafe(what: str) -> Problem:
    return Problem("archive_unsafe", f"The archive is refused: {what}.")
