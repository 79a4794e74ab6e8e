import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.admin import links, screen
from app.admin.checks import cache
from app.admin.findings import Finding, Level
from data_store import arrays
from settings import Settings

SIDES = (8, 16)


def load(settings: Settings, side: int) -> arrays.DataSet:
    return arrays.load(
        "pets",
        root=settings.datasets,
        cache=settings.cache,
        size=(side, side),
        channels=3,
        progress=lambda *_: None,
    )


@pytest.fixture
def decoded(settings: Settings) -> dict[int, Path]:
    """A data set, decoded at two sizes: the folder of each."""
    for kind in ("cat", "dog"):
        folder = settings.datasets / "pets" / kind
        folder.mkdir(parents=True)
        for n in range(4):
            Image.new("L", (8, 8), 60 * n).save(folder / f"{n}.png")
    for side in SIDES:
        load(settings, side)
    return {side: next(settings.cache.glob(f"*-{side}x{side}x3")) for side in SIDES}


def look(
    settings: Settings, *, checksums: bool = True, told: Any = lambda *_: None
) -> list[Finding]:
    return list(cache.examine(settings, checksums=checksums, told=told))


def test_whole_sets(settings: Settings, decoded: dict[int, Path]) -> None:
    heard: list[tuple[str, int, int]] = []

    [found] = look(settings, told=lambda *said: heard.append(said))

    assert (found.about, found.level) == ("cache", Level.ok)
    assert found.message.startswith("2 decoded sets, ")
    assert found.message.endswith(" kB, checksums agree.")
    assert {what for what, _, _ in heard} == {"decoded images"}
    assert all(0 < done <= total for _, done, total in heard)


def test_a_damaged_one_is_named_and_left(
    settings: Settings, decoded: dict[int, Path], spoil: Any
) -> None:
    spoil(decoded[16] / "train.images.npy")

    [found] = look(settings)

    said = "pets at 16x16x3: train.images.npy is not what was written."
    assert (found.about, found.level, found.message) == ("cache", Level.warning, said)
    assert "decodes it anew" in found.hint
    assert look(settings) == [found]


def test_what_the_doctor_found_the_next_job_mends(
    settings: Settings, decoded: dict[int, Path], spoil: Any
) -> None:
    spoil(decoded[8] / "train.labels.npy")
    os.truncate(decoded[16] / "train.images.npy", 300)
    assert [one.level for one in look(settings)] == [Level.warning, Level.warning]

    for side in SIDES:
        assert load(settings, side).mended

    assert [one.level for one in look(settings)] == [Level.ok]


def test_checksums_may_be_left_out(
    settings: Settings, decoded: dict[int, Path], spoil: Any
) -> None:
    spoil(decoded[8] / "train.images.npy")

    [found] = look(settings, checksums=False)

    assert found.level is Level.ok
    assert "not compared" in found.message


def test_one_that_goes_meanwhile_is_no_fault(settings: Settings, decoded: dict[int, Path]) -> None:
    def told(_what: str, _done: int, _total: int) -> None:
        shutil.rmtree(settings.cache, ignore_errors=True)

    [found] = look(settings, told=told)

    assert found.level is Level.ok


def test_what_a_killed_process_left(settings: Settings, decoded: dict[int, Path]) -> None:
    for name in ("young", "old"):
        draft = settings.cache / f".draft-{name}"
        draft.mkdir()
        (draft / "train.images.npy").write_bytes(b"1234")
    for path in (settings.cache / ".draft-old" / "train.images.npy", settings.cache / ".draft-old"):
        os.utime(path, (1, 1))

    fine, cut_off = look(settings)

    assert (fine.level, cut_off.level) == (Level.ok, Level.warning)
    assert cut_off.message == f"1 folder in {settings.cache}, 4 B, cut off."


def test_what_was_decoded_of_other_images_is_named_with_its_bytes(
    settings: Settings, decoded: dict[int, Path]
) -> None:
    Image.new("L", (9, 9)).save(settings.datasets / "pets" / "cat" / "0.png")
    load(settings, 8)

    fine, outdated = look(settings)

    assert (fine.level, outdated.level) == (Level.ok, Level.warning)
    assert fine.message.startswith("3 decoded sets, ")
    size = screen.size(sum(links.weigh(folder)[1] for folder in decoded.values()))
    said = f"2 decoded sets, {size}, of images as none lie in {settings.datasets} any more: "
    assert outdated.message == f"{said}pets at 16x16x3, pets at 8x8x3."
    assert str(settings.cache) in outdated.hint
    for folder in decoded.values():
        shutil.rmtree(folder)
    assert [one.level for one in look(settings)] == [Level.ok]


def test_nothing_need_be_decoded(settings: Settings) -> None:
    [found] = look(settings)

    assert (found.level, found.message) == (Level.ok, "Nothing has been decoded yet.")
    assert not settings.home.exists()
