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
from models_store.manifest import Manifest

_PREDICT = '''\
"""Classifies images with {id} of danlu."""

import argparse
from pathlib import Path

import numpy as np  # pip install numpy pillow onnxruntime
import onnxruntime
from PIL import Image{image_ops}

HERE = Path(__file__).parent
LABELS = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
MODEL = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
TURNS = {{2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}}  # what makes an image upright, by EXIF


def read(path):
    """The image as {height} x {width} pixels: upright, on white, {colours}."""
    with Image.open(path) as image:
        turn = None if image.format == "TIFF" else TURNS.get(image.getexif().get(0x0112))
        size = {sized}
        box = (image.draft(None, size) or (None, None))[1]  # a large JPEG: at a part of its size
        if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        layer = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
{invert}    image = image{grey}.resize(size, Image.Resampling.BILINEAR, box=box)
    image = image if turn is None else image.transpose(turn)
{shaping}    return np.asarray(image).reshape(1, {out_height}, {out_width}, {channels})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    for path in parser.parse_args().images:
        try:
            (found,) = MODEL.run(["probabilities"], {{"image": read(path)}})[0]
        except Exception as error:  # Pillow has many kinds
            parser.exit(1, f"{{path}} cannot be read: {{error}}\\n")
        print(f"{{path}}: {{LABELS[found.argmax()]}} {{found.max():.4f}}")
'''

_INVERT = """\
    light = np.asarray(image) @ [0.299, 0.587, 0.114] / 255
    edge = np.concatenate([light[0], light[-1], light[1:-1, 0], light[1:-1, -1]])
    if abs(edge.mean() - {border!r}) > 0.5:  # a negative of what was trained on
        image = ImageOps.invert(image)
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
| `predict.py` | reads images as danlu's `/predict` does, but for raw TIFFs of 32 bits a sample |
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
    height, width = pre.input_size
    shaping = shaping_lines.lines(pre.transforms, (pre.height, pre.width), channels=pre.channels)
    grey, border = pre.channels == 1, pre.invert_from_border
    return _PREDICT.format(
        id=manifest.id,
        height=height,
        width=width,
        channels=pre.channels,
        colours="grey" if grey else "RGB",
        sized=_sized(pre.height, pre.width),
        out_height=height,
        out_width=width,
        image_ops="" if border is None else ", ImageOps",
        invert="" if border is None else _INVERT.format(border=border),
        grey='.convert("L")' if grey else "",
        shaping="".join(f"    {line}\n" for line in shaping),
    )


def _sized(height: int, width: int) -> str:
    """(width, height) to resize to, before the image is turned."""
    if height == width:
        return repr((width, height))
    return f"{(height, width)} if turn in (2, 4, 5, 6) else {(width, height)}"


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
