"""The images of one part of a data set, as files: sets have a million of them, so what is the same
for all files of a folder is kept once, and a record of a file made when it is asked for.

Knows nothing of how they are found, nor of what is in them.
"""

import os
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, overload


class Image(NamedTuple):
    """One image file: `path` from the data set's folder on, with `/`; `label` indexes classes."""

    path: str
    label: int
    size: int
    mtime_ns: int


class Shelf(NamedTuple):
    """Files of one class in one folder: `inside` is its path from the data set's folder on, with
    `/` at its end too.
    """

    inside: str
    label: int
    names: Sequence[str]
    sizes: "array[int]"
    times: "array[int]"

    def images(self) -> Iterator[Image]:
        """Each file."""
        for name, size, mtime_ns in zip(self.names, self.sizes, self.times, strict=True):
            yield Image(self.inside + name, self.label, size, mtime_ns)


class Gallery(Sequence[Image]):
    """The files of all `shelves`, in order."""

    def __init__(self, shelves: Iterable[Shelf]) -> None:
        self._shelves = [shelf for shelf in shelves if shelf.names]
        counts = (len(shelf.names) for shelf in self._shelves)
        self._starts = list(accumulate(counts, initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Image]:
        for shelf in self._shelves:
            yield from shelf.images()

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> list[Image]: ...
    def __getitem__(self, place: int | slice) -> Image | list[Image]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        number = range(len(self))[place]  # raises IndexError
        at = bisect_right(self._starts, number) - 1
        shelf, inside = self._shelves[at], number - self._starts[at]
        path = shelf.inside + shelf.names[inside]
        return Image(path, shelf.label, shelf.sizes[inside], shelf.times[inside])

    @property
    def disk_bytes(self) -> int:
        """Of all files."""
        return sum(sum(shelf.sizes) for shelf in self._shelves)

    def counts(self) -> Counter[int]:
        """How many images each label has, those that have any."""
        found: Counter[int] = Counter()
        for shelf in self._shelves:
            found[shelf.label] += len(shelf.names)
        return found

    def paths(self, root: str) -> list[str]:
        """Of every file below `root`."""
        starts = ((f"{root}{os.sep}{shelf.inside}", shelf.names) for shelf in self._shelves)
        return [start + name for start, names in starts for name in names]

    def words(self) -> Iterator[bytes]:
        """All that is known of the files, in bytes that are others when anything of it is."""
        for shelf in self._shelves:
            told = f"{shelf.label}\0{shelf.inside}\0{len(shelf.names)}\0"
            names = "\0".join(shelf.names)
            yield f"{told}{names}\0".encode(errors="surrogateescape")
            yield shelf.sizes.tobytes()
            yield shelf.times.tobytes()
