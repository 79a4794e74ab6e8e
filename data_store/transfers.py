"""Brings one file from the first of several addresses that has it.

The checksum of the whole decides, so bytes of one address, of one attempt, of one process are
carried on with by the next. Knows nothing of what is in files.
"""

import errno
import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import file_digest, new
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

import httpx

from data_store import replies, unfinished
from data_store.patience import Pace, Patience
from data_store.replies import NotServed, Refused
from data_store.unfinished import At, Unfinished
from problems import Problem

FULL = {errno.ENOSPC, errno.EDQUOT}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
# Of all that a server may say no with, these may be over soon.
_PASSING = {408, 425, 429}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file; `checksum` is how its digest by `algorithm` begins. Without `exact`, `bytes` is only
    about how large it is.
    """

    name: str
    bytes: int
    algorithm: Literal["md5", "sha256"]
    checksum: str
    exact: bool = True

    @property
    def most(self) -> int:
        """Bytes that it has at most."""
        return self.bytes if self.exact else 2 * self.bytes + (1 << 20)

    def may_have(self, size: int) -> bool:
        """Whether it may be so many bytes long."""
        return size == self.bytes if self.exact else size <= self.most

    def is_too_short(self, size: int) -> bool:
        """Whether so many bytes cannot be all, where nobody has said how many they are."""
        return size < (self.bytes if self.exact else self.bytes * 0.99)


@dataclass(slots=True, eq=False)
class _Mirror:
    """An address, and how it has done: `rate` in bytes per second since it was asked, `answer` what
    became of it. A suspect is one with which a file went wrong that was not all its own.
    """

    url: str
    answer: str = "was not asked"
    source: str = ""
    rate: float | None = None
    standing: Literal["open", "suspect", "out"] = "open"
    forgiven: bool = False


def bring(
    wanted: Wanted, target: Path, urls: Sequence[str], *, at: At, patience: Patience
) -> str | None:
    """Puts the file into its place, safely on disk; returns who gave the last of it, if anybody
    was asked. One process downloads, others that want the same wait for it.

    What has come so far is kept, whatever `at` raises or servers do, and carried on with the next
    time. Raises `NotServed` that tells of every address, `Problem` disk_full, `OSError`.
    """
    with unfinished.held(target, wanted.algorithm, waiting=at) as part:
        if is_there(wanted, target):
            return None
        part.read(at)
        served = None
        if not _is_whole(wanted, part):
            served = _download(wanted, part, target, urls=urls, at=at, patience=patience)
        part.finish(target)
        return served


def is_there(wanted: Wanted, path: Path) -> bool:
    """Whether a file is the wanted one."""
    try:
        with path.open("rb") as file:
            digest = file_digest(file, lambda: new(wanted.algorithm, usedforsecurity=False))
    except OSError:
        return False
    return digest.hexdigest().startswith(wanted.checksum)


def _is_whole(wanted: Wanted, part: Unfinished) -> bool:
    return part.size > 0 and part.hexdigest().startswith(wanted.checksum)


def _download(
    wanted: Wanted,
    part: Unfinished,
    target: Path,
    *,
    urls: Sequence[str],
    at: At,
    patience: Patience,
) -> str:
    if part.size >= wanted.most:  # and still not what is wanted
        part.clear()
    free, more = shutil.disk_usage(target.parent).free, wanted.bytes - part.size
    if free < more:
        detail = f"{wanted.name} takes {more:,} bytes more; {free:,} are free in {target.parent}."
        raise Problem("disk_full", detail)
    try:
        return _Transfer(wanted, part, urls, at=at, patience=patience).run()
    except OSError as error:
        if error.errno in FULL:  # for everybody else on this machine too
            part.clear()
        raise


class _Transfer:
    """One file from several mirrors."""

    def __init__(
        self,
        wanted: Wanted,
        part: Unfinished,
        urls: Sequence[str],
        *,
        at: At,
        patience: Patience,
    ) -> None:
        self._wanted, self._part = wanted, part
        self._mirrors = [_Mirror(url) for url in dict.fromkeys(urls)]
        self._at, self._patience = at, patience

    def run(self) -> str:
        """Asks in rounds for as long as that helps. Returns the url that gave the last bytes."""
        while True:
            before = self._part.size
            for mirror in self._in_order():
                if self._try(mirror):
                    return mirror.url
            # Two who finish it wrongly are rather right than what they finished.
            agreed = len(self._suspects()) > 1
            if not agreed and self._part.size - before >= self._worth_a_round():
                self._rest()
            elif not self._begin_anew():
                tried = "; ".join(f"{replies.shown(one.url)} {one.answer}" for one in self._mirrors)
                raise NotServed(f"{self._wanted.name} could not be downloaded: {tried}.")

    def _in_order(self) -> list[_Mirror]:
        """As they were given; once they are known, the fastest first."""
        still = [mirror for mirror in self._mirrors if mirror.standing == "open"]
        return sorted(still, key=lambda mirror: (not mirror.forgiven, -(mirror.rate or 0.0)))

    def _worth_a_round(self) -> float:
        """Bytes that one must have brought for another: slow and bad lines get to the end too."""
        slow = self._patience.least * self._patience.window_seconds
        return max(1.0, min(self._wanted.bytes / 100, slow))

    def _rest(self) -> None:
        until = monotonic() + self._patience.pause_seconds
        while (left := until - monotonic()) > 0:
            sleep(min(left, replies.TICK_SECONDS))
            self._at(self._part.size)

    def _begin_anew(self) -> bool:
        """Nobody could finish what is there, so that is to blame. Those who were suspected for it
        get another chance.
        """
        suspects = self._suspects()
        for mirror in suspects:
            mirror.standing, mirror.forgiven = "open", True
        if suspects:
            self._part.clear()
        return bool(suspects)

    def _suspects(self) -> list[_Mirror]:
        return [mirror for mirror in self._mirrors if mirror.standing == "suspect"]

    def _try(self, mirror: _Mirror) -> bool:
        """Whether the file is whole now."""
        try:
            self._receive(mirror)
        except Refused as error:
            mirror.standing, mirror.answer = "out", str(error)
        except NotServed as error:
            mirror.answer = str(error)
        else:
            if _is_whole(self._wanted, self._part):
                return True
            self._doubt(mirror)
        mirror.rate = mirror.rate or 0.0
        return False

    def _doubt(self, mirror: _Mirror) -> None:
        """The whole is wrong, so the bytes that came last go first. Those before them go when
        nobody can finish the file with them.
        """
        sure = mirror.forgiven or self._part.is_all_from(mirror.source)
        self._part.drop(mirror.source)
        mirror.standing = "out" if sure else "suspect"
        mirror.answer = f"gave another file: its {self._wanted.algorithm} is wrong"

    def _receive(self, mirror: _Mirror) -> None:
        """Appends what it has to give; returns when that should have been all."""
        pace, limit = Pace(self._patience.window_seconds), 0.0
        skip, length = 0, None
        mirror.source = mirror.url
        answer = replies.ask(mirror.url, self._headers(), self._patience)
        with closing(answer):
            for said in answer:
                self._at(self._part.size)
                if isinstance(said, httpx.Response):
                    skip, length = self._open(said, mirror)
                    pace, limit = Pace(self._patience.window_seconds), self._limit(mirror)
                elif said:
                    pace.add(len(said))
                    self._append(said[skip:], mirror)
                    skip = max(0, skip - len(said))
                    slow = pace.is_under(limit)
                    mirror.rate = pace.rate
                    if slow:
                        raise NotServed(f"gave only {pace.rate:,.0f} bytes a second")
        size = self._part.size - skip
        self._at(self._part.size)
        if skip or (self._wanted.is_too_short(size) if length is None else size < length):
            raise NotServed(f"ended after {size:,} bytes")

    def _limit(self, mirror: _Mirror) -> float:
        """Bytes per second under which another one is worth a try."""
        others = [one.rate for one in self._mirrors if one.standing == "open" and one is not mirror]
        if None in others:
            return self._patience.slow
        best = max((rate for rate in others if rate), default=0.0)
        return max(self._patience.least, min(self._patience.slow, best / 2))

    def _append(self, data: bytes, mirror: _Mirror) -> None:
        if self._part.size + len(data) > self._wanted.most:
            self._part.drop(mirror.source)
            raise Refused("gave another file: it is too long")
        self._part.write(data)

    def _headers(self) -> dict[str, str]:
        """Without If-Range: the same file has other tags on other servers of one name, and the
        checksum finds out what did not belong together.
        """
        headers = {"Accept-Encoding": "identity"}
        return headers | {"Range": f"bytes={self._part.size}-"} if self._part.size else headers

    def _open(self, head: httpx.Response, mirror: _Mirror) -> tuple[int, int | None]:
        """Looks at the head of an answer; returns how many of its bytes are there already, and how
        long the file is, if that is said.
        """
        if head.status_code == 416 and not self._wanted.exact:  # no more: it should be whole
            return 0, 0
        if head.status_code not in (200, 206):
            _refuse(head)
        if head.headers.get("Content-Type", "").startswith("text/html"):
            raise Refused("gave a web page")
        begins, length = _extent(head)
        if begins not in (0, self._part.size):
            raise Refused("gave another part of the file than it was asked for")
        if length is not None and not self._wanted.may_have(length):
            right = f"{self._wanted.bytes:,}"
            raise Refused(f"has another file: of {length:,} bytes, not of {right}")
        # One that has changed its file is another source: what it gave before may be right.
        mirror.source = f"{mirror.url} {head.headers.get('ETag', '')}"
        self._part.begin(mirror.source)
        return self._part.size - begins, length


def _refuse(head: httpx.Response) -> None:
    said = f"says {head.status_code} {head.reason_phrase}"
    for_good = 400 <= head.status_code < 500 and head.status_code not in _PASSING
    raise Refused(said) if for_good else NotServed(said)


def _extent(head: httpx.Response) -> tuple[int, int | None]:
    """Where in the file an answer begins, and how long the file is, if that is said."""
    if head.status_code == 206:
        found = _CONTENT_RANGE.match(head.headers.get("Content-Range", ""))
        if not found:
            raise Refused("does not say which part of the file it gives")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = head.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None
