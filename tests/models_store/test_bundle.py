"""The bundle runs alone, and says of images what danlu says."""

import json
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models_store import bundle, export
from models_store.classifier import Classified, Classifier
from models_store.manifest import Manifest
from problems import Problem

Pixels = NDArray[np.uint8]
_EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photo() -> Pixels:
    """A smooth colourful picture that is no square, without symmetry."""
    small = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((330, 210), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def images(photo: Pixels, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each kind that predict.py must take as danlu does."""
    folder, picture = tmp_path_factory.mktemp("images"), Image.fromarray(photo)
    layer = np.full((*photo.shape[:2], 1), 255, np.uint8)
    layer[50:150, 50:200] = 90
    turned = {}
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = orientation
        turned[f"turned {orientation}.jpg"] = (picture, {"exif": exif})
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = 6
    made: Mapping[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.jpg": (picture, {"quality": 95}),
        **turned,
        "turned.png": (picture, {"exif": exif}),
        "alpha.png": (Image.fromarray(np.concatenate([photo, layer], axis=2)), {}),
        "grey.png": (picture.convert("L"), {}),
        "grey alpha.png": (Image.fromarray(np.dstack([photo[..., 0], layer[..., 0]]), "LA"), {}),
        "palette.gif": (picture.convert("P"), {}),
        "deep.pgm": (Image.fromarray(photo[..., 0].astype(np.uint16) * 257), {}),
        "deep.png": (Image.fromarray(photo[..., 0].astype(np.uint16) * 257), {}),
        "two colours.png": (picture.convert("1"), {}),
        "print.jpg": (picture.convert("CMYK"), {}),
        "negative.png": (Image.fromarray(np.pad(photo // 3 + 170, ((9, 9), (9, 9), (0, 0)),
                                                constant_values=255)), {}),
        "tiny.png": (picture.resize((7, 5)), {}),
    }  # fmt: skip
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]


def _unpacked(made: Path, into: Path) -> Path:
    with zipfile.ZipFile(made) as opened:
        assert opened.testzip() is None
        opened.extractall(into)
    return into


def _bundled(
    saved: Callable[[Manifest], Path], described: Manifest, tmp_path: Path
) -> tuple[Path, Classifier]:
    folder = saved(described)
    classifier = Classifier.load(folder)
    onnx, made = tmp_path / "model.onnx", tmp_path / "bundle.zip"
    export.write_onnx(classifier._network, described, temperature=1.0, target=onnx)
    sample = export.noise(described.preprocessing, 1)[0]
    bundle.write(made, onnx=onnx, manifest=described, sample=sample, real=False)
    return _unpacked(made, tmp_path / "alone"), classifier


def _alone(folder: Path, images: list[Path]) -> tuple[str, str]:
    """What predict.py prints, run without danlu, its folder, or anything of this process. Its last
    image is none.
    """
    command = [sys.executable, "-I", str(folder / "predict.py"), *map(str, images), "none.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 1
    return done.stdout, done.stderr


def _here(folder: Path, words: list[str]) -> dict[str, Any]:
    """Runs predict.py in this process, and returns what it defines."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["predict.py", *words])
        return runpy.run_path(str(folder / "predict.py"), run_name="__main__")


# The least to export, and it sees every pixel.
_NETWORK = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}
_SHAPING = [
    {"type": "Resize", "size": 40},
    {"type": "CenterCrop", "size": [28, 30]},
    {"type": "Grayscale", "num_output_channels": 3},
    {"type": "CenterCrop", "size": 32},
]


# Twenty lines close no file of several frames by name; CPython does as soon as it is read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "pre",
    [
        {"channels": 1, "invert_from_border": 0.0},
        {
            "channels": 3,
            "height": 36,
            "width": 44,
            "normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
            "transforms": _SHAPING,
        },
    ],
)
def test_alone_it_says_what_danlu_says(
    pre: dict[str, Any],
    images: list[Path],
    manifest: Callable[..., Manifest],
    saved: Callable[[Manifest], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    classes = ["一", *"bcdefghij"]
    id_ = "ckpt_01M8BR8N0KVR7HW21QG1C6K2SQ"
    described = manifest(id=id_, architecture=_NETWORK, preprocessing=pre, classes=classes)
    folder, classifier = _bundled(saved, described, tmp_path)

    files = [*images, folder / "sample.png"]
    if pre["channels"] == 1:
        printed, errors = _alone(folder, files)
        assert errors.rstrip().endswith(
            "FileNotFoundError: [Errno 2] No such file or directory: 'none.png'"
        )
    else:
        _here(folder, list(map(str, files)))
        printed = capsys.readouterr().out
    lines = [line.rpartition(": ")[2].rpartition(" ") for line in printed.splitlines()]
    found = [(label, float(probability)) for label, _, probability in lines]
    told = classifier.classify([path.read_bytes() for path in files])

    assert len(found) == len(told)
    for path, (label, probability), one in zip([*images, "sample"], found, told, strict=True):
        assert isinstance(one, Classified), path
        best = int(one.probabilities.argmax())
        assert label == classes[best], path
        assert probability == pytest.approx(float(one.probabilities[best]), abs=1e-4), path
    read = _here(folder, [str(images[0])])["read"]
    for path in images:
        expected = export.prepared([path.read_bytes()], described.preprocessing)
        difference = np.abs(np.asarray(read(path), int).reshape(expected.shape) - expected)
        # Pillow and PyTorch resize with rounding of their own, by a level of 255.
        assert difference.max() <= (1 if "transforms" in pre else 0), path
    if pre.get("invert_from_border") is not None:
        by_name = {path.name: one for path, one in zip(images, told, strict=False)}
        negative = by_name["negative.png"]
        assert isinstance(negative, Classified)
        assert "inverted" in negative.warnings
    label, probability = found[-1]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"prints `sample.png: {label} {probability:.4f}`" in readme
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == classes
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["classes"] == classes
    with pytest.raises(SystemExit, match="predict"):
        _here(folder, [])


def test_the_program_is_short(manifest: Callable[..., Manifest]) -> None:
    photos = {"channels": 3, "height": 232, "width": 232}
    photos["transforms"] = [{"type": "CenterCrop", "size": 224}]
    border = 0.024999999999999998  # as measured: with all its digits
    for pre in ({}, {"channels": 3}, photos, {"invert_from_border": border}):
        lines = list(filter(None, bundle.predict(manifest(preprocessing=pre)).splitlines()))
        assert len(lines) <= 20
        assert max(map(len, lines)) <= 100


def test_what_pillow_cannot_do_is_refused(manifest: Callable[..., Manifest]) -> None:
    rare = {"type": "Resize", "size": 20, "antialias": False}
    with pytest.raises(Problem) as caught:
        bundle.predict(manifest(preprocessing={"transforms": [rare]}))
    assert caught.value.code == "export_failed"


def test_a_label_of_two_lines_takes_one(manifest: Callable[..., Manifest]) -> None:
    assert bundle._line("a\nb\r\n c") == "a b c"
