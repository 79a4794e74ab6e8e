from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.admin.checks import datasets
from app.admin.findings import Level
from settings import Settings


@pytest.fixture
def pets(settings: Settings) -> Path:
    for kind in ("cat", "dog"):
        folder = settings.datasets / "pets" / kind
        folder.mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / "1.png")
    return settings.datasets / "pets"


def test_data_sets_that_can_be_trained_on(settings: Settings, pets: Path) -> None:
    size = sum(file.stat().st_size for file in pets.rglob("*.png"))

    [found] = datasets.examine(settings)

    assert (found.level, found.message) == (Level.ok, f"pets (2 images, {size} B)")


def test_a_folder_that_cannot_be_trained_on(settings: Settings, pets: Path) -> None:
    (settings.datasets / "empty").mkdir()

    warned, fine = datasets.examine(settings)

    assert (warned.level, fine.level) == (Level.warning, Level.ok)
    assert "'empty'" in warned.message
    assert warned.hint


def test_what_built_in_sets_are_unpacked_into_is_no_set(settings: Settings) -> None:
    (settings.datasets / "cifar-10-batches-py").mkdir(parents=True)
    (settings.datasets / "MNIST" / "raw").mkdir(parents=True)

    [found] = datasets.examine(settings)

    assert found.level is Level.ok
    assert found.message.startswith("There are none")


def test_there_need_be_none(settings: Settings) -> None:
    [found] = datasets.examine(settings)

    assert found.level is Level.ok


def test_a_built_in_set_that_is_there(real_data: Path, settings: Any) -> None:
    there = Settings(home=settings.home, datasets_dir=real_data)

    assert any("mnist (" in one.message for one in datasets.examine(there))
