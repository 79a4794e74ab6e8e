"""What is sent to become a data set: an archive as it is, or a folder that is packed on the way.

A folder is a tar stream whose bytes follow from names and contents alone, so that an unchanged
folder is the same archive. Knows no server.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from danlu.errors import DanluError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
OTHERS = (".rar", ".7z")
"""Archives that danlu does not read."""
IMAGES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    ".ppm",
    ".pgm",
)
"""Endings of what is sent of a folder; the server would leave anything else out."""

_JUNK = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"}
_PIECE = 1 << 18
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True, slots=True)
class Package:
    """Something to send: `name` is that of the data set, `size` in bytes that of the stream.

    `members` are the images of a folder with their names in the stream; an archive has none. `rest`
    counts the files of a folder that are no images.
    """

    path: Path
    name: str
    size: int
    members: tuple[tuple[str, Path, int], ...] = ()
    rest: int = 0

    def pieces(self) -> Iterator[bytes]:
        """The stream, once; may be called again. Raises `DanluError` for a file that changes."""
        if not self.members:
            yield from _exactly(self.path, self.size)
            return
        for name, path, size in self.members:
            yield _header(name, size)
            yield from _exactly(path, size)
            yield bytes(-size % _BLOCK)
        yield _END

    def sha256(self, progress: Callable[[int], object] = lambda _: None) -> str:
        """Of the stream; `progress` is told of each piece by its bytes."""
        digest = sha256()
        for piece in self.pieces():
            digest.update(piece)
            progress(len(piece))
        return digest.hexdigest()

    def example(self) -> Path | None:
        """An image of a folder, to try a model with: of its test part if it has one. None where no
        path can be typed.
        """
        typed = [(name, path) for name, path, _ in self.members if _is_text(str(path))]
        unseen = (path for name, path in typed if name.lower().startswith("test"))
        return next(unseen, typed[0][1] if typed else None)


def of(path: Path, *, name: str | None = None) -> Package:
    """The package of a folder or archive, called `name` or as it is called on this disk.

    Raises `DanluError` for what is not there, cannot be read or holds nothing, and for a name that
    is no text.
    """
    if path.is_dir():
        return _folder(path, _checked(name or path.resolve().name))
    if path.suffix.lower() in OTHERS:
        hint = "Pack it again as zip or tar, or give the folder itself."
        raise DanluError("archive_invalid", f"danlu does not read {path.suffix} files.", hint=hint)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        detail = f"There is no folder or archive {path}."
        raise DanluError("files_unusable", detail, hint="Is the path right?") from None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    if not os.access(path, os.R_OK):
        raise _unusable(path, "it may not be read", "Allow yourself to read it: chmod u+r.")
    return Package(path, _checked(name or stem(path.name)), size)


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive."""
    return name.lower().endswith((*ARCHIVES, *OTHERS))


def stem(name: str) -> str:
    """`pets` of `pets.zip` and of `pets.tar.gz`."""
    ending = max((each for each in ARCHIVES if name.lower().endswith(each)), key=len, default="")
    return name[: -len(ending)] if ending else Path(name).stem


def _checked(name: str) -> str:
    if not _is_text(name):
        detail = f"A data set cannot be called {name!r}: that is no UTF-8."
        hint = "Name it yourself: danlu train FOLDER --as pets, or danlu datasets add pets FOLDER."
        raise DanluError("invalid_request", detail, hint=hint)
    return name


def _is_text(name: str) -> bool:
    """Whether UTF-8 can say it: the names of files may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folder(path: Path, name: str) -> Package:
    try:
        files = sorted(_files(path))
    except OSError as error:
        raise _unusable(Path(error.filename or path), error.strerror or str(error)) from None
    members = tuple(file for file in files if file[0].lower().endswith(IMAGES))
    if not members:
        hint = "Put the images of each class into a folder of its own in there: cat/1.jpg."
        raise _unusable(path, "there are no images in it", hint)
    size = sum(len(_header(n, s)) + s + -s % _BLOCK for n, _, s in members) + len(_END)
    return Package(path, name, size, members, rest=len(files) - len(members))


def _files(root: Path) -> Iterator[tuple[str, Path, int]]:
    """Every file below, through links too but never in a circle; hidden ones and junk left out."""
    waiting: list[tuple[str, Path, frozenset[Path]]] = [("", root, frozenset())]
    while waiting:
        above_name, folder, above = waiting.pop()
        real = folder.resolve()
        if real in above:
            continue
        for entry in folder.iterdir():
            if entry.name.startswith(".") or entry.name in _JUNK:
                continue
            name = f"{above_name}{entry.name}"
            if entry.is_dir():
                waiting.append((f"{name}/", entry, above | {real}))
            elif entry.is_file():
                yield name, entry, entry.stat().st_size


def _header(name: str, size: int) -> bytes:
    """Without owner, time and mode: they say nothing about the images."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _exactly(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
            more = file.read(1)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None
    if left or more:
        raise _unusable(path, "it changed while it was sent", "Send it again.")


def _unusable(
    path: Path, reason: str, hint: str = "Look whether it is there and may be read."
) -> DanluError:
    return DanluError("files_unusable", f"{path} cannot be sent: {reason}.", hint=hint)
