"""A trained model ready to classify: image bytes in, probabilities in class order out.

Loaded from a checkpoint folder alone. Knows nothing of HTTP, labels chosen or thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from images import Decoded
from models_store import architectures, checkpoints, explaining, preprocess, report
from models_store.manifest import Manifest, Preprocessing
from models_store.shaping import shape
from problems import Problem

Notice = Literal["inverted", "upscaled", "extreme_aspect_ratio", "first_frame_only"]

# Resizing whole squeezes an image whose shape is further than this from what was trained on.
_EXTREME = 3.0


@dataclass(frozen=True, slots=True)
class Classified:
    """Probabilities (classes,) that add up to 1, and what is odd about the image."""

    probabilities: NDArray[np.float64]
    warnings: tuple[Notice, ...]


class Classifier:
    """A network in eval mode with the preprocessing it was judged with; threads may share it."""

    def __init__(self, manifest: Manifest, network: nn.Module, device: str, folder: Path) -> None:
        self.manifest = manifest
        self._network = network
        self._device = device
        self._folder = folder
        self._fitted: float | None = None  # not judged yet

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> Self:
        """From a checkpoint folder. Raises `Problem` checkpoint_not_found, checkpoint_damaged."""
        manifest = checkpoints.read_manifest(folder)
        network = network_of(folder, manifest)
        network.to(device).to(memory_format=torch.channels_last)
        loaded = cls(manifest, network, device, folder)
        loaded._temperature()
        return loaded

    def classify(self, files: Sequence[bytes]) -> list[Classified | Problem]:
        """One result per file, in order; a file that is no image gives its `Problem` instead."""
        decoded = [self._decode(file) for file in files]
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
            batch = torch.from_numpy(pixels).to(self._device)
            logits = self._network(preprocess.to_input(batch, pre.normalize, pre.transforms))
            calibrated = (logits.cpu().double() / temperature).softmax(dim=1)
            result: NDArray[np.float64] = calibrated.numpy()
        return result

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
            try:
                self._fitted = report.read_temperature(self._folder)
            except ValueError as error:
                raise checkpoints.damaged(
                    self._folder, f"{report.EVALUATION} cannot be read"
                ) from error
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
        raise checkpoints.damaged(folder, "its network cannot be read") from error
    network = architectures.outline(planned)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise checkpoints.damaged(folder, "its weights do not fit its manifest") from error
    return network.eval().requires_grad_(False)


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
