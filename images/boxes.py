"""Boxes in boxes: the form of an ISO media file (ISO/IEC 14496-12), of which HEIC and AVIF are.

Reads numbers and lengths; what a box is for is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass


class CutOff(ValueError):
    """The bytes end before what they announce."""


class Bytes:
    """Numbers out of bytes, one after the other, the most significant byte first."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._data) - self._at

    def number(self, size: int) -> int:
        """The next `size` bytes as a number; 0 of none. Raises `CutOff`."""
        return int.from_bytes(self.part(size)._data, "big")

    def name(self) -> bytes:
        """The next four bytes. Raises `CutOff`."""
        return bytes(self.part(4)._data)

    def part(self, size: int) -> "Bytes":
        """The next `size` bytes, to be read by themselves. Raises `CutOff`."""
        if size > self.left:
            raise CutOff(f"{size:,} bytes are announced where {self.left:,} are left")
        self._at += size
        return Bytes(self._data[self._at - size : self._at])


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of a file and what kind it is of."""

    kind: bytes
    content: Bytes


def boxes(content: Bytes) -> Iterator[Box]:
    """The boxes that lie side by side in `content`. Raises `CutOff`."""
    while content.left:
        size, kind, header = content.number(4), content.name(), 8
        if size == 1:
            size, header = content.number(8), 16
        elif size == 0:  # to the end
            size = content.left + header
        if size < header:
            raise CutOff("a box is smaller than its own header")
        yield Box(kind, content.part(size - header))


def whole(content: Bytes) -> tuple[int, int]:
    """Version and flags that a full box begins with. Raises `CutOff`."""
    return content.number(1), content.number(3)
