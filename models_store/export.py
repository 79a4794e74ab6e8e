"""A checkpoint as ONNX: the network with what stands before and after it, checked against PyTorch.

Imports torch's exporter and onnxruntime when it is called, never before. Knows no jobs.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models_store.exports import Check
from models_store.manifest import Manifest, Preprocessing
from models_store.preprocess import decode, to_input
from models_store.shaping import shape
from problems import Problem

TOLERANCE = 1e-4
"""Between logits, as a share of the largest one; absolute while all are below 1."""

MOST_BYTES = 2**31 - 2**20
"""Of weights: a single file of ONNX, being a protocol buffer, ends at 2 GiB."""

INPUT, LOGITS, PROBABILITIES = "image", "logits", "probabilities"

_CHECKED_AT_ONCE = 10


class Exported(nn.Module):
    """Pixels in, logits and calibrated probabilities out."""

    def __init__(self, network: nn.Module, pre: Preprocessing, temperature: float) -> None:
        super().__init__()
        self.network = network
        self._normalize = pre.normalize
        self._temperature = temperature

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of (N, H, W, C) uint8: the logits (N, classes), and the probabilities."""
        logits = self.network(to_input(image, self._normalize))
        return logits, (logits / self._temperature).softmax(dim=1)


def write_onnx(
    network: nn.Module, manifest: Manifest, *, temperature: float, target: Path
) -> dict[str, str]:
    """Writes the file and returns with which versions. Raises `Problem` export_failed for what ONNX
    cannot take, and OSError.
    """
    weights = sum(value.nbytes for value in network.state_dict().values())
    if weights > MOST_BYTES:
        raise _failed(
            f"Its weights take {weights:,} bytes, and a file of ONNX ends at {2**31:,}.",
            "Download it as safetensors or pt.",
        )
    pre = manifest.preprocessing
    height, width = pre.input_size
    pixels = torch.zeros(2, height, width, pre.channels, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                Exported(network, pre, temperature).eval(),
                (pixels,),
                input_names=[INPUT],
                output_names=[LOGITS, PROBABILITIES],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update(_metadata(manifest, temperature))
            program.save(target, external_data=False)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the exporter has dozens of kinds, none of them documented
        first_line = str(error).partition("\n")[0][:300]
        raise _failed(
            f"PyTorch cannot write the network as ONNX: {type(error).__name__}: {first_line}",
            "Download it as safetensors or pt.",
        ) from error
    return {name: version(name) for name in ("danlu", "torch", "onnx", "onnxscript")}


def check(
    target: Path,
    network: nn.Module,
    pre: Preprocessing,
    pixels: NDArray[np.uint8],
    *,
    of: Literal["dataset", "noise"],
) -> Check:
    """Runs the file with onnxruntime and the network with PyTorch on (N, H, W, C) pixels.

    Raises `Problem` export_failed when they do not agree, or when the file cannot be run.
    """
    session = _session(target)
    difference = largest = 0.0
    for start in range(0, len(pixels), _CHECKED_AT_ONCE):
        part = pixels[start : start + _CHECKED_AT_ONCE]
        with torch.inference_mode():
            expected = network(to_input(torch.from_numpy(part), pre.normalize)).numpy()
        found = session.run([LOGITS], {INPUT: part})[0]
        difference = max(difference, float(np.abs(found - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    # Written so that a difference that is no number is one too.
    if not difference <= TOLERANCE * max(1.0, largest):
        raise _failed(
            f"onnxruntime's logits differ from PyTorch's by {difference:.3g}, the largest of them "
            f"being {largest:.3g}.",
            "Download it as safetensors or pt.",
        )
    return Check(
        images=len(pixels),
        of=of,
        largest_difference=difference,
        largest_logit=largest,
        tolerance=TOLERANCE,
    )


def prepared(files: Sequence[bytes], pre: Preprocessing) -> NDArray[np.uint8]:
    """What the file takes of these images: (N, H, W, C), resized and shaped.

    Raises what `images.decode` raises.
    """
    return shaped(np.stack([decode(file, pre).pixels for file in files]), pre)


def shaped(pixels: NDArray[np.uint8], pre: Preprocessing) -> NDArray[np.uint8]:
    """Decoded images (N, H, W, C), after the manifest's transforms."""
    return shape(torch.from_numpy(pixels), pre.transforms).contiguous().numpy()


def noise(pre: Preprocessing, count: int) -> NDArray[np.uint8]:
    """Random pixels, the same ones each time, of the size that the file takes."""
    shape_ = (count, *pre.input_size, pre.channels)
    return np.random.default_rng(0).integers(0, 256, shape_, dtype=np.uint8)


def probabilities(target: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the file says of (N, H, W, C) pixels."""
    found: NDArray[np.float32] = _session(target).run([PROBABILITIES], {INPUT: pixels})[0]
    return found


def _session(target: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(
            target, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own kinds have no common name
        raise _failed(
            f"onnxruntime cannot run the file: {str(error)[:300]}",
            "Download it as safetensors or pt.",
        ) from error


def _metadata(manifest: Manifest, temperature: float) -> dict[str, str]:
    """What a program that has nothing but the file can find in it: text, or JSON."""
    pre = manifest.preprocessing
    height, width = pre.input_size
    colours = "RGB" if pre.channels == 3 else "grey"
    plain = pre.model_dump(mode="json")
    return {
        "description": f"{manifest.id} of danlu",
        "danlu": version("danlu"),
        "checkpoint_id": manifest.id,
        "architecture": json.dumps(manifest.architecture),
        "classes": json.dumps(manifest.classes, ensure_ascii=False),
        "input": f"{INPUT}: uint8 (batch, {height}, {width}, {pre.channels}), {colours}, 0 to 255, "
        "upright and on white. It is scaled to 0..1 and normalized inside.",
        "outputs": f"{LOGITS}: float32 (batch, {len(manifest.classes)}); {PROBABILITIES}: softmax "
        "of logits / temperature.",
        "temperature": repr(temperature),
        "preprocessing": json.dumps(plain),
        "resize": "whole image, bilinear with antialiasing, to preprocessing.height and .width; "
        "then preprocessing.transforms",
        "invert_rule": "a negative is made of an image whose border is more than 0.5 away from "
        "preprocessing.invert_from_border; null: never",
    }


def _failed(why: str, hint: str) -> Problem:
    return Problem("export_failed", why, hint=hint)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of what it does itself, prints, and logs at length when it fails."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
