"""Single images of data sets and their labels, as they lie on disk.

Downloads nothing, and knows nothing of how images are decoded for training.
"""

from collections.abc import Sequence
from pathlib import Path

from data_store import arrays, catalog
from data_store.catalog import Facts
from problems import Problem, did_you_mean

# First bytes of the formats that folders may hold; anything else is sent as plain bytes.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"P5", "image/x-portable-graymap"),
    (b"P6", "image/x-portable-pixmap"),
)


def local(name: str, root: Path) -> Facts:
    """The facts of a data set whose images are on this disk.

    Raises `Problem` dataset_unknown, dataset_invalid, dataset_not_downloaded.
    """
    facts = catalog.facts(name, root)
    if not arrays.is_local(facts.name, root):
        raise Problem(
            "dataset_not_downloaded",
            f"The images of {facts.name} are not on this disk yet.",
            hint=f'The first training downloads them: POST /train {{"dataset": "{facts.name}"}}.',
        )
    return facts


def labels(facts: Facts, root: Path, split: str) -> Sequence[int]:
    """The class of each image of a part, as an index into `facts.classes`, in order.

    Raises `Problem` not_found for a part that the data set lacks.
    """
    if split not in facts.counts:
        raise Problem(
            "not_found",
            f"{facts.name} has no part named {split[:80]!r}.",
            hint=f"It has {', '.join(facts.counts)}.",
            errors=[{"loc": ["query", "split"], "msg": "no such part"}],
        )
    return arrays.labels(facts.name, root, split)


def class_index(facts: Facts, name: str) -> int:
    """The index of a class. Raises `Problem` not_found."""
    if name not in facts.classes:
        raise Problem(
            "not_found",
            f"{facts.name} has no class {name[:80]!r}.",
            hint=did_you_mean(name[:80], facts.classes),
            errors=[{"loc": ["query", "class"], "msg": "no such class"}],
        )
    return facts.classes.index(name)


def image(facts: Facts, root: Path, *, split: str, index: int) -> tuple[bytes, str]:
    """The file of one image and its media type. Raises `Problem` not_found."""
    try:
        data = arrays.image_bytes(facts.name, root, split, index)
    except (KeyError, IndexError, FileNotFoundError):
        raise Problem(
            "not_found", f"{facts.name} has no image {index} in a part {split[:80]!r}."
        ) from None
    return data, _media_type(data)


def _media_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "image/heic"
    known = (kind for signature, kind in _SIGNATURES if data.startswith(signature))
    return next(known, "application/octet-stream")
