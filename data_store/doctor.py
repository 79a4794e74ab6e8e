"""Examines a data set: decodes every image, and says what is wrong with which.

Changes nothing. What is to become of the files that cannot be read is the caller's to say.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np

from data_store import findings, fingerprints, folder, inspectors, report
from data_store.findings import Images
from data_store.folder import Scan
from data_store.inspection import Seen, Unreadable
from data_store.progress import Progress, paced
from data_store.report import ClassCount, PartCounts, Report, Size, Sizes
from data_store.versions import Content
from problems import Problem

PHASE = "checking"

_FREQUENT = 10


@dataclass(frozen=True, slots=True)
class Examined:
    """The report, and by path every file that cannot be read, with the reason."""

    report: Report
    unreadable: Mapping[str, Unreadable]
    scan: Scan
    digests: Mapping[str, bytes]

    def version(self, *, without: Collection[str] = ()) -> str:
        """What `arrays.load` will call the version of the set, some files taken out."""
        content = Content(self.scan.classes)
        for images in self.scan.parts.values():
            for image in images:
                if image.path not in without:
                    content.add(folder.shown(image.path), self.digests[image.path])
        return content.version()


def examine(
    path: Path, progress: Progress, *, name: str | None = None, processes: int | None = None
) -> Examined:
    """Looks at every image of the data set in the folder `path`, in so many `processes`: 0: none
    but the caller's, None: as many as pays.

    Progress is counted in images, in the phase "checking"; what it raises ends the work and all of
    its processes within a second. Raises `dataset_invalid` for a folder that cannot be trained on,
    calling it `name`, also when of one of its classes nothing can be read.
    """
    scan = folder.scan(path, name=name)
    files = [(part, image) for part, images in scan.parts.items() for image in images]
    gathered = _Gathered(scan, [(part, image.path, image.label) for part, image in files])
    advance = paced(progress, PHASE, len(files))
    paths = [str(path / image.path) for _, image in files]
    for place, seen in inspectors.look_at(paths, lambda: advance(0), processes=processes):
        gathered.add(place, seen)
        advance(1)
    return gathered.examined()


class _Gathered:
    """What was seen of the files, `files` being (part, path, label), in a few bytes for each."""

    def __init__(self, scan: Scan, files: Sequence[tuple[str, str, int]]) -> None:
        count = len(files)
        self._scan = scan
        self._files = files
        self._seen = np.zeros(count, bool)
        self._digests = np.zeros((count, fingerprints.DIGEST_BYTES // 8), np.uint64)
        self._shapes = np.zeros(count, np.uint64)
        self._thumbs = np.zeros((count, fingerprints.THUMB**2, 3), np.uint8)
        self._hashes: dict[str, bytes] = {}
        self._unreadable: dict[int, Unreadable] = {}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._modes: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        self._misnamed: list[tuple[int, str]] = []
        self._bytes = 0

    def add(self, place: int, seen: Seen | Unreadable) -> None:
        path = self._files[place][1]
        self._hashes[path] = seen.sha256
        if isinstance(seen, Unreadable):
            self._unreadable[place] = seen
            return
        print_ = seen.fingerprint
        self._seen[place] = True
        self._digests[place] = np.frombuffer(print_.digest, np.uint64)
        self._shapes[place] = print_.shape
        self._thumbs[place] = np.frombuffer(print_.thumb, np.uint8).reshape(-1, 3)
        self._sizes[seen.width, seen.height] += 1
        self._modes[seen.mode] += 1
        self._formats[seen.format] += 1
        self._bytes += seen.bytes
        if not findings.is_named_rightly(path, seen.format):
            self._misnamed.append((place, seen.format))

    def examined(self) -> Examined:
        readable = np.flatnonzero(self._seen)
        kept = [self._files[place] for place in readable.tolist()]
        self._check(kept)
        images = Images(
            paths=[folder.shown(path) for _, path, _ in kept],
            parts=[part for part, _, _ in kept],
            labels=np.array([label for _, _, label in kept], np.int64),
            classes=self._scan.classes,
            digests=self._digests[readable],
            shapes=self._shapes[readable],
            thumbs=self._thumbs[readable],
        )
        unreadable = {
            self._files[place][1]: self._unreadable[place] for place in sorted(self._unreadable)
        }
        misnamed = [(self._files[place][1], kind) for place, kind in sorted(self._misnamed)]
        parts = self._parts(kept)
        found = [
            *findings.of_files(unreadable, misnamed),
            *findings.of_counts(parts),
            *findings.of_copies(images),
        ]
        return Examined(self._report(parts, found), unreadable, self._scan, self._hashes)

    def _check(self, kept: Sequence[tuple[str, str, int]]) -> None:
        filled = {label for part, _, label in kept if part == "train"}
        empty = [name for label, name in enumerate(self._scan.classes) if label not in filled]
        if empty:
            first = next(iter(sorted(self._unreadable)))
            raise Problem(
                "dataset_invalid",
                f"No image of the class {empty[0]!r} can be read. {_only(len(self._unreadable))} "
                f"{folder.shown(self._files[first][1])!r}: {self._unreadable[first].message}",
                hint="Replace these files, or leave the class out.",
            )

    def _parts(self, kept: Sequence[tuple[str, str, int]]) -> list[PartCounts]:
        counted = Counter((part, label) for part, _, label in kept)
        parts = []
        for part in self._scan.parts:
            counts = [
                ClassCount(name, counted[part, label])
                for label, name in enumerate(self._scan.classes)
            ]
            some = [each.images for each in counts if each.images]
            imbalance = round(max(some) / min(some), 2) if some else 1.0
            parts.append(PartCounts(part, sum(some), imbalance, counts))
        return parts

    def _report(self, parts: Sequence[PartCounts], found: Sequence[report.Finding]) -> Report:
        return Report(
            images=sum(part.images for part in parts),
            bytes=self._bytes,
            classes=len(self._scan.classes),
            parts=parts,
            sizes=self._in_sizes(),
            modes=dict(self._modes.most_common()),
            formats=dict(self._formats.most_common()),
            findings=found,
        )

    def _in_sizes(self) -> Sizes:
        sides = [side for size in self._sizes for side in size]
        frequent = [
            Size(width, height, count)
            for (width, height), count in self._sizes.most_common(_FREQUENT)
        ]
        return Sizes(
            smallest=min(sides),
            median_width=median_low(w for (w, _), n in self._sizes.items() for _ in range(n)),
            median_height=median_low(h for (_, h), n in self._sizes.items() for _ in range(n)),
            largest=max(sides),
            distinct=len(self._sizes),
            frequent=frequent,
        )


def _only(count: int) -> str:
    if count == 1:
        return "The only unreadable file is"
    return f"The first of {count:,} unreadable files is"
