"""A checkpoint as a zip that runs alone: the ONNX file, its labels, and a program that uses both.

The program needs numpy, Pillow and onnxruntime; it prepares images as `/predict` does. Knows no
jobs.
"""

import io
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models_store import export, shaping_lines
from models_store.layers import label
from models_store.manifest import Manifest, Preprocessing

_PREDICT = '''\
"""Classifies images with {id} of danlu: python predict.py IMAGE ..."""

import sys
from pathlib import Path

import numpy as np  # pip install numpy pillow onnxruntime
import onnxruntime
from PIL import Image, ImageOps

LABELS = Path(__file__).with_name("labels.txt").read_text(encoding="utf-8").splitlines()
MODEL = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))


def read(path):
    image = Image.open(path)
{sideways}    box = (image.draft(None, {size}) or (None, None))[1]  # a large JPEG is read small
    image = (image.point(lambda v: v / 256) if image.mode[0] == "I" else image).convert("RGBA")
    image = Image.alpha_composite(image.point(lambda _: 255), image).convert("RGB")  # on white
{invert}{shaping}

for path in sys.argv[1:] or sys.exit(__doc__):
    (found,) = MODEL.run(["probabilities"], {{"image": np.reshape(read(path), {shape})}})[0]
    print(f"{{path}}: {{LABELS[found.argmax()]}} {{found.max():.4f}}")
'''
# A picture that is turned has its sides the other way round in the file.
_SIDEWAYS = """\
    turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) > 4
    size = {lying} if turned else {upright}
"""
# Has a negative of what was trained on, told by its border, turned into a positive.
_INVERT = """\
    edge = np.asarray(image) @ [0.299, 0.587, 0.114] / 255
    edge[1:-1, 1:-1] = np.nan
    image = ImageOps.invert(image) if abs(np.nanmean(edge) - {border!r}) > 0.5 else image
"""

_README = """\
# {id}

An image classifier that danlu {danlu} trained or was given: {architecture}, for {count} classes.

    pip install numpy pillow onnxruntime
    python predict.py sample.png

prints `sample.png: {label} {probability:.4f}`. {sample}

| file | holds |
|---|---|
| `model.onnx` | the network, with the normalization of its input and calibrated probabilities |
| `labels.txt` | the classes, one in a line, in the order of the outputs |
| `manifest.json` | what danlu knows of it: architecture, preprocessing, recipe, metrics |
| `predict.py` | reads images as danlu's `/predict` does, but for HEIC and 32-bit raw TIFFs |
| `sample.png` | an image to try it with |

`model.onnx` takes `{input}`: uint8 (images, {height}, {width}, {channels}), from 0 to 255. It gives
`{logits}` and `{probabilities}`, float32 (images, {count}). Its own metadata says the same.
"""


def write(
    target: Path, *, onnx: Path, manifest: Manifest, sample: NDArray[np.uint8], real: bool
) -> dict[str, str]:
    """Writes the zip and returns with which versions. `sample` is (H, W, C), an image as it is
    before the manifest's transforms; `real`: not random pixels.

    Raises `Problem` export_failed when the program cannot do what the manifest asks for.
    """
    program = predict(manifest)  # first: it may be what fails
    picture = _png(sample)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.write(onnx, "model.onnx", zipfile.ZIP_STORED)  # weights do not shrink
        bundle.writestr("labels.txt", "".join(f"{_line(one)}\n" for one in manifest.classes))
        bundle.writestr("manifest.json", manifest.model_dump_json(indent=2))
        bundle.writestr("predict.py", program)
        bundle.writestr("sample.png", picture)
        answer = _answer(manifest, onnx, picture)
        bundle.writestr("README.md", _readme(manifest, answer, real=real))
    return {"danlu": version("danlu")}


def predict(manifest: Manifest) -> str:
    """The text of predict.py. Raises `Problem` export_failed."""
    pre = manifest.preprocessing
    upright, invert = (pre.width, pre.height), pre.invert_from_border
    square = pre.width == pre.height
    return _PREDICT.format(
        id=manifest.id,
        sideways="" if square else _SIDEWAYS.format(upright=upright, lying=upright[::-1]),
        size=upright if square else "size",
        invert="" if invert is None else _INVERT.format(border=invert),
        shaping=_shaping(pre, "size" if not square else str(upright)),
        shape=(1, *pre.input_size, pre.channels),
    )


def _shaping(pre: Preprocessing, size: str) -> str:
    """The last lines of `read`: what it returns, after the manifest's transforms if it has any."""
    grey = '.convert("L")' if pre.channels == 1 else ""
    image = f"ImageOps.exif_transpose(image{grey}.resize({size}, Image.BILINEAR, box=box))"
    lines = shaping_lines.lines(pre.transforms, (pre.height, pre.width), channels=pre.channels)
    statements = [f"image = {image}", *lines, "return image"] if lines else [f"return {image}"]
    return "".join(f"    {statement}\n" for statement in statements)


def _answer(manifest: Manifest, onnx: Path, picture: bytes) -> tuple[str, float]:
    """What predict.py says of the sample: a label and its probability."""
    pixels = export.prepared([picture], manifest.preprocessing)
    (probabilities,) = export.probabilities(onnx, pixels)
    best = int(probabilities.argmax())
    return manifest.classes[best], float(probabilities[best])


def _readme(manifest: Manifest, answer: tuple[str, float], *, real: bool) -> str:
    height, width = manifest.preprocessing.input_size
    return _README.format(
        id=manifest.id,
        danlu=version("danlu"),
        architecture=label(manifest.architecture),
        count=len(manifest.classes),
        label=_line(answer[0]),
        probability=answer[1],
        sample="The sample is an image of the data set, at the size that the network sees."
        if real
        else "The sample is random pixels, for the data set was not there.",
        input=export.INPUT,
        height=height,
        width=width,
        channels=manifest.preprocessing.channels,
        logits=export.LOGITS,
        probabilities=export.PROBABILITIES,
    )


def _line(label_: str) -> str:
    """A label that takes one line, whatever is in it; manifest.json has it as it is."""
    return " ".join(label_.split())


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()
