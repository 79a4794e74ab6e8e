"""Where the images of an archive go: danlu's layout, found in the one that people have.

Works on paths alone and touches no file.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from data_store import entries, folder, limits
from problems import Problem

_WRAPPERS = 2  # folders around everything that are taken off
_LISTED = 5
_PACKED = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".rar")
_UNPACK = "Archives in an archive are not opened: unpack it, and send the folder of images in it."
_MOST_LISTED = 10  # of what has to be put right before anything can be done

Why = Literal[
    "no image", "in no class folder", "in none of the parts", "too large", "named like another"
]
ADVICE: Mapping[Why, str] = {
    "no image": "Images are taken that have an ending such as .jpg or .png.",
    "in no class folder": "Put images into the folder of their class.",
    "in none of the parts": "Put images into train, val or test.",
    "too large": f"Scale images down that have more than {limits.MOST_IMAGE_BYTES // 10**6} MB.",
    "named like another": "Give files names that differ by more than upper and lower case.",
}


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
    none of the others. Of files in one class whose names are one for some systems, as `1.jpg` and
    `1.JPG` are, the first has a place. Raises `Problem` dataset_invalid when no data set can be
    made of it, archive_invalid or archive_unsafe for names that cannot be written, and for classes
    whose names are one for some systems.
    """
    left_out: list[LeftOut] = []
    steps = _candidates(paths, left_out)
    if not steps:
        raise _no_images(left_out)
    _unwrap(steps, known)
    has_parts = _has_parts(steps.values(), known)
    if has_parts:
        _spell_parts(steps.values())
    names = _Names(class_depth=2 if has_parts else 1)
    places: dict[int, str] = {}
    for number, inside in steps.items():
        why = _why_not(inside, has_parts=has_parts, is_too_large=number in too_large)
        if why is None and (place := names.take("/".join(inside))):
            places[number] = place
        else:
            left_out.append(LeftOut(paths[number], why or "named like another"))
    names.check()
    _check_classes(places.values(), has_parts=has_parts, known=known, left_out=left_out)
    return Arrangement(places, left_out)


def _candidates(paths: Mapping[int, str], left_out: list[LeftOut]) -> dict[int, list[str]]:
    """The steps of each path that may be that of an image."""
    steps = {}
    for number, path in paths.items():
        if not path or is_junk(path):
            continue
        if path.lower().endswith(folder.EXTENSIONS):
            steps[number] = path.split("/")
        else:
            left_out.append(LeftOut(path, "no image"))
    return steps


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


def _spell_parts(images: Iterable[list[str]]) -> None:
    """`val` becomes `validation` too, where that comes first."""
    spelled: dict[str, str] = {}
    for inside in images:
        if part := folder.part_of(inside[0]):
            inside[0] = spelled.setdefault(part, inside[0])


def _why_not(inside: Sequence[str], *, has_parts: bool, is_too_large: bool) -> Why | None:
    if has_parts and not folder.part_of(inside[0]):
        return "in none of the parts"
    if len(inside) < (3 if has_parts else 2):
        return "in no class folder"
    return "too large" if is_too_large else None


class _Names:
    """Which names are taken, as systems see it that do not tell upper from lower case."""

    def __init__(self, *, class_depth: int) -> None:
        self._class_depth = class_depth
        self._files: dict[str, str] = {}  # folded, and as they were asked for
        self._folders: dict[str, str] = {}  # folded, and as they are written
        self._places: dict[str, str | None] = {}  # of folders as they were asked for
        self._classes: dict[str, str] = {}  # that meet
        self._twice: list[str] = []

    def take(self, path: str) -> str | None:
        """Where an image goes: folders in a class are written as they were first. None when
        something else is there. Raises `Problem` for what cannot be written.
        """
        entries.check_writable(path)
        above, _, name = path.rpartition("/")
        if above not in self._places:
            self._places[above] = self._folder(above)
        place = self._places[above]
        if place is None:
            return None
        folded = entries.fold(target := f"{place}/{name}")
        if folded in self._files or folded in self._folders:
            if self._files.get(folded) == path:
                self._twice.append(path)
            return None
        self._files[folded] = path
        return target

    def check(self) -> None:
        """Raises `Problem` archive_invalid for classes that meet, and for what is there twice."""
        if self._classes:
            raise _classes_meet(self._classes)
        if self._twice:
            count = len(self._twice)
            what = f"{count:,} files" if count > 1 else "a file"
            raise Problem(
                "archive_invalid",
                f"The archive has {what} twice: {_listed(self._twice, most=_MOST_LISTED)}.",
                hint="Pack the folder of images again, or rename one of the two.",
            )

    def _folder(self, path: str) -> str | None:
        there = ""
        for depth, step in enumerate(path.split("/"), 1):
            here = f"{there}/{step}".lstrip("/")
            folded = entries.fold(here)
            if folded in self._files:
                return None
            there = self._folders.setdefault(folded, here)
            if there != here and depth == self._class_depth:
                self._classes[here] = there
        return there


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
        raise _invalid(f"There is only the class {name!r}, with {_images(count)}; it takes two.")
    for part, classes in counts.items():
        if strangers := [name for name in classes if name not in train]:
            raise _invalid(f"{part} has {_listed(strangers)}, which train has no images of.")


def _no_images(left_out: Sequence[LeftOut]) -> Problem:
    if not left_out:
        return _invalid("There is nothing in the archive.")
    endings = Counter(PurePosixPath(each.file).suffix[:20] for each in left_out)
    found = ", ".join(
        f"{count:,} {ending or 'without an ending'}"
        for ending, count in endings.most_common(_LISTED)
    )
    hint = ADVICE["no image"] if "" in endings else folder.LAYOUT
    if any(each.file.lower().endswith(_PACKED) for each in left_out):
        hint = _UNPACK
    if len(left_out) == 1:
        return _invalid(f"The only file is no image ({found}).", hint)
    return _invalid(f"There are no images among the {len(left_out):,} files ({found}).", hint)


def _no_classes(left_out: Sequence[LeftOut]) -> Problem:
    if large := [each.file for each in left_out if each.why == "too large"]:
        are = "image is" if len(large) == 1 else f"{len(large):,} images are"
        return _invalid(f"The {are} too large: {_listed(large)}.", ADVICE["too large"])
    loose = [each.file for each in left_out if each.why != "no image"]
    lie = "image lies" if len(loose) == 1 else f"{len(loose):,} images lie"
    return _invalid(f"The {lie} in no class folder: {_listed(loose)}.")


def _listed(names: Iterable[str], *, most: int = _LISTED) -> str:
    return _first(map(entries.shown, names), most)


def _first(texts: Iterable[str], most: int) -> str:
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _classes_meet(pairs: Mapping[str, str]) -> Problem:
    shown = (f"{entries.shown(one)} and {entries.shown(two)}" for two, one in pairs.items())
    what = f"{len(pairs):,} pairs of classes" if len(pairs) > 1 else "a pair of classes"
    return Problem(
        "archive_invalid",
        f"The archive has {what} whose names are one folder on many systems: "
        f"{_first(shown, _MOST_LISTED)}.",
        hint="Put the images of each pair into one folder, or rename one of the two.",
    )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _invalid(detail: str, hint: str = folder.LAYOUT) -> Problem:
    return Problem("dataset_invalid", detail, hint=hint)
