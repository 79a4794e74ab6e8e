"""What TensorBoard shows of a job: curves, samples of the training images, histograms of weights.

One file for each attempt in the run's folder. It is a by-product: when it cannot be written any
more the job goes on without, and says so.
"""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from workers import tfevents
from workers.tfevents import EventFile
from workers.training import EpochEnd, Metrics, Samples, Tick

log = logging.getLogger(__name__)

UNWRITTEN = "tensorboard_unwritten"
_SIDE = 4  # sample images in a row, and rows
_PIXELS = 96  # of a sample's side at most: the checksum of a picture takes 80 ns a byte


class Board:
    """The file of one attempt. Steps count batches from the start of the job, in every curve."""

    def __init__(
        self,
        run: Path,
        *,
        number: int,
        step: int,
        weights: nn.Module | None = None,
        on_trouble: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """`number` is higher than those of earlier attempts, and `step` steps lie behind it. The
        histograms are of `weights`. `on_trouble` hears, once, a code and a message.
        """
        self._on_trouble = on_trouble
        self._network = weights
        self._step = step
        self._file: EventFile | None = None
        with self._writing():
            self._file = EventFile(run, number=number, step=step + 1)

    def tick(self, tick: Tick) -> None:
        """A point of the line between epochs."""
        self._add(
            tick.step,
            {
                "steps/loss": tick.metrics.loss,
                "steps/accuracy": tick.metrics.accuracy,
                "steps/lr": tick.lr,
                "steps/images_per_second": tick.images_per_second,
            },
        )

    def epoch(self, end: EpochEnd) -> None:
        """A finished epoch, and the weights at its end."""
        self._add(
            end.step,
            {
                "epoch": end.epoch,
                "loss/train": end.train.loss,
                "loss/val": end.validation.loss,
                "accuracy/train": end.train.accuracy,
                "accuracy/val": end.validation.accuracy,
                "lr": end.lr,
                "images_per_second": end.images_per_second,
            },
        )
        self._weights()

    def tested(self, measured: Metrics) -> None:
        """How the best checkpoint does on the test part; shown at the last step."""
        self._add(self._step, {"loss/test": measured.loss, "accuracy/test": measured.accuracy})

    def samples(
        self, train: Samples, augment: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> None:
        """Some training images, evenly taken, as they are and as `augment` leaves them."""
        if self._file is None:
            return
        chosen = train.index[:: max(1, len(train) // _SIDE**2)][: _SIDE**2]
        pixels = train.take(chosen)
        shown = {"samples": pixels}
        if augment is not None:
            shown["samples_augmented"] = augment(pixels)
        with self._writing():
            for tag, images in shown.items():
                self._file.add(self._step, [_grid(tag, images)])

    def _add(self, step: int, curves: dict[str, float]) -> None:
        self._step = step
        if self._file is not None:
            with self._writing():
                self._file.add(step, [tfevents.scalar(*curve) for curve in curves.items()])

    def _weights(self) -> None:
        if self._file is None or self._network is None:
            return
        with self._writing():
            self._file.add(
                self._step,
                [
                    tfevents.histogram(name, weights.detach().float().cpu().numpy())
                    for name, weights in self._network.named_parameters()
                ],
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A disk that is full ends the file, not the job, whose checkpoints may still fit."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("the files for TensorBoard cannot be written any more: %s", reason)
            self._file = None
            self._on_trouble(UNWRITTEN, f"The curves for TensorBoard end here: {reason}.")


def _grid(tag: str, images: torch.Tensor) -> tfevents.Value:
    """(N, H, W, C) uint8, side by side on black, as one picture."""
    shrink = max(1, -(-max(images.shape[1:3]) // _PIXELS))
    small = images[:, ::shrink, ::shrink].cpu()
    count, height, width, channels = small.shape
    whole = torch.zeros(_SIDE**2, height + 1, width + 1, channels, dtype=torch.uint8)
    whole[:count, :height, :width] = small
    rows = whole.view(_SIDE, _SIDE, height + 1, width + 1, channels).permute(0, 2, 1, 3, 4)
    sheet = rows.reshape(_SIDE * (height + 1), _SIDE * (width + 1), channels)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(2).numpy()).save(file, "PNG")
    size = (sheet.shape[0], sheet.shape[1])
    return tfevents.image(tag, file.getvalue(), size=size, channels=channels)
