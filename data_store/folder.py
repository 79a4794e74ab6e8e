"""A data set as a folder per class: which images lie in it, of which class, in which part.

Reads names, sizes and times of files and never what is in them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_store import statuses
from data_store.gallery import Gallery, Image, Shelf
from problems import Problem

# What torchvision's ImageFolder takes, and more that danlu decodes.
_IMAGE_FOLDERS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
EXTENSIONS = (*_IMAGE_FOLDERS, ".gif", ".avif", ".heic", ".heif")
# A report counts each pair of classes: its matrix has 200 MB then.
MOST_CLASSES = 5_000
_SAMPLE = 64
_PARTS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
# Left behind by macOS archives and by Synology's thumbnails; each would become a class.
IGNORED = {"__MACOSX", "@eaDir"}
# A label, a folder, and the names of the images in it.
Listed = tuple[int, str, list[str]]
LAYOUT = "Put the images of each class in a folder of its own: NAME/cat/1.jpg, NAME/dog/2.jpg."


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a data set's folder: `classes` sorted, `parts` in ImageFolder's order.

    `stamps` has the modification time of every folder that was read: while they stay the same no
    file has come or gone.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Gallery]
    stamps: Mapping[str, int]


def scan(path: Path, *, name: str | None = None) -> Scan:
    """All images below `path`: in `train/`, `val/` and `test/`, or one folder per class.

    Classes and order of files are those of torchvision's ImageFolder; hidden files are not seen.
    Raises `dataset_invalid` when there are fewer than two classes or too many, a class of `train`
    is empty, or another part has a class that `train` lacks; it calls the set `name`, by default
    as its folder.
    """
    try:
        return _scan(path, name or path.name)
    except OSError as error:
        raise _unreadable(path, error) from error


def places(path: Path) -> dict[str, str]:
    """Where each part lies, from the data set's folder on: `.` for one without parts.

    Raises `dataset_invalid`.
    """
    try:
        found = _part_folders(path, {})
    except OSError as error:
        raise _unreadable(path, error) from error
    return {part: os.path.relpath(place, path) for part, place in found.items()}


def is_image_folder(path: Path) -> bool:
    """Whether torchvision's ImageFolder finds in the folders of the classes what `scan` finds.

    Raises `dataset_invalid`.
    """
    ours = {image.path for images in scan(path).parts.values() for image in images}
    folders = {path / place for place in places(path).values()}
    classes = [entry for each in folders for entry in _folders(each, {})]
    theirs = {
        os.path.relpath(Path(folder, name), path).replace(os.sep, "/")
        for entry in classes
        for folder, _, names in os.walk(entry.path, followlinks=True)
        for name in names
        if name.lower().endswith(_IMAGE_FOLDERS)
    }
    return ours == theirs


def sample(images: Sequence[Image]) -> Sequence[Image]:
    """Some of them, evenly taken."""
    return images[:: max(1, len(images) // _SAMPLE)][:_SAMPLE]


def check_number(classes: int) -> None:
    """Raises `dataset_invalid` for more classes than danlu takes."""
    if classes > MOST_CLASSES:
        raise Problem(
            "dataset_invalid",
            f"There are {classes:,} classes; danlu takes at most {MOST_CLASSES:,}.",
            hint="Each folder is a class: put images of the same kind into one folder.",
        )


def part_of(name: str) -> str | None:
    """The part of a data set that a folder of this name may hold: "train", "val", "test"."""
    return _PARTS.get(name.lower())


def shown(name: str) -> str:
    """`name` as it can be written: bytes of a file name that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _scan(path: Path, name: str) -> Scan:
    stamps: dict[str, int] = {}
    folders = _part_folders(path, stamps)
    classes = tuple(entry.name for entry in _folders(folders["train"], stamps))
    found = {part: [*_listed(folder, classes, stamps)] for part, folder in folders.items()}
    parts = _galleries(path, found)
    _check(name, classes, parts)
    for part in ("val", "test"):
        if not parts.get(part):  # unlabelled, or there is none
            parts.pop(part, None)
    return Scan(tuple(shown(name) for name in classes), parts, stamps)


def _part_folders(path: Path, stamps: dict[str, int]) -> dict[str, str]:
    """Where each part lies. A class may be called train: then it holds images, and no folders."""
    named = [entry for entry in _folders(path, stamps) if part_of(entry.name)]
    found = {_PARTS[entry.name.lower()]: entry.path for entry in reversed(named)}  # val over valid
    train = found.get("train")
    if train and any(_folders(train, stamps)) and not any(map(_is_image, _visible(train))):
        return {part: found[part] for part in ("train", "val", "test") if part in found}
    return {"train": str(path)}


def _listed(part: str, classes: tuple[str, ...], stamps: dict[str, int]) -> Iterator[Listed]:
    """The label, the folder and the names of the images of one part. A class folder that `classes`
    lacks gets a label past its end.
    """
    labels = {name: label for label, name in enumerate(classes)}
    for entry in _folders(part, stamps):
        label = labels.get(entry.name, len(classes))
        for folder, names in sorted(_below(entry.path, stamps)):
            names.sort()
            yield label, folder, names


def _galleries(path: Path, found: Mapping[str, list[Listed]]) -> dict[str, Gallery]:
    """With sizes and times, which are asked for of all parts together."""
    start = len(str(path)) + 1
    asked = [(folder, names) for part in found.values() for _, folder, names in part]
    sizes, times = statuses.of(asked)
    parts, at = {}, 0
    for part, listed in found.items():
        shelves = []
        for label, folder, names in listed:
            inside, end = folder[start:].replace(os.sep, "/") + "/", at + len(names)
            shelves.append(Shelf(inside, label, names, sizes[at:end], times[at:end]))
            at = end
        parts[part] = Gallery(shelves)
    return parts


def _below(folder: str, stamps: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    """`folder` and all folders in it, following links but never in a circle, each with the names
    of the images in it.
    """
    waiting: list[tuple[str, frozenset[Path]]] = [(folder, frozenset())]
    while waiting:
        current, above = waiting.pop()
        real = Path(current).resolve()
        if real in above:
            continue
        stamps[current] = _stamp(current)
        entries = _visible(current)
        names = [e.name for e in entries if _is_image(e)]
        yield current, names
        # Seldom is there anything else, and then it is not asked of each whether it is a folder.
        if len(names) < len(entries):
            waiting += [(e.path, above | {real}) for e in entries if e.is_dir()]


def _folders(path: str | Path, stamps: dict[str, int]) -> list[os.DirEntry[str]]:
    stamps[str(path)] = _stamp(path)
    return sorted(filter(os.DirEntry.is_dir, _visible(path)), key=lambda entry: entry.name)


def _stamp(path: str | Path) -> int:
    """To be taken before a listing: what arrives in between makes it old, not wrong."""
    return Path(path).stat().st_mtime_ns


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(EXTENSIONS) and entry.is_file()


def _visible(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [e for e in entries if e.name[0] != "." and e.name not in IGNORED]


def _check(name: str, classes: tuple[str, ...], parts: Mapping[str, Gallery]) -> None:
    if not any(parts.values()):
        raise _invalid(f"{name!r} holds no images in one folder per class.")
    if all(map(part_of, classes)):
        raise _invalid(f"{name!r} has {' and '.join(classes)}, but no train folder with classes.")
    if len(classes) < 2:
        raise _invalid(f"{name!r} has only the class {shown(classes[0])!r}; it takes two.")
    check_number(len(classes))
    filled = parts["train"].counts()
    empty = [shown(each) for label, each in enumerate(classes) if label not in filled]
    if empty:
        raise _invalid(f"{name!r} has no image in the class {', '.join(map(repr, empty))}.")
    for part in ("val", "test"):
        there = parts.get(part)
        if there and len(classes) in there.counts():
            stranger = next(image.path for image in there if image.label == len(classes))
            raise _invalid(f"{stranger!r} is of a class that the train part of {name!r} lacks.")


def _unreadable(path: Path, error: OSError) -> Problem:
    reason = error.strerror or str(error)
    return Problem("dataset_invalid", f"{path.name!r} cannot be read: {reason}.")


def _invalid(detail: str) -> Problem:
    return Problem("dataset_invalid", detail, hint=LAYOUT)
