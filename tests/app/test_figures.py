"""Figures of a checkpoint, by the batches that went through its network."""

import pytest

from app.figures import Figures, Serving
from app.inference.peer import Loaded


def test_batches_add_up():
    figures = Figures()
    figures.add(requests=3, images=4, seconds=0.4)
    figures.add(requests=1, images=4, seconds=0.2)
    assert (figures.requests, figures.images, dict(figures.batches)) == (4, 8, {4: 2})
    assert figures.seconds == pytest.approx(0.6)


def test_how_long_an_image_takes_follows_what_is_measured_lately():
    figures = Figures()
    for _ in range(100):
        figures.add(1, 10, 0.01)
    assert figures.seconds_per_image == pytest.approx(0.001, rel=1e-3)
    for _ in range(100):
        figures.add(1, 10, 0.1)
    assert figures.seconds_per_image == pytest.approx(0.01, rel=1e-3)


def test_what_is_loaded_and_what_was_asked_for_are_told_together():
    figures = Figures()
    figures.add(1, 2, 0.5)
    told = Serving.of("ckpt_a", Loaded("ckpt_a", 2, "cpu", "fp32", 800), figures)
    assert (told.processes, told.memory_bytes, told.batches) == (2, 800, {2: 1})
    cold = Serving.of("ckpt_a", None, figures)
    assert (cold.processes, cold.device, cold.memory_bytes, cold.images) == (0, None, 0, 2)
