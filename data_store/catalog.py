"""What data sets there are, and what is known about each without decoding it.

Knows nothing of pixels: `arrays` reads them.
"""

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import time_ns
from typing import Any, Literal

from data_store import cache as decoded
from data_store import defaults, downloads, folder, headers, origin, readers, sources
from data_store.built_in import SETS
from data_store.gallery import Gallery
from problems import Problem, did_you_mean, match

# Two changes within one tick of a file system's clock leave the same time: 2 s on the slowest.
_TICK_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a data set without decoding it.

    `counts` has "train", maybe "val" and "test". For a folder, `height` and `width` are the median
    of a sample of its files, and `channels` is 1 only if all of them are grey. `available`: no
    download is needed. `version` hashes the content; it is known once the set has been decoded.
    `defaults` has the form of a submitted recipe.
    """

    name: str
    origin: Literal["built_in", "folder"]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    height: int
    width: int
    channels: int
    available: bool
    version: str | None
    defaults: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A folder as it was found, to be believed while the `stamps` of its folders stay the same, and
    sizes and times of the `sample` that facts were told by. `bytes` are those of its images.
    """

    facts: Facts
    key: str
    bytes: int
    stamps: Mapping[str, int]
    sample: Mapping[Path, tuple[int, int]]

    def is_unchanged(self) -> bool:
        """Whether all of these are as they were."""
        try:
            folders = all(Path(path).stat().st_mtime_ns == at for path, at in self.stamps.items())
            return folders and all(_size_and_time(path) == at for path, at in self.sample.items())
        except OSError:
            return False

    def will_tell(self, began: int) -> bool:
        """Whether every change since it `began` to be read leaves another time. Files may have any
        time, also one to come.
        """
        times = (time for _, time in self.sample.values())
        return max(self.stamps.values()) < began - _TICK_NS and all(
            abs(time - began) > _TICK_NS for time in times
        )


_seen: dict[Path, _Seen] = {}


def names(root: Path) -> list[str]:
    """Every data set that can be trained on: the built-in ones, then usable folders of `root`."""
    return [*SETS, *(name for name in _folders(root) if _usable(root / name))]


def canonical(name: str, root: Path) -> str:
    """The data set that `name` means, minding neither case nor `-` and `_`.

    A built-in set goes before a folder of its name. Names are looked up, never joined to a path.
    Raises `dataset_unknown`, with what was perhaps meant.
    """
    found = match(name, SETS) or match(name, _folders(root))
    if found is None:
        hint = did_you_mean(name, names(root))
        raise Problem("dataset_unknown", f"There is no data set named {name!r}.", hint=hint)
    return found


def own(name: str, root: Path) -> str | None:
    """The folder of `root` that `name` means, usable or not; None when it means none."""
    return match(name, _folders(root))


def is_as_imported(name: str, root: Path) -> bool:
    """Whether the folder `name` still has as many images and bytes as its import counted. Their
    times say nothing: who copies a home gives them others.
    """
    report = origin.report(root / name) or {}
    try:
        seen = _look(root / name)
        counted = {part["part"]: part["images"] for part in report["parts"]}
        return (counted, report["bytes"]) == (dict(seen.facts.counts), seen.bytes)
    except (Problem, KeyError, TypeError):  # no data set any more, or somebody else's report
        return False


def key(name: str, root: Path) -> str:
    """What names the decoded images of the folder `name` as it is now: all of it is listed. Raises
    `dataset_invalid`.
    """
    return sources.folder_key(root / name, folder.scan(root / name))


def keys(root: Path) -> set[str]:
    """What names the decoded images of all data sets that are there, as they are now."""
    found = {its for name in SETS if (its := _built_in(name, root)[1])}
    for name in _folders(root):
        with suppress(Problem):  # it cannot be trained on
            found.add(key(name, root))
    return found


def facts(name: str, root: Path, *, cache: Path | None = None) -> Facts:
    """What is known about a data set; `cache`, where `arrays.load` keeps sets, knows its version.

    A folder is read through once (60,000 files: half a second) and then again when a file came or
    went, or one of those that it is told by was written over. Raises `dataset_unknown`, and
    `dataset_invalid` for a folder that cannot be trained on.
    """
    name = canonical(name, root)
    if name in SETS:
        found, key = _built_in(name, root)
    else:
        seen = _look(root / name)
        found, key = seen.facts, seen.key
    version = decoded.version(cache, key) if cache and key else None
    return replace(found, version=version, defaults=copy.deepcopy(found.defaults))


def _folders(root: Path) -> list[str]:
    """Folders that may be data sets: not hidden, not named like a built-in one."""
    try:
        entries = [entry.name for entry in root.iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(
        name
        for name in entries
        if not name.startswith(".") and match(name, SETS) is None and folder.shown(name) == name
    )


def _usable(path: Path) -> bool:
    try:
        _look(path)
    except Problem:
        return False
    return True


def _built_in(name: str, root: Path) -> tuple[Facts, str | None]:
    known = SETS[name]
    here = all(file.is_file() for file in readers.files(name, root))
    height, width = known.size
    found = Facts(
        name=name,
        origin="built_in",
        classes=known.classes,
        counts=known.counts,
        height=height,
        width=width,
        channels=known.channels,
        available=downloads.is_local(known, root),
        version=None,
        defaults=known.defaults,
    )
    return found, sources.built_in_key(name, root) if here else None


def _look(path: Path) -> _Seen:
    seen = _seen.get(path)
    if seen is None or not seen.is_unchanged():
        began = time_ns()
        seen = _read(path)
        if seen.will_tell(began):
            _seen[path] = seen
    return seen


def _imbalance(images: Gallery) -> float:
    counts = images.counts().values()
    return max(counts) / min(counts)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _read(path: Path) -> _Seen:
    scan = folder.scan(path)
    train = scan.parts["train"]
    sample = {path / image.path: (image.size, image.mtime_ns) for image in folder.sample(train)}
    shape = headers.typical(sample)
    if shape is None:
        raise Problem(
            "dataset_invalid",
            f"None of the images of {path.name!r} can be read.",
            hint="Put whole files of images there, such as JPEG or PNG.",
        )
    height, width, channels = shape
    found = Facts(
        name=path.name,
        origin="folder",
        classes=scan.classes,
        counts={part: len(images) for part, images in scan.parts.items()},
        height=height,
        width=width,
        channels=channels,
        available=True,
        version=None,
        defaults=defaults.for_folder(
            height=height, width=width, images=len(train), imbalance=_imbalance(train)
        ),
    )
    size = sum(images.disk_bytes for images in scan.parts.values())
    return _Seen(found, sources.folder_key(path, scan), size, scan.stamps, sample)
