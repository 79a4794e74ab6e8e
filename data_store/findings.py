"""What is wrong with the images of a data set, in words, and what to do about it.

Judges what others have seen and counted; reads no file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_store import folder, twins
from data_store.inspection import Unreadable
from data_store.report import Finding, PartCounts, files, finding
from data_store.twins import Integers

# A class of fewer images is learnt by heart.
_TINY = 10
# From here on danlu weighs rare classes more by itself, where the images are large.
_UNEVEN = 3.0

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}


@dataclass(frozen=True, slots=True)
class Images:
    """The N images that can be read: paths, parts, labels, and what `fingerprints` says of each."""

    paths: Sequence[str]
    parts: Sequence[str]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    digests: NDArray[np.uint64]  # (N, k)
    shapes: NDArray[np.uint64]  # (N,)
    thumbs: NDArray[np.uint8]  # (N, places, 3)

    def part_and_class(self, index: int) -> tuple[str, str]:
        """Of one image."""
        return self.parts[index], self.classes[self.labels[index]]


def is_named_rightly(path: str, format: str) -> bool:
    """Whether the ending of a file's name is that of its format."""
    return path.lower().endswith(_ENDINGS.get(format, ("",)))


def of_files(
    unreadable: Mapping[str, Unreadable], misnamed: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    """Files that cannot be read, and those that are of another format than their names say."""
    if unreadable:
        yield finding(
            "unreadable_images",
            len(unreadable),
            f"{_files(len(unreadable))} cannot be read and {_are(len(unreadable))} left out",
            "Send them again, whole and as images.",
            (
                {"file": folder.shown(path), "code": why.code, "message": why.message}
                for path, why in unreadable.items()
            ),
        )
    if misnamed:
        yield finding(
            "wrong_extension",
            len(misnamed),
            f"{_files(len(misnamed))} {_are(len(misnamed))} of another format than the name says",
            "danlu reads them by their content; other programs may not: rename them.",
            ({"file": folder.shown(path), "format": kind} for path, kind in misnamed),
        )


def of_counts(parts: Sequence[PartCounts]) -> Iterator[Finding]:
    """Classes with few images, or with many more than others."""
    train = next(part for part in parts if part.part == "train")
    tiny = sorted((each for each in train.classes if each.images < _TINY), key=lambda e: e.images)
    if tiny:
        yield finding(
            "tiny_classes",
            len(tiny),
            f"{len(tiny):,} of {len(train.classes):,} classes "
            f"{'has' if len(tiny) == 1 else 'have'} under {_TINY} training images",
            "Add images of them: so few are learnt by heart.",
            ({"class": each.name, "images": each.images} for each in tiny),
        )
    if train.imbalance > _UNEVEN:
        ordered = sorted(train.classes, key=lambda each: each.images)
        rare, frequent = ordered[0], ordered[-1]
        yield finding(
            "imbalance",
            len(train.classes),
            f"{frequent.name!r} has {frequent.images:,} training images and {rare.name!r} "
            f"{rare.images:,}",
            'Add images of the rare classes, or train with class_weights "balanced".',
        )
    for part in parts:
        missing = [each.name for each in part.classes if not each.images]
        if part.part != "train" and missing:
            yield finding(
                "missing_classes",
                len(missing),
                f"{part.part} has no images of {len(missing):,} of {len(part.classes):,} classes",
                "What is measured there says nothing of them.",
                ({"class": name} for name in missing),
            )


def of_copies(images: Images) -> Iterator[Finding]:
    """Copies and near copies: in one part, in several, and under several classes."""
    exact = twins.copies(images.digests)
    # One for all copies, so that near copies are no second list of the same.
    firsts = np.setdiff1d(
        np.arange(len(images.paths)), np.concatenate([g[1:] for g in exact] or [np.array([], int)])
    )
    near = [firsts[group] for group in twins.alike(images.shapes[firsts], images.thumbs[firsts])]
    yield from _across_parts(images, exact, near)
    yield from _across_classes(images, exact)
    yield from _within(images, exact, near)


def _across_parts(
    images: Images, exact: Sequence[Integers], near: Sequence[Integers]
) -> Iterator[Finding]:
    pairs = [pair for group in exact for pair in _pairs(images, group)]
    if pairs:
        yield finding(
            "same_image_in_parts",
            len(pairs),
            f"{_images(len(pairs))} of {_parts(pairs, 'part')} {_are(len(pairs))} in "
            f"{_parts(pairs, 'twin_part')} too",
            "What is measured there flatters the model: remove them from one of the two.",
            pairs,
        )
    pairs = [pair for group in near for pair in _pairs(images, group)]
    if pairs:
        yield finding(
            "similar_image_in_parts",
            len(pairs),
            f"{_images(len(pairs))} of {_parts(pairs, 'part')} "
            f"{'looks' if len(pairs) == 1 else 'look'} like one of {_parts(pairs, 'twin_part')}",
            "Look at these pairs: a copy that was scaled or saved again flatters the model too.",
            pairs,
        )


def _pairs(images: Images, group: Integers) -> list[dict[str, Any]]:
    """Each image of a group that is in another part than the first, with one that is in the first
    of its parts: "train", if there is one.
    """
    first = group[0]
    return [
        {
            "file": images.paths[index],
            "part": images.parts[index],
            "twin": images.paths[first],
            "twin_part": images.parts[first],
        }
        for index in group[1:]
        if images.parts[index] != images.parts[first]
    ]


def _parts(pairs: Sequence[dict[str, Any]], which: str) -> str:
    return " and ".join(dict.fromkeys(pair[which] for pair in pairs))


def _across_classes(images: Images, exact: Sequence[Integers]) -> Iterator[Finding]:
    torn = [group for group in exact if len(set(images.labels[group].tolist())) > 1]
    if torn:
        yield finding(
            "same_image_in_classes",
            len(torn),
            f"{_images(len(torn))} {_are(len(torn))} in several classes at once",
            "Keep each in the class that is right, and remove it from the others.",
            (files([images.paths[index] for index in group]) for group in torn),
        )


def _within(
    images: Images, exact: Sequence[Integers], near: Sequence[Integers]
) -> Iterator[Finding]:
    copies = list(_same_place(images, exact))
    extra = sum(len(group) - 1 for group in copies)
    if copies:
        yield finding(
            "duplicates",
            len(copies),
            f"{_images(extra)} {_are(extra)} there more than once in the same class",
            "Remove the copies: each counts as often as it is there.",
            (files([images.paths[index] for index in group]) for group in copies),
        )
    groups = list(_same_place(images, near))
    if groups:
        count = sum(map(len, groups))
        yield finding(
            "near_duplicates",
            len(groups),
            f"{count:,} images of the same class look alike"
            + (f", in {len(groups):,} groups" if len(groups) > 1 else ""),
            "Look at them: copies that were scaled or saved again add nothing.",
            (files([images.paths[index] for index in group]) for group in groups),
        )


def _same_place(images: Images, groups: Sequence[Integers]) -> Iterator[list[int]]:
    """Of each group those that are in the same part and class, where there are two or more."""
    for group in groups:
        places: dict[tuple[str, str], list[int]] = {}
        for index in group.tolist():
            places.setdefault(images.part_and_class(index), []).append(index)
        yield from (members for members in places.values() if len(members) > 1)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
