"""What TensorBoard shows of a job, asked of TensorBoard."""

import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from workers.board import UNWRITTEN, Board
from workers.training import EpochEnd, Metrics, Samples, Tick


def tick(step: int) -> Tick:
    return Tick(step, 1, Metrics(4 / step, step / 40), 0.01, 900.0)


def epoch(number: int, *, steps: int = 10) -> EpochEnd:
    measured = Metrics(1 / number, 0.5), Metrics(2 / number, 0.4)
    return EpochEnd(number, number * steps, *measured, 0.01, 0.5, 1000.0)


def read(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0})
    found.Reload()
    return found


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(one.step, pytest.approx(one.value)) for one in read(folder).Scalars(tag)]


def samples(count: int, *, side: int = 6, channels: int = 3) -> Samples:
    """Image number n is all n."""
    pixels = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    whole = pixels.expand(count, side, side, channels)
    return Samples(whole, torch.zeros(count, dtype=torch.long), torch.arange(count))


@contextmanager
def tensorboard(folder: Path) -> Iterator[httpx.Client]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stderr is not None
            lines = iter(program.stderr.readline, "")
            found = (re.search(r"(http://127\.0\.0\.1:\d+)/", line) for line in lines)
            address = next(match[1] for match in found if match)
            with httpx.Client(base_url=address, timeout=10) as client:
                yield client
        finally:
            program.terminate()


def test_tensorboard_itself_serves_the_curves(tmp_path: Path) -> None:
    board = Board(tmp_path, number=1, step=0)
    for step in (1, 6):
        board.tick(tick(step))
    for number in (1, 2, 3):
        board.epoch(epoch(number))
    board.tested(Metrics(0.25, 0.75))

    with tensorboard(tmp_path) as asked:
        deadline = time.monotonic() + 30
        curves = "/data/plugin/scalars/tags"
        while not (tags := asked.get(curves).json().get(".", {})) and time.monotonic() < deadline:
            time.sleep(0.05)
        where = {"run": ".", "tag": "loss/train"}
        served = asked.get("/data/plugin/scalars/scalars", params=where).json()

    assert {"loss/train", "loss/val", "accuracy/val", "lr", "steps/loss", "loss/test"} <= set(tags)
    assert [point[1:] for point in served] == [
        [10, 1.0],
        [20, 0.5],
        [30, pytest.approx(1 / 3)],
    ]


def test_every_curve_counts_steps(tmp_path: Path) -> None:
    board = Board(tmp_path, number=1, step=0)
    board.tick(tick(4))
    board.epoch(epoch(1))
    board.epoch(epoch(2))
    board.tested(Metrics(0.25, 0.75))

    assert points(tmp_path, "steps/loss") == [(4, 1.0)]
    assert points(tmp_path, "steps/accuracy") == [(4, 0.1)]
    assert points(tmp_path, "loss/val") == [(10, 2.0), (20, 1.0)]
    assert points(tmp_path, "accuracy/train") == [(10, 0.5), (20, 0.5)]
    assert points(tmp_path, "epoch") == [(10, 1.0), (20, 2.0)]
    assert points(tmp_path, "images_per_second") == [(10, 1000.0), (20, 1000.0)]
    assert points(tmp_path, "accuracy/test") == [(20, 0.75)]
    assert read(tmp_path).Tags()["histograms"] == []


def test_an_attempt_goes_on_where_it_begins(tmp_path: Path) -> None:
    lost = Board(tmp_path, number=1, step=0)
    for number in (1, 2, 3):
        lost.epoch(epoch(number))

    Board(tmp_path, number=2, step=20).epoch(epoch(3, steps=11))

    assert points(tmp_path, "epoch") == [(10, 1.0), (20, 2.0), (33, 3.0)]


def test_histograms_of_the_weights_when_they_are_wanted(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2))
    board = Board(tmp_path, number=1, step=0, weights=network)
    board.epoch(epoch(1))
    with torch.no_grad():
        network[1].weight += 5
    board.epoch(epoch(2))

    found = read(tmp_path)
    assert found.Tags()["histograms"] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    first, second = (one.histogram_value for one in found.Histograms("1.weight"))
    assert (first.num, second.num) == (10, 10)
    assert second.sum - first.sum == pytest.approx(50, abs=1e-3)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_sample_images_as_they_are_and_augmented(tmp_path: Path, channels: int, mode: str) -> None:
    Board(tmp_path, number=1, step=0).samples(samples(40, channels=channels), lambda x: x + 100)

    for tag, more in (("samples", 0), ("samples_augmented", 100)):
        (shown,) = read(tmp_path).Images(tag)
        picture = Image.open(io.BytesIO(shown.encoded_image_string))
        assert (picture.mode, picture.size) == (mode, (28, 28))
        assert (shown.width, shown.height) == picture.size
        grey = picture.convert("L")
        # Every second of the 40, in rows of four, with a black line between.
        assert [grey.getpixel((3 + 7 * i, 3)) for i in range(4)] == [more + 2 * i for i in range(4)]
        assert grey.getpixel((3, 10)) == more + 8
        assert grey.getpixel((6, 6)) == 0


def test_few_and_large_images_make_a_small_picture(tmp_path: Path) -> None:
    Board(tmp_path, number=1, step=0).samples(samples(3, side=200), None)

    found = read(tmp_path)
    assert found.Tags()["images"] == ["samples"]
    assert found.Images("samples")[0].width == 4 * 68  # every third pixel


def test_a_board_that_cannot_be_written_says_so_once_and_hinders_nothing(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    board = Board(tmp_path, number=1, step=0, on_trouble=lambda *said: heard.append(said))
    assert board._file is not None
    board._file._path = Path("/dev/full")

    for number in (1, 2):
        board.tick(tick(number))
        board.epoch(epoch(number))
        board.samples(samples(4), None)

    assert heard == [(UNWRITTEN, "The curves for TensorBoard end here: No space left on device.")]


def test_a_run_without_a_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    heard: list[str] = []

    board = Board(tmp_path / "run", number=1, step=0, on_trouble=lambda *said: heard.extend(said))
    board.epoch(epoch(1))

    assert heard[0] == UNWRITTEN
