"""Files of pretrained weights: found on this machine or downloaded, and taken only when their
checksum is right.

Knows nothing of what is in them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from data_store import downloads, transfers, unfinished
from data_store.patience import PATIENCE, Patience
from data_store.progress import Progress, paced
from data_store.replies import NotServed
from problems import Problem

# Below a mirror, as in a home.
MIRRORED = "weights/"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file; `sha256` is how its checksum begins, and `bytes` about how large it is."""

    name: str
    url: str
    sha256: str
    bytes: int


class _TooLate(Exception):
    """The time for a download is over."""


def find(wanted: Wanted, folders: Sequence[Path]) -> Path | None:
    """Where the file lies already, whole."""
    paths = (folder / wanted.name for folder in folders)
    return next((path for path in paths if transfers.is_there(_file(wanted), path)), None)


def fetch(
    wanted: Wanted,
    folder: Path,
    progress: Progress,
    *,
    mirrors: Sequence[str] = (),
    patience: Patience = PATIENCE,
    seconds: float = math.inf,
) -> Path:
    """Downloads the file into `folder`, under its name only when it is whole.

    `mirrors` are asked before the address where it was published. What has come is kept for the
    next time, also when `seconds` were not enough. Raises `disk_full`, or `weights_unavailable`
    whose hint says which file belongs where.
    """
    deadline, target = monotonic() + seconds, folder / wanted.name
    here = unfinished.size(target)
    grow = downloads.growing(paced(progress, "downloading", wanted.bytes, done=here), here)

    def at(size: int) -> None:
        grow(size)
        if monotonic() > deadline:
            raise _TooLate

    urls = [*(f"{mirror}{MIRRORED}{wanted.name}" for mirror in mirrors), wanted.url]
    try:
        transfers.bring(_file(wanted), target, urls, at=at, patience=patience)
    except _TooLate as error:
        detail = f"{wanted.name} did not come within {seconds:g} s"
        raise _unavailable(detail, wanted, folder) from error
    except NotServed as error:
        raise _unavailable(str(error), wanted, folder) from error
    except OSError as error:
        if error.errno in transfers.FULL:
            raise Problem("disk_full", f"The disk filled up while writing to {folder}.") from error
        detail = f"{folder} cannot be written: {error.strerror}"
        raise _unavailable(detail, wanted, folder) from error
    grow(wanted.bytes)
    return target


def _file(wanted: Wanted) -> transfers.Wanted:
    return transfers.Wanted(
        wanted.name, wanted.bytes, algorithm="sha256", checksum=wanted.sha256, exact=False
    )


def _unavailable(detail: str, wanted: Wanted, folder: Path) -> Problem:
    so_far = downloads.so_far(folder / wanted.name)
    hint = (
        f"Put {wanted.name} (about {wanted.bytes / 1e6:,.0f} MB, sha256 {wanted.sha256}…{so_far}) "
        f"from {wanted.url} into {folder.resolve()} and train again, {downloads.NEXT_TIME}, or "
        "train with pretrained: false."
    )
    return Problem("weights_unavailable", f"{detail.removesuffix('.')}.", hint=hint)
