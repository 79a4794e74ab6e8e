"""The transforms of a manifest as lines of Python that need Pillow and numpy alone.

Each works on `image`, an `L` or `RGB` image of Pillow; `shaping` does the same to whole batches.
"""

from collections.abc import Iterator, Sequence

from models_store.pipeline import Pair, pair, size_after
from models_store.transforms import CenterCrop, Resize, ShapingTransform
from problems import Problem


def lines(transforms: Sequence[ShapingTransform], size: Pair, *, channels: int) -> list[str]:
    """Statements, in order, for an image of `size` (height, width).

    Raises `Problem` export_failed for what Pillow and numpy have no way to do.
    """
    found: list[str] = []
    for one in transforms:
        after = size_after(one, size)
        match one:
            case Resize() if after != size:
                found += _resize(one, size, after)
            case CenterCrop():
                found.append(f"image = image.crop({_box(size, pair(one.size))})")
            case Resize():
                pass
            case _ if channels == 3:
                found += _GRAYSCALE
        size = after
    return found


# Not Pillow's own way to grey, which rounds: torchvision cuts off.
_GRAYSCALE = [
    "grey = (np.asarray(image) @ np.array([0.2989, 0.587, 0.114], np.float32)).astype(np.uint8)",
    'image = Image.fromarray(grey).convert("RGB")',
]


def _resize(resize: Resize, before: Pair, after: Pair) -> Iterator[str]:
    mode = resize.interpolation
    (height, width), (rows, columns) = before, after
    if mode.startswith("nearest"):
        shift = " + 0.5" if mode == "nearest-exact" else ""
        yield f"rows = ((np.arange({rows}){shift}) * {height / rows!r}).astype(int)"
        yield f"columns = ((np.arange({columns}){shift}) * {width / columns!r}).astype(int)"
        yield "image = Image.fromarray(np.asarray(image)[rows][:, columns])"
    elif resize.antialias:
        yield f"image = image.resize({(columns, rows)}, Image.Resampling.{mode.upper()})"
    else:
        raise Problem(
            "export_failed",
            "Pillow cannot resize without antialiasing, as the transforms ask for.",
            hint="Export to onnx, and prepare the images with torchvision.",
        )


def _box(before: Pair, wanted: Pair) -> tuple[int, int, int, int]:
    """(left, upper, right, lower) of the middle; Pillow makes black what lies outside."""
    (top, bottom), (left, right) = (_middle(*sides) for sides in zip(before, wanted, strict=True))
    return left, top, right, bottom


def _middle(side: int, wanted: int) -> tuple[int, int]:
    # round(): to the even of two neighbours, as torchvision does.
    start = -((wanted - side) // 2) if wanted > side else round((side - wanted) / 2)
    return start, start + wanted
