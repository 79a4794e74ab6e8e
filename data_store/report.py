"""The doctor's report of a data set: what it holds, and what was found wrong with it.

Plain records that become JSON; lists are cut off, and say how long they were. Knows nothing of how
things are found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

MOST_ITEMS = 100
"""Of a list in a report."""
_NAMED = 5


@dataclass(frozen=True, slots=True)
class ClassCount:
    """The images of a class in one part."""

    name: str
    images: int


@dataclass(frozen=True, slots=True)
class PartCounts:
    """A part: "train", "val" or "test". `imbalance` is how many images the largest of its classes
    has for each one of the smallest.
    """

    part: str
    images: int
    imbalance: float
    classes: Sequence[ClassCount]


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, and how many images have them."""

    width: int
    height: int
    images: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of all images: from the smallest side to the largest, and the most frequent sizes."""

    smallest: int
    median_width: int
    median_height: int
    largest: int
    distinct: int
    frequent: Sequence[Size]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should be looked at: a code, what it is in words, and what to do about it.

    `items` has the first MOST_ITEMS of `total`, each naming its files or its class.
    """

    code: str
    total: int
    message: str
    advice: str
    items: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def warning(self) -> dict[str, str]:
        """As a job's warning: with the first few by name."""
        names = [_name(item) for item in self.items[:_NAMED]]
        more = f" and {self.total - len(names):,} more" if self.total > len(names) else ""
        named = f" ({', '.join(names)}{more})" if names else ""
        return {"code": self.code, "message": f"{self.message}{named}. {self.advice}"}


@dataclass(frozen=True, slots=True)
class Report:
    """`classes`, `parts`, `sizes`, `modes` and `formats` are of the `images` that can be read."""

    images: int
    bytes: int
    classes: int
    parts: Sequence[PartCounts]
    sizes: Sizes
    modes: dict[str, int]
    formats: dict[str, int]
    findings: Sequence[Finding]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def finding(
    code: str, total: int, message: str, advice: str, items: Iterable[dict[str, Any]] = ()
) -> Finding:
    """A finding with the first of its items."""
    return Finding(code, total, message, advice, tuple(islice(items, MOST_ITEMS)))


def files(names: Sequence[str]) -> dict[str, Any]:
    """An item of several files: the first of them, and their number where there are more."""
    shown: dict[str, Any] = {"files": list(names[:MOST_ITEMS])}
    return shown if len(names) <= MOST_ITEMS else shown | {"total": len(names)}


def _name(item: dict[str, Any]) -> str:
    if "files" in item:
        return " = ".join(item["files"][:2])
    if "twin" in item:
        return f"{item['file']} = {item['twin']}"
    return str(item.get("file") or item.get("class"))
