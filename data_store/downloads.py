"""Brings the files of a built-in data set to where torchvision's classes look for them.

Knows nothing of what is in them. A file has its name only when it is whole and its md5 is right;
two processes that fetch the same set do the work twice, to no harm.
"""

import errno
import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import httpx

from data_store import durable
from data_store.built_in import BuiltIn, File
from data_store.progress import Progress, paced
from problems import Problem

# Without internet a person should hear so within seconds; a slow server may pause for longer.
CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 30.0
FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_CHUNK = 1 << 18


class NotServed(Exception):
    """One address did not give the file."""


def missing(wanted: BuiltIn, root: Path) -> list[File]:
    """The files of a built-in set that are not there, unpacked."""
    return [f for f in wanted.files if not all((root / held).is_file() for held in f.holds)]


def is_local(wanted: BuiltIn, root: Path) -> bool:
    """Whether `fetch` needs no network: each file is there, unpacked or as it is served."""
    folder = root / wanted.folder
    return all(_size(folder / file.name) == file.bytes for file in missing(wanted, root))


def fetch(
    wanted: BuiltIn, root: Path, progress: Progress, *, connect_seconds: float = CONNECT_SECONDS
) -> None:
    """Downloads and unpacks what is missing of a built-in set; does nothing when nothing is.

    A file that was put in its folder by hand is taken when its md5 is right. A server that does not
    answer within `connect_seconds` is given up. Raises `disk_full`, or `dataset_unavailable`, whose
    hint lists each missing file and where it belongs.
    """
    absent = missing(wanted, root)
    folder = root / wanted.folder
    needed = [file for file in absent if _md5(folder / file.name) != file.md5]
    try:
        if needed:
            timeout = httpx.Timeout(PAUSE_SECONDS, connect=connect_seconds)
            with client(timeout) as opened:
                _download(needed, wanted.mirrors, folder, client=opened, progress=progress)
        for file in absent:
            _unpack(file, folder, root)
    except NotServed as error:
        raise _unavailable(str(error), needed, folder) from error
    except OSError as error:
        if error.errno in FULL:
            raise Problem("disk_full", f"The disk filled up while writing to {root}.") from error
        if error.errno in _FORBIDDEN:
            detail = f"{root} cannot be written: {error.strerror}."
            raise _unavailable(detail, needed, folder) from error
        raise


def client(timeout: httpx.Timeout) -> httpx.Client:
    """Follows redirects. Raises `NotServed` when the environment names a proxy of no use."""
    try:
        return httpx.Client(timeout=timeout, follow_redirects=True)
    except (ImportError, ValueError) as error:
        raise NotServed(f"Nothing can be downloaded: {error}.") from error


def _download(
    files: Sequence[File],
    mirrors: Sequence[str],
    folder: Path,
    *,
    client: httpx.Client,
    progress: Progress,
) -> None:
    advance = paced(progress, "downloading", sum(file.bytes for file in files))
    for file in files:
        durable.sweep(folder, f"{file.name}.*.part")
        answers = []
        for mirror in mirrors:
            try:
                with durable.replacing(folder / file.name) as out:
                    _stream(client, mirror + file.name, file, out=out, advance=advance)
                break
            except NotServed as error:
                answers.append(f"{mirror} {error}")
        else:
            raise NotServed(f"{file.name} could not be downloaded: {'; '.join(answers)}.")


def _stream(
    client: httpx.Client, url: str, file: File, *, out: IO[bytes], advance: Callable[[int], None]
) -> None:
    """Writes what is at `url`. Raises `NotServed` when that is not `file`."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            # Raw: some servers call a .gz file an encoding, which would be undone on the way.
            for chunk in response.iter_raw(_CHUNK):
                if out.tell() + len(chunk) > file.bytes:
                    break
                out.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
        if digest.hexdigest() != file.md5:
            raise NotServed("gave another file: its md5 is wrong")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        advance(-out.tell())
        raise NotServed(f"says {in_words(error)}") from error
    except NotServed:
        advance(-out.tell())
        raise


def in_words(error: Exception) -> str:
    """What a server said, or what became of it."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return f"{type(error).__name__}: {error}"


def _unpack(file: File, folder: Path, root: Path) -> None:
    """Writes what `file` holds, and nothing else that is in it."""
    archive = folder / file.name
    if file.name.endswith(".tar.gz"):
        with tarfile.open(archive) as members:
            for member in members:
                inside = members.extractfile(member) if member.name in file.holds else None
                if inside is not None:
                    _write(root / member.name, inside)
    elif file.name.endswith(".gz"):
        with gzip.open(archive) as unzipped:
            _write(root / file.holds[0], unzipped)


def _write(target: Path, inside: IO[bytes] | gzip.GzipFile) -> None:
    with durable.replacing(target) as out:
        shutil.copyfileobj(inside, out, _CHUNK)


def _unavailable(detail: str, files: Sequence[File], folder: Path) -> Problem:
    lines = (
        f"{file.name} ({file.bytes:,} bytes, md5 {file.md5}"
        + ("; the one that is there is another)" if (folder / file.name).is_file() else ")")
        for file in files
    )
    where = folder.resolve()
    hint = f"Put these into {where} and train again: {', '.join(lines)}."
    return Problem("dataset_unavailable", detail, hint=hint)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
