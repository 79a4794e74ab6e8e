import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from app.admin import links


def make(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_link_takes_no_space_and_outlives_the_first_name(tmp_path: Path) -> None:
    file = make(tmp_path / "a", model="weights") / "model"

    links.link(file, tmp_path / "linked")

    assert file.samefile(tmp_path / "linked")
    file.unlink()
    assert (tmp_path / "linked").read_text() == "weights"


def test_a_link_to_another_disk_is_a_copy(tmp_path: Path, other_disk: Path) -> None:
    file = make(tmp_path / "a", model="weights") / "model"
    os.utime(file, (1, 1))

    links.link(file, other_disk / "copied")

    assert (other_disk / "copied").read_text() == "weights"
    assert (other_disk / "copied").stat().st_mtime == 1


def test_what_cannot_be_linked_for_another_reason_is_told(tmp_path: Path) -> None:
    file = make(tmp_path / "a", model="weights") / "model"

    with pytest.raises(FileNotFoundError):
        links.link(file, tmp_path / "none" / "linked")


def test_a_folder_is_linked_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", one="1")
    make(folder / "deeper", two="2")

    links.link_folder(folder, tmp_path / "b")

    assert read(tmp_path / "b") == {"one": "1", "deeper/two": "2"}
    assert links.shared_bytes(tmp_path / "b") == 2


def test_a_folder_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        links.link_folder(tmp_path / "none", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_folder_that_is_replaced_meanwhile_is_never_half_old_and_half_new(tmp_path: Path) -> None:
    folder, done = make(tmp_path / "state", a="0", b="0", c="0"), threading.Event()

    def swap() -> None:
        number = 1
        while not done.is_set():
            fresh = make(tmp_path / f"fresh{number}", a=f"{number}", b=f"{number}", c=f"{number}")
            folder.rename(tmp_path / f"old{number}")
            fresh.rename(folder)
            number += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    taken = tries = 0
    until = time.monotonic() + 30
    try:
        while tries < 300 or (not taken and time.monotonic() < until):
            tries += 1
            try:
                links.link_folder(folder, tmp_path / "taken")
            except FileNotFoundError:  # in the moment between its two renames
                continue
            taken += 1
            found = read(tmp_path / "taken")
            assert set(found) == {"a", "b", "c"}
            assert len(set(found.values())) == 1
    finally:
        done.set()
        swapping.join()
    assert taken > 0


@pytest.mark.parametrize("elsewhere", [False, True], ids=["linked", "copied"])
def test_a_file_that_is_replaced_meanwhile_is_whole(
    tmp_path: Path, elsewhere: bool, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("other_disk") if elsewhere else tmp_path
    folder, done = make(tmp_path / "state", training="0" * 100_000), threading.Event()

    def replace() -> None:
        number = 1
        while not done.is_set():
            (folder / "training.tmp").write_text(str(number % 10) * 100_000)
            (folder / "training.tmp").replace(folder / "training")
            number += 1
            done.wait(0.001)

    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        for _ in range(100):
            links.link_folder(folder, place / "taken")
            [(name, text)] = read(place / "taken").items()
            assert name == "training"
            assert len(text) == 100_000
            assert len(set(text)) == 1
    finally:
        done.set()
        replacing.join()


def test_a_copy_follows_links_but_never_in_a_circle(tmp_path: Path) -> None:
    folder = make(tmp_path / "cats", one="1")
    elsewhere = make(tmp_path / "elsewhere", two="2")
    (folder / "more").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "none")
    heard: list[int] = []

    links.copy_folder(folder, tmp_path / "b", heard.append)

    assert read(tmp_path / "b") == {"one": "1", "more/two": "2"}
    assert heard == [1, 1]
    assert links.weigh(folder) == links.weigh(tmp_path / "b") == (2, 2)
    assert not any(file.is_symlink() for file in (tmp_path / "b").rglob("*"))


def test_what_goes_away_meanwhile_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "pets", a="1", b="2")
    make(folder / "cats", c="3")
    make(folder / "dogs", d="4")

    def copied(_count: int) -> None:
        (folder / "b").unlink(missing_ok=True)
        shutil.rmtree(folder / "cats", ignore_errors=True)

    links.copy_folder(folder, tmp_path / "b", copied)

    assert read(tmp_path / "b") == {"a": "1", "dogs/d": "4"}


def test_what_is_hidden_or_still_being_written_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "cats", one="1")
    for name in (".hidden", "images.tar.part", "state.tmp"):
        (folder / name).write_text("no")
    make(folder / ".danlu", origin="an import's")

    links.copy_folder(folder, tmp_path / "b", lambda _: None)

    assert read(tmp_path / "b") == {"one": "1", ".danlu/origin": "an import's"}


def test_shared_bytes_are_those_that_another_folder_has_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", one="1", more="22")
    links.link(folder / "one", tmp_path / "linked")

    assert links.shared_bytes(folder) == 1
