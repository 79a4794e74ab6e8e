"""Images added to a data set: a new folder that has both, and leaves the old one as it is.

Files of the old set are hard links, so that nothing is copied. Knows nothing of archives.
"""

import filecmp
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data_store import entries, folder
from data_store.staging import HIDDEN


@dataclass(frozen=True, slots=True)
class Merged:
    """The paths of the images that came new, and how many were there already with the same bytes.

    `renamed` are those whose names other images had.
    """

    new: frozenset[str]
    present: int
    renamed: int


def classes(existing: Path) -> tuple[str, ...]:
    """Those of the data set in the folder `existing`. Raises `dataset_invalid`."""
    return folder.scan(existing).classes


def merge(existing: Path, added: Path, into: Path, tick: Callable[[], None]) -> Merged:
    """Makes the folder `into` of the data set in `existing` and of the images in `added`, which are
    moved. Where only one of them has parts, the other is its training part.

    Raises `dataset_invalid` for an `existing` that is no data set.
    """
    into.mkdir()
    merging = _Merging(existing, added, into)
    merging.link_existing(tick)
    return merging.take_added(tick)


class _Merging:
    def __init__(self, existing: Path, added: Path, into: Path) -> None:
        self._existing, self._added, self._into = existing, added, into
        self._old = folder.places(existing)
        self._new = _places(added)
        self._parted = "." not in self._old.values() or "." not in self._new.values()
        # Every path and every folder on the way, as the old set writes it: some systems would take
        # another spelling for the same.
        self._spelled: dict[str, str] = {}

    def link_existing(self, tick: Callable[[], None]) -> None:
        """Images as `folder.scan` finds them, also behind links, and whatever else lies there."""
        scan = folder.scan(self._existing)
        images = [image.path for found in scan.parts.values() for image in found]
        for path in dict.fromkeys([*images, *_files(self._existing)]):
            tick()
            moved = self._moved(path, self._old)
            self._spell(moved)
            target = self._into / moved
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self._existing / path, target)

    def take_added(self, tick: Callable[[], None]) -> Merged:
        new, present, renamed = [], 0, 0
        for path in sorted(_files(self._added)):
            tick()
            wanted = self._spell(self._moved(path, self._new))
            free, same = self._free(wanted, self._added / path)
            if same:
                present += 1
                continue
            target = self._into / free
            target.parent.mkdir(parents=True, exist_ok=True)
            (self._added / path).rename(target)
            self._spell(free)
            new.append(free)
            renamed += free != wanted
        return Merged(frozenset(new), present, renamed)

    def _moved(self, path: str, places: dict[str, str]) -> str:
        """Where a file of either set belongs in the new one."""
        if not self._parted or "/" not in path:
            return path
        for part, place in places.items():
            if place == "." or path.startswith(f"{place}/"):
                inside = path if place == "." else path.removeprefix(f"{place}/")
                there = self._old.get(part, part)
                return f"{part if there == '.' else there}/{inside}"
        return path

    def _spell(self, path: str) -> str:
        """`path` as it, and the folders on the way, are written already."""
        spelled = ""
        for step in path.split("/"):
            here = f"{spelled}/{step}".lstrip("/")
            spelled = self._spelled.setdefault(entries.fold(here), here)
        return spelled

    def _free(self, wanted: str, file: Path) -> tuple[str, bool]:
        """A name that nobody has, and whether the file is there already."""
        stem, dot, ending = wanted.rpartition(".")
        name, number = wanted, 1
        while (self._into / name).exists():
            if filecmp.cmp(self._into / name, file, shallow=False):
                return name, True
            number += 1
            name = self._spell(f"{stem}-{number}{dot}{ending}")
        return name, False


def _places(added: Path) -> dict[str, str]:
    """As `folder.places`, also of parts without `train`."""
    found = folder.places(added)
    names = [entry.name for entry in added.iterdir()]
    if found == {"train": "."} and all(map(folder.part_of, names)):
        return {part: name for name in names if (part := folder.part_of(name))}
    return found


def _files(path: Path) -> Iterable[str]:
    """Regular files below `path`, but for what danlu knows of it."""
    for here, folders, names in os.walk(path):
        if HIDDEN in folders and Path(here) == path:
            folders.remove(HIDDEN)
        for name in names:
            file = Path(here, name)
            if file.is_file() and not file.is_symlink():
                yield file.relative_to(path).as_posix()


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where it lies on another disk."""
    source = source.resolve()
    with suppress(OSError):
        target.hardlink_to(source)
        return
    shutil.copy2(source, target)
