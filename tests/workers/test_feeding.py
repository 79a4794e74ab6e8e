"""Images that are read ahead of whoever takes them."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_store import arrays
from data_store.parts import DataSet, Stream
from problems import Problem
from workers.feeding import Feed

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for n in range(90):
        file = tmp_path / f"sets/shades/{'ab'[n % 2]}/{n:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), n).save(file)
    return tmp_path


def load(root: Path, **wanted) -> DataSet:
    where = {"root": root / "sets", "cache": root / "cache", "progress": lambda *_: None}
    return arrays.load("shades", **where, size=(3, 4), channels=1, mode="stream", **wanted)


def stream(root: Path, processes: int) -> Stream:
    found = load(root, processes=processes).stream
    assert found is not None
    return found


def shades(rows: torch.Tensor) -> list[int]:
    """As the images lie: those of one class, then those of the other."""
    return [2 * row if row < 45 else 2 * (row - 45) + 1 for row in rows.tolist()]


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_come_as_they_are_expected(root: Path, processes: int) -> None:
    part = Feed(stream(root, processes), CPU).part("train", 90)
    assert (part.shape, part.device) == ((90, 3, 4, 1), CPU)
    for epoch in range(3):
        order = torch.randperm(90, generator=torch.Generator().manual_seed(epoch))
        batches = torch.split(order, 7)
        part.expect(batches)
        for batch in batches:
            pixels = part.take(batch)
            assert (pixels.shape, pixels.dtype) == ((len(batch), 3, 4, 1), torch.uint8)
            assert pixels[:, 0, 0, 0].tolist() == shades(batch)


def test_a_batch_is_there_again_in_parts(root: Path) -> None:
    part = Feed(stream(root, 0), CPU).part("train", 90)
    batches = torch.split(torch.arange(90), 40)
    part.expect(batches)
    for batch in batches:
        for smaller in (batch, *torch.tensor_split(batch, 3), batch.flip(0)):
            assert part.take(smaller)[:, 0, 0, 0].tolist() == shades(smaller)


def test_what_nobody_expected_is_read_at_once(root: Path) -> None:
    part = Feed(stream(root, 0), CPU).part("train", 90)
    some = torch.tensor([80, 3])
    assert part.take(some)[:, 0, 0, 0].tolist() == shades(some)
    batches = torch.split(torch.arange(90), 30)
    part.expect(batches)
    part.take(batches[0])
    assert part.take(some)[:, 0, 0, 0].tolist() == shades(some)  # of the third batch, and the first
    assert part.take(batches[1])[:, 0, 0, 0].tolist() == shades(batches[1])


def test_an_epoch_may_be_left_early(root: Path) -> None:
    feed = Feed(stream(root, 2), CPU)
    part, batches = feed.part("train", 90), torch.split(torch.arange(90), 3)
    for _ in range(4):
        part.expect(batches)
        for batch in batches[:2]:
            assert part.take(batch)[:, 0, 0, 0].tolist() == shades(batch)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_file_that_is_gone_is_named(root: Path, processes: int) -> None:
    part = Feed(stream(root, processes), CPU).part("train", 90)
    (root / "sets/shades/b/01.png").unlink()
    batches = torch.split(torch.arange(90), 30)
    part.expect(batches)
    with pytest.raises(Problem) as caught:
        list(map(part.take, batches))
    assert caught.value.code == "dataset_changed"
    assert caught.value.detail.startswith("b/01.png could be read when the job began")
    with pytest.raises(Problem, match=r"b/01\.png"):
        part.take(torch.tensor([45]))


def test_threads_and_processes_end_with_the_feed(
    root: Path,
    threads: Callable[[str], list[threading.Thread]],
    children: Callable[[], set[int]],
    until: Callable[..., Any],
) -> None:
    before = children()  # those of a test before may still be ending
    feed = Feed(stream(root, 2), CPU)
    part, batches = feed.part("train", 90), torch.split(torch.arange(90), 2)
    part.expect(batches)  # more than are ever taken: who reads waits for room
    part.take(batches[0])
    [thread] = threads("feed")
    readers = children() - before
    assert readers
    del feed, part
    gc.collect()
    until(lambda: not thread.is_alive())
    until(lambda: not children() & readers)


def test_a_built_in_set_comes_out_of_its_file(root: Path) -> None:
    where = {"root": root / "sets", "cache": root / "cache", "progress": lambda *_: None}
    digits = arrays.load("digits", **where, size=(8, 8), channels=1, mode="stream")
    held = arrays.load("digits", **where, size=(8, 8), channels=1)
    assert digits.stream is not None
    part, rows = Feed(digits.stream, CPU).part("test", 360), torch.tensor([359, 0, 7])
    np.testing.assert_array_equal(part.take(rows), held.parts["test"].images[rows])
