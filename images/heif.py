"""HEIC, what iPhones send: its reader, and what its container tells before anything is decoded.

A photo is a grid of small HEVC images, each an item of the container (ISO/IEC 23008-12). libheif
leaves tiles black that are cut off, and computes a tile as often as the file names it; the items
alone tell of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from PIL.ImageFile import ImageFile

from images.boxes import Bytes, CutOff, boxes, whole
from problems import Problem

# An item may be another one, turned or cropped, which may be one again: photos have one step.
_MOST_STEPS = 4
# Items that are the same bytes, so that a small file claims much: photos have next to none.
_MOST_SHARED = 2
# Bytes that describe the items, and pieces of one item: photos have some thousands, and one. Small
# numbers, since few bytes can ask for much reading.
_MOST_DESCRIPTION = 1_000_000
_MOST_EXTENTS = 32
_MOST_BOXES = 100  # before the one that describes the items, which mostly is the second


def reader() -> type[ImageFile] | None:
    """The class that reads HEIC as Pillow's own read theirs; None where its library is missing.

    The library is loaded when the first HEIC comes. Images come upright from it.
    """
    try:
        from pillow_heif import HeifImageFile, options
    except ImportError:
        return None
    options.DISABLE_SECURITY_LIMITS = False  # libheif's own, beside ours
    options.DECODE_THREADS = 1  # who decodes many images has threads for that
    # Nobody asks for these, and each takes time.
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return HeifImageFile


@dataclass(slots=True)
class _Items:
    """What a container tells of its items, by their ids."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    pixels: dict[int, int] = field(default_factory=dict)
    made_of: dict[int, list[int]] = field(default_factory=dict)
    beside: dict[int, list[int]] = field(default_factory=dict)  # an image's transparency and others
    extents: list[tuple[bool, int, int]] = field(default_factory=list)  # in the file, end, bytes
    small: int = 0  # bytes of data that lies among the descriptions


def work(data: bytes) -> int:
    """Pixels that are decoded for the first image of a HEIC, its transparency included.

    Raises `Problem` unsupported_format and image_too_large; `CutOff`, other ValueErrors and
    KeyError for a file that is cut off or damaged.
    """
    items = _read(data)
    _check_extents(items, data)
    coded = _coded(items, items.primary)
    if coded is None:
        kind = items.kinds[items.primary].decode("ascii", "replace")
        raise Problem(
            "unsupported_format", f"danlu does not read HEIC images of the kind {kind!r}."
        )
    beside = [one for image in {items.primary, *coded} for one in items.beside.get(image, ())]
    others = [piece for one in beside for piece in _coded(items, one) or ()]
    return sum(items.pixels[piece] for piece in coded + others)


def _check_extents(items: _Items, data: bytes) -> None:
    for in_file, end, _ in items.extents:
        if end > (len(data) if in_file else items.small):
            raise CutOff("an image lies behind the end of the file")
    if sum(length for *_, length in items.extents) > _MOST_SHARED * len(data):
        raise Problem("image_too_large", "The images of this HEIC are the same bytes many times.")


def _coded(items: _Items, item: int) -> list[int] | None:
    """The HEVC images that an item consists of, each as often as it is decoded; None for an item
    of another kind.
    """
    for _ in range(_MOST_STEPS):
        match items.kinds[item]:
            case b"hvc1":
                return [item]
            case b"grid":
                tiles = items.made_of[item]
                return tiles if {items.kinds[tile] for tile in tiles} == {b"hvc1"} else None
            case b"iden":
                [item] = items.made_of[item]
            case _:
                return None
    return None


def _read(data: bytes) -> _Items:
    items = _Items()
    for box in boxes(_description(data)):
        match box.kind:
            case b"pitm":
                items.primary = box.content.number(4 if whole(box.content)[0] else 2)
            case b"iinf":
                items.kinds = dict(_kinds(box.content))
            case b"iref":
                _read_references(box.content, items)
            case b"iprp":
                items.pixels = dict(_pixels(box.content))
            case b"iloc":
                items.extents = list(_extents(box.content))
            case b"idat":
                items.small = box.content.left
    return items


def _description(data: bytes) -> Bytes:
    film = False
    for box in islice(boxes(Bytes(data)), _MOST_BOXES):
        film = film or box.kind == b"moov"
        if box.kind == b"meta":
            if box.content.left > _MOST_DESCRIPTION:
                raise Problem("image_too_large", "This HEIC has too many parts.")
            whole(box.content)
            return box.content
    if film:
        raise Problem("unsupported_format", "This is a film in a HEIC file, without an image.")
    raise CutOff("no image is described")


def _kinds(content: Bytes) -> Iterator[tuple[int, bytes]]:
    """Each item and what it is: `hvc1`, `grid`, `Exif` …"""
    content.number(4 if whole(content)[0] else 2)
    for box in boxes(content):
        version, _ = whole(box.content)
        if box.kind == b"infe" and version >= 2:
            item = box.content.number(4 if version > 2 else 2)
            box.content.number(2)  # how it is protected
            yield item, box.content.name()


def _read_references(content: Bytes, items: _Items) -> None:
    size = 4 if whole(content)[0] else 2
    for box in boxes(content):
        item = box.content.number(size)
        others = [box.content.number(size) for _ in range(box.content.number(2))]
        if box.kind == b"dimg":
            items.made_of[item] = others
        elif box.kind == b"auxl":
            for other in others:
                items.beside.setdefault(other, []).append(item)


def _pixels(content: Bytes) -> Iterator[tuple[int, int]]:
    """Each image and how many pixels it says it has, before it is turned."""
    areas: list[int | None] = []
    for box in boxes(content):
        if box.kind == b"ipco":
            areas = [_area(inner.content) if inner.kind == b"ispe" else None
                     for inner in boxes(box.content)]  # fmt: skip
        elif box.kind == b"ipma":
            for item, number in _associations(box.content):
                if 0 < number <= len(areas) and (area := areas[number - 1]) is not None:
                    yield item, area


def _area(content: Bytes) -> int:
    whole(content)
    return content.number(4) * content.number(4)


def _associations(content: Bytes) -> Iterator[tuple[int, int]]:
    """Items and the numbers of their properties, counted from 1."""
    version, flags = whole(content)
    for _ in range(content.number(4)):
        item = content.number(4 if version else 2)
        for _ in range(content.number(1)):
            # The first bit says whether a reader must know the property.
            yield item, content.number(2) & 0x7FFF if flags & 1 else content.number(1) & 0x7F


def _extents(content: Bytes) -> Iterator[tuple[bool, int, int]]:
    """Where the bytes of all items lie: whether in the file at large, their end, their number."""
    version, _ = whole(content)
    sizes, more = content.number(1), content.number(1)
    of_offset, of_length, of_base = sizes >> 4, sizes & 15, more >> 4
    of_index = more & 15 if version else 0
    for _ in range(content.number(4 if version > 1 else 2)):
        content.number(4 if version > 1 else 2)
        method = content.number(2) & 15 if version else 0
        if method > 1:
            raise Problem("unsupported_format", "The images of this HEIC lie within one another.")
        content.number(2)  # the file: this one
        base = content.number(of_base)
        extents = content.number(2)
        if extents > _MOST_EXTENTS:
            raise Problem("image_too_large", "This HEIC has too many parts.")
        for _ in range(extents):
            content.number(of_index)
            start, length = base + content.number(of_offset), content.number(of_length)
            yield method == 0, start + length, length
