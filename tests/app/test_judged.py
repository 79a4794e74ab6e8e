"""Reports as they are read, and mistakes whose images are there, gone, or others by now."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import judged as module
from app import pictures
from app.pictures import Shown
from data_store import arrays
from models_store import report
from models_store.manifest import Preprocessing
from models_store.report import Evaluation, Mistake
from problems import Problem
from settings import Settings

Judged = Callable[..., Evaluation]
SEEN = Preprocessing(height=12, width=10, channels=1, trained_height=12, trained_width=12)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """What is handed over to be drawn."""
    heard: list[Shown] = []
    real = pictures.mistakes

    def mistakes(shown: Any, classes: Any, *, title: str) -> bytes:
        heard.extend(shown)
        return real(shown, classes, title=title)

    monkeypatch.setattr(pictures, "mistakes", mistakes)
    return heard


@pytest.fixture
def pets(settings: Settings, png: Callable[..., bytes]) -> Path:
    for name in ("cat", "dog"):
        folder = settings.datasets / "pets" / "train" / name
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.png").write_bytes(png(number))
    return settings.datasets / "pets"


def of_pets(
    made: Judged, *mistakes: tuple[int, str, str], version: str | None = None
) -> Evaluation:
    found = [
        Mistake(part="train", index=index, label=label, predicted=taken, probability=0.5)
        for index, label, taken in mistakes
    ]
    classes = made("ckpt_1").classes
    named = [
        one.model_copy(update={"label": name})
        for one, name in zip(classes, ("cat", "dog"), strict=False)
    ]
    return made(
        "ckpt_1", dataset={"name": "pets", "version": version}, mistakes=found, classes=named
    )


def test_a_report_is_read(judged_folder: Path, judged: Judged) -> None:
    report.write(judged_folder, judged("ckpt_1"))

    assert _read(judged_folder) == judged("ckpt_1")


@pytest.fixture
def judged_folder(tmp_path: Path) -> Path:
    (tmp_path / "ckpt_1").mkdir()
    return tmp_path / "ckpt_1"


def _read(folder: Path) -> Evaluation:
    return module.read(folder)


def test_without_a_report_it_was_not_evaluated(judged_folder: Path) -> None:
    with pytest.raises(Problem) as caught:
        _read(judged_folder)
    assert caught.value.code == "not_evaluated"


def test_a_damaged_report_is_a_damaged_checkpoint(judged_folder: Path) -> None:
    (judged_folder / "evaluation.json").write_text('{"half')

    with pytest.raises(Problem) as caught:
        _read(judged_folder)
    assert caught.value.code == "checkpoint_damaged"


def test_images_of_a_built_in_set_at_the_size_that_was_seen(
    settings: Settings, judged: Judged, drawn: list[Shown]
) -> None:
    _mistakes(judged("ckpt_1"), settings)

    assert [(one.label, one.predicted) for one in drawn] == [("8", "3"), ("3", "8")]
    assert [one.pixels.shape for one in drawn if one.pixels is not None] == [(12, 10, 1)] * 2


def _mistakes(of: Evaluation, settings: Settings) -> bytes:
    return module.mistakes(of, SEEN, settings)


def test_images_of_a_folder(
    settings: Settings, pets: Path, judged: Judged, drawn: list[Shown], png: Any
) -> None:
    _mistakes(of_pets(judged, (4, "dog", "cat"), (0, "cat", "dog")), settings)

    import images

    expected = [images.decode(png(n), size=(12, 10), channels=1).pixels for n in (1, 0)]
    for one, pixels in zip(drawn, expected, strict=True):
        assert one.pixels is not None
        np.testing.assert_array_equal(one.pixels, pixels)


def test_without_mistakes_the_data_set_is_not_asked_for(settings: Settings, judged: Judged) -> None:
    assert _mistakes(of_pets(judged), settings).startswith(b"\x89PNG")


def test_an_image_that_cannot_be_read_any_more_is_gone(
    settings: Settings, pets: Path, judged: Judged, drawn: list[Shown]
) -> None:
    (pets / "train" / "dog" / "1.png").write_bytes(b"no image")

    _mistakes(of_pets(judged, (4, "dog", "cat")), settings)

    assert [one.pixels for one in drawn] == [None]


def decode(settings: Settings) -> str:
    found = arrays.load(
        "pets",
        root=settings.datasets,
        cache=settings.cache,
        size=(4, 4),
        channels=1,
        progress=lambda *_: None,
    )
    return found.version


def test_a_set_of_another_version_has_changed(
    settings: Settings, pets: Path, judged: Judged, png: Any
) -> None:
    version = decode(settings)
    of = of_pets(judged, (4, "dog", "cat"), version=version)
    assert _mistakes(of, settings)

    (pets / "train" / "dog" / "1.png").write_bytes(png(9))
    decode(settings)

    with pytest.raises(Problem, match="pets has changed") as caught:
        _mistakes(of, settings)
    assert caught.value.code == "dataset_changed"


@pytest.mark.parametrize("index", [1, 99])
def test_a_set_with_another_image_in_that_place_has_changed(
    settings: Settings, pets: Path, judged: Judged, index: int
) -> None:
    with pytest.raises(Problem) as caught:
        _mistakes(of_pets(judged, (index, "dog", "cat")), settings)
    assert caught.value.code == "dataset_changed"


def test_a_set_without_that_part_has_changed(
    settings: Settings, pets: Path, judged: Judged
) -> None:
    mistake = Mistake(part="test", index=0, label="cat", predicted="dog", probability=0.5)
    of = of_pets(judged).model_copy(update={"mistakes": [mistake]})

    with pytest.raises(Problem) as caught:
        _mistakes(of, settings)
    assert caught.value.code == "dataset_changed"


def test_a_set_that_was_deleted_is_unknown(settings: Settings, pets: Path, judged: Judged) -> None:
    shutil.rmtree(pets)

    with pytest.raises(Problem) as caught:
        _mistakes(of_pets(judged, (4, "dog", "cat")), settings)
    assert caught.value.code == "dataset_unknown"
