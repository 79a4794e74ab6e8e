"""Where the images of an archive go: danlu's layout, found in the one that people have.

Works on paths alone and touches no file.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from data_store import entries, folder
from problems import Problem

_WRAPPERS = 2  # folders around everything that are taken off
_LISTED = 5

Why = Literal["no image", "in no class folder", "in none of the parts", "too large"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of the archive that is not taken, and why."""

    file: str
    why: Why


@dataclass(frozen=True, slots=True)
class Arrangement:
    """`places` has where each image goes, by its number in the archive. Junk is in neither."""

    places: Mapping[int, str]
    left_out: Sequence[LeftOut]


def is_junk(path: str) -> bool:
    """Whether a system left the file there, and nobody misses it."""
    steps = path.split("/")
    hidden = any(step.startswith(".") or step in folder.IGNORED for step in steps)
    return hidden or steps[-1].lower() in ("thumbs.db", "desktop.ini", "icon\r")


def arrange(
    paths: Mapping[int, str], *, known: Collection[str] = (), too_large: Collection[int] = ()
) -> Arrangement:
    """Where images go, of the `paths` of all files of an archive by number.

    Folders around everything are taken off. `known` are the classes of a data set that the images
    are added to: then one class is enough. Those that are `too_large` have no place, and change
    none of the others. Raises `Problem` dataset_invalid when no data set can
    be made of it, archive_invalid or archive_unsafe for names that cannot be written.
    """
    left_out: list[LeftOut] = []
    steps: dict[int, list[str]] = {}
    for number, path in paths.items():
        if not path or is_junk(path):
            continue
        if path.lower().endswith(folder.EXTENSIONS):
            steps[number] = path.split("/")
        else:
            left_out.append(LeftOut(path, "no image"))
    if not steps:
        raise _no_images(left_out)
    _unwrap(steps, known)
    places: dict[int, str] = {}
    spelled: dict[str, str] = {}  # val for validation too, where that comes first
    has_parts = _has_parts(steps.values(), known)
    for number, inside in steps.items():
        why = _why_not(inside, has_parts=has_parts)
        if why or number in too_large:
            left_out.append(LeftOut(paths[number], why or "too large"))
            continue
        if part := has_parts and folder.part_of(inside[0]):
            inside[0] = spelled.setdefault(part, inside[0])
        places[number] = "/".join(inside)
    _check_names(places.values())
    _check_classes(places.values(), has_parts=has_parts, known=known, left_out=left_out)
    return Arrangement(places, left_out)


def _unwrap(steps: Mapping[int, list[str]], known: Collection[str]) -> None:
    """Takes off a folder around everything, and perhaps one more."""
    for _ in range(_WRAPPERS):
        tops = {inside[0] for inside in steps.values()}
        inner = {inside[1] for inside in steps.values() if len(inside) > 2}
        loose = any(len(inside) == 2 for inside in steps.values())
        # A folder with images and one more folder is a class that somebody keeps in two places.
        if len(tops) > 1 or not inner or (loose and len(inner) == 1):
            return
        if folder.part_of(top := tops.pop()) or entries.fold(top) in map(entries.fold, known):
            return
        for inside in steps.values():
            del inside[0]


def _has_parts(images: Collection[Sequence[str]], known: Collection[str]) -> bool:
    """Whether there is a `train` folder with folders in it; what lies loose in it is no class. What
    is added to a data set may be of other parts alone.
    """
    parts = {folder.part_of(inside[0]) for inside in images if len(inside) > 2}
    only_parts = all(folder.part_of(inside[0]) for inside in images)
    return "train" in parts or bool(known and parts and only_parts)


def _why_not(inside: Sequence[str], *, has_parts: bool) -> Why | None:
    if has_parts and not folder.part_of(inside[0]):
        return "in none of the parts"
    return "in no class folder" if len(inside) < (3 if has_parts else 2) else None


def _check_names(places: Iterable[str]) -> None:
    """Each path, and each folder on the way, is written in one way only and can be."""
    seen: dict[str, tuple[str, bool]] = {}
    for path in places:
        entries.check_writable(path)
        steps = path.split("/")
        for end in range(1, len(steps) + 1):
            here = "/".join(steps[:end]), end == len(steps)
            there = seen.setdefault(entries.fold(here[0]), here)
            if there != here or (there is not here and here[1]):
                raise _collision(there[0], here[0])


def _check_classes(
    places: Collection[str],
    *,
    has_parts: bool,
    known: Collection[str],
    left_out: Sequence[LeftOut],
) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for path in places:
        part, name = path.split("/")[:2] if has_parts else ("train", path.split("/")[0])
        counts[folder.part_of(part) or part][name] += 1
    train = counts["train"]
    if not places:
        raise _no_classes(left_out)
    folder.check_number(len(train))
    if known:
        return
    if all(map(folder.part_of, train)):
        raise _invalid(f"There is {_listed(train)}, but no train folder with classes in it.")
    if len(train) < 2:
        name, count = next(iter(train.items()))
        raise _invalid(f"There is only the class {name!r}, with {count:,} images; it takes two.")
    for part, classes in counts.items():
        if strangers := [name for name in classes if name not in train]:
            raise _invalid(f"{part} has {_listed(strangers)}, which train has no images of.")


def _no_images(left_out: Sequence[LeftOut]) -> Problem:
    if not left_out:
        return _invalid("There is nothing in the archive.")
    endings = Counter(f".{each.file.rpartition('.')[2]}"[:20] for each in left_out)
    found = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(_LISTED))
    return _invalid(f"There are no images among the {len(left_out):,} files ({found}).")


def _no_classes(left_out: Sequence[LeftOut]) -> Problem:
    if large := [each.file for each in left_out if each.why == "too large"]:
        return _invalid(f"The {len(large):,} images are too large: {_listed(large)}.")
    loose = [each.file for each in left_out if each.why != "no image"]
    return _invalid(f"The {len(loose):,} images lie in no class folders: {_listed(loose)}.")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(map(entries.shown, names[:_LISTED])) + more


def _collision(one: str, other: str) -> Problem:
    said = f"The archive has {entries.shown(other)} twice."
    if one != other:
        one, other = entries.shown(one), entries.shown(other)
        said = f"The archive has {one} and {other}, which are one file on many systems."
    return Problem("archive_invalid", said, hint="Rename one of them.")


def _invalid(detail: str) -> Problem:
    return Problem("dataset_invalid", detail, hint=folder.LAYOUT)
