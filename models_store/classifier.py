"""A trained model ready to classify: image bytes in, probabilities in class order out.

Loaded from a checkpoint folder alone. Knows nothing of HTTP, labels chosen or thresholds.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from images import Decoded
from models_store import (
    architectures,
    checkpoints,
    explaining,
    folders,
    preprocess,
    reduced,
    report,
)
from models_store.manifest import Manifest, Preprocessing
from models_store.shaping import shape
from problems import Problem

Precision = Literal["fp32", "bf16"]
Notice = Literal["inverted", "upscaled", "extreme_aspect_ratio", "first_frame_only"]

# Resizing whole squeezes an image whose shape is further than this from what was trained on.
_EXTREME = 3.0
# Bytes of a file: what is smaller is decoded by a thread in the time that another takes to begin.
_ALONE = 4096


@dataclass(frozen=True, slots=True)
class Classified:
    """Probabilities (classes,) that add up to 1, and what is odd about the image."""

    probabilities: NDArray[np.float64]
    warnings: tuple[Notice, ...]


class Classifier:
    """A network in eval mode with the preprocessing it was judged with; threads may share it."""

    def __init__(
        self,
        manifest: Manifest,
        network: nn.Module,
        device: str,
        folder: Path,
        precision: Precision = "fp32",
    ) -> None:
        self.manifest = manifest
        self.precision = precision
        self._network = network
        self._device = device
        self._folder = folder
        self._fitted: float | None = None  # not judged yet

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", precision: Precision | Literal["auto"] = "fp32"
    ) -> Self:
        """From a checkpoint folder. `auto` computes in bf16 where the device does so natively and
        the job that made the checkpoint has proved that its labels stay what they were judged as.

        Raises `Problem` checkpoint_not_found, checkpoint_damaged.
        """
        manifest = checkpoints.read_manifest(folder)
        network = network_of(folder, manifest)
        if precision == "auto":
            precision = "bf16" if _may_reduce(folder, device) else "fp32"
        if precision == "bf16":
            reduced.reduce(network)
        network.to(device).to(memory_format=torch.channels_last)
        loaded = cls(manifest, network, device, folder, precision)
        loaded._temperature()
        return loaded

    def classify(
        self,
        files: Sequence[bytes],
        *,
        decoders: Executor | None = None,
        is_enough: Callable[[int], bool] = lambda _: False,
    ) -> list[Classified | Problem]:
        """One result per file, in order; a file that is no image gives its `Problem` instead.
        `decoders` decode files beside each other, where these are large enough for it to pay;
        `is_enough` is told after each how many are decoded: where it says so, the results are of
        these alone, and what it raises ends it all.
        """
        size = sum(map(len, files))
        each = decoders.map if decoders and size > _ALONE * len(files) else map
        decoded = []
        for one in each(self._decode, files):
            decoded.append(one)
            if is_enough(len(decoded)):
                break
        pixels = [one.pixels for one in decoded if isinstance(one, Decoded)]
        rows = iter(self.probabilities(np.stack(pixels)) if pixels else ())
        return [
            one
            if isinstance(one, Problem)
            else Classified(next(rows), _warnings(one, self.manifest.preprocessing))
            for one in decoded
        ]

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, H, W, C) uint8 to (N, classes), calibrated once the checkpoint was judged.

        Dividing by the temperature puts no class before another: in float32 that of a network which
        cannot tell, a million, would make them all equal. Raises `Problem` checkpoint_damaged.
        """
        temperature = self._temperature()
        pre = self.manifest.preprocessing
        with torch.inference_mode():
            batch = _on_device(_padded(pixels), self._device)
            inputs = preprocess.to_input(batch, pre.normalize, pre.transforms)
            with reduced.computing(self._device, reduced=self.precision == "bf16"):
                logits = self._network(inputs)
            calibrated = (logits[: len(pixels)].cpu().double() / temperature).softmax(dim=1)
            result: NDArray[np.float64] = calibrated.numpy()
        return result

    def warm_up(self, *, most: int, seconds: float) -> int:
        """Runs batches of 1, 2, 4 … images, so that none that comes later pays for what PyTorch
        prepares for a size that it has not met. Returns the largest size, at most `most`, before
        which none took longer than `seconds`, for more at a time gain little and let others wait,
        and for which there is memory. What was slow is tried once more: a machine that was busy
        just then, or what is prepared once, would decide for as long as the model is loaded.
        """
        size = 1
        while True:
            try:
                is_slow = self._seconds(size) > seconds / 2
                if 2 * size > most or (is_slow and self._seconds(size) > seconds / 2):
                    return size
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                return size // 2
            size *= 2

    def _seconds(self, size: int) -> float:
        """How long a batch of so many black images takes."""
        pre = self.manifest.preprocessing
        began = time.perf_counter()
        self.probabilities(np.zeros((size, pre.height, pre.width, pre.channels), np.uint8))
        return time.perf_counter() - began

    @property
    def weight_bytes(self) -> int:
        """What the network's numbers take."""
        held = (*self._network.parameters(), *self._network.buffers())
        return sum(one.numel() * one.element_size() for one in held)

    def explain(
        self, files: Sequence[bytes], classes: Sequence[int], method: explaining.Method
    ) -> list[bytes]:
        """A PNG for each file: the pixels that the network sees, or over them what speaks for the
        file's class. Raises `Problem` no_feature_map, and what `images.decode` raises.
        """
        pre = self.manifest.preprocessing
        pixels = np.stack([preprocess.decode(file, pre).pixels for file in files])
        seen = shape(torch.from_numpy(pixels).to(self._device), pre.transforms)
        shown = list(seen.cpu().numpy())
        if method == "gradcam":
            inputs = preprocess.to_input(seen, pre.normalize)
            heats = explaining.gradcam(self._network, inputs, classes)
            shown = [explaining.heated(*one) for one in zip(shown, heats, strict=True)]
        return [explaining.png(one) for one in shown]

    def _temperature(self) -> float:
        """A job's best checkpoint is judged at its end, while it may be in use already."""
        if self._fitted is None:
            self._fitted = report.read_temperature(self._folder)
        return self._fitted or 1.0

    def _decode(self, file: bytes) -> Decoded | Problem:
        try:
            return preprocess.decode(file, self.manifest.preprocessing)
        except Problem as problem:
            return problem


def network_of(folder: Path, manifest: Manifest) -> nn.Module:
    """The network of a checkpoint in eval mode, on the CPU. Raises `Problem` checkpoint_damaged."""
    state = checkpoints.read_state(folder, manifest)
    pre = manifest.preprocessing
    try:
        planned = architectures.plan(
            manifest.architecture,
            channels=pre.channels,
            size=pre.input_size,
            classes=len(manifest.classes),
        )
    except ValidationError as error:  # a kind of layer that a newer danlu knows
        raise folders.damaged(folder, "its network cannot be read") from error
    network = architectures.outline(planned)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise folders.damaged(folder, "its weights do not fit its manifest") from error
    return network.eval().requires_grad_(False)


def _may_reduce(folder: Path, device: str) -> bool:
    return reduced.is_native(torch.device(device)) and report.proves_bf16(folder)


def _padded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With as many black images after it as make their number a power of two: oneDNN prepares
    itself for each number anew, which takes longer than those images do.
    """
    count = len(pixels)
    full = 1 << (count - 1).bit_length()
    if full == count:
        return pixels
    batch = np.zeros((full, *pixels.shape[1:]), np.uint8)
    batch[:count] = pixels
    return batch


def _on_device(pixels: NDArray[np.uint8], device: str) -> torch.Tensor:
    batch = torch.from_numpy(pixels)
    if device.startswith("cuda"):  # from pinned memory the copy does not wait, nor do we
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def _warnings(image: Decoded, pre: Preprocessing) -> tuple[Notice, ...]:
    found: list[Notice] = []
    if image.inverted:
        found.append("inverted")
    # Smaller than the network's input is only odd when the training images were not.
    if image.height < min(pre.height, pre.trained_height) or image.width < min(
        pre.width, pre.trained_width
    ):
        found.append("upscaled")
    squeeze = (image.width / image.height) / (pre.trained_width / pre.trained_height)
    if not 1 / _EXTREME <= squeeze <= _EXTREME:
        found.append("extreme_aspect_ratio")
    if image.frames > 1:
        found.append("first_frame_only")
    return tuple(found)
