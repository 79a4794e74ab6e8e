"""Files of events, read back by TensorBoard's own reader."""

import errno
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from workers import tfevents
from workers.tfevents import EventFile


def read(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0})
    found.Reload()
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in read(folder).Scalars(tag)]


def test_curves_are_read_back(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "run", number=1, step=1)
    for step in (1, 2, 300_000):
        file.add(step, [tfevents.scalar("损失", step / 4), tfevents.scalar("lr", 0.5)])
    file.add(4, [tfevents.scalar("nan", math.nan)])

    assert points(tmp_path / "run", "损失") == [(1, 0.25), (2, 0.5), (300_000, 75_000.0)]
    assert math.isnan(points(tmp_path / "run", "nan")[0][1])


@pytest.mark.parametrize("data", [b"", b"123456789", bytes(range(256)) * 5])
def test_the_checksum_is_that_of_tfrecord(data: bytes) -> None:
    assert tfevents._checksum(data) == masked_crc32c(data).to_bytes(4, "little")


def test_what_a_lost_attempt_wrote_beyond_is_forgotten(tmp_path: Path) -> None:
    first = EventFile(tmp_path, number=2, step=1)
    for step in (10, 20, 30):
        first.add(step, [tfevents.scalar("loss", step)])
    second = EventFile(tmp_path, number=10, step=21)

    assert points(tmp_path, "loss") == [(10, 10.0), (20, 20.0)]

    second.add(25, [tfevents.scalar("loss", -1.0)])
    assert points(tmp_path, "loss") == [(10, 10.0), (20, 20.0), (25, -1.0)]
    assert [file.name.split(".")[3] for file in sorted(tmp_path.iterdir())] == ["000002", "000010"]


def test_histograms_are_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    lowest, highest = values.min(), values.max()
    file = EventFile(tmp_path, number=1, step=1)
    file.add(1, [tfevents.histogram("weights", values)])
    values[0, 0], values[1, 1] = np.nan, np.inf
    file.add(2, [tfevents.histogram("weights", values)])
    file.add(3, [tfevents.histogram("weights", np.full(3, np.nan, np.float32))])

    found = [one.histogram_value for one in read(tmp_path).Histograms("weights")]

    assert [one.num for one in found] == [1200, 1198, 1]
    assert sum(found[0].bucket) == 1200
    assert (found[0].min, found[0].max) == (lowest, highest)


def test_pictures_are_read_back(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (3, 2)).save(png, "PNG")

    EventFile(tmp_path, number=1, step=1).add(
        0, [tfevents.image("samples", png.getvalue(), size=(2, 3), channels=3)]
    )

    (shown,) = read(tmp_path).Images("samples")
    assert (shown.width, shown.height) == (3, 2)
    assert shown.encoded_image_string == png.getvalue()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    file = EventFile(tmp_path, number=1, step=1)
    file._path = Path("/dev/full")

    with pytest.raises(OSError, match="No space left") as caught:
        file.add(1, [tfevents.scalar("loss", 1.0)])
    assert caught.value.errno == errno.ENOSPC
