"""Folders as archives: the same bytes for the same images, and nothing that no data set wants."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from danlu import package
from danlu.errors import DanluError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "my pets"
    for name in ("cat/1.jpg", "cat/2.JPEG", "黑犬/深/1.png", "dog/" + "n" * 150 + ".webp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 200)
    return root


def whole(one: package.Package) -> bytes:
    return b"".join(one.pieces())


def members(stream: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as opened:
        return {each.name: opened.extractfile(each).read() for each in opened}


def test_a_folder_is_a_tar_of_its_images(pets: Path) -> None:
    one = package.of(pets)
    stream = whole(one)
    assert (one.name, one.size, one.rest) == ("my pets", len(stream), 0)
    found = members(stream)
    assert list(found) == sorted(found)
    assert found == {name: name.encode() * 200 for name in found}
    assert set(found) == {str(p.relative_to(pets)) for p in pets.rglob("*") if p.is_file()}


def test_an_unchanged_folder_is_the_same_archive(pets: Path, tmp_path: Path) -> None:
    before = package.of(pets).sha256()
    (pets / "cat" / "1.jpg").touch()
    (pets / "cat" / "1.jpg").chmod(0o600)
    moved = pets.rename(tmp_path / "elsewhere")
    told: list[int] = []
    after = package.of(moved).sha256(told.append)
    assert after == before
    assert sum(told) == package.of(moved).size
    (moved / "cat" / "1.jpg").write_bytes(b"x" * 1800)
    assert package.of(moved).sha256() != before


def test_junk_and_what_is_no_image_stay_here(pets: Path) -> None:
    before = package.of(pets).sha256()
    for name in (".DS_Store", "cat/.hidden.jpg", "__MACOSX/cat/1.jpg", "cat/Thumbs.db"):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        (pets / name).write_bytes(b"junk")
    (pets / "notes.txt").write_bytes(b"text")
    (pets / "cat" / "film.mp4").write_bytes(b"film")
    one = package.of(pets)
    assert (one.sha256(), one.rest) == (before, 2)


def test_links_are_followed_and_never_in_a_circle(pets: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "birds"
    elsewhere.mkdir()
    (elsewhere / "1.png").write_bytes(b"bird")
    (pets / "bird").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(pets)
    found = members(whole(package.of(pets)))
    assert found["bird/1.png"] == b"bird"
    assert not [name for name in found if name.startswith("bird/round/")]


def test_names_that_are_no_utf_8(pets: Path) -> None:
    Path(os.fsdecode(os.fsencode(pets) + b"/cat/\xff.jpg")).write_bytes(b"odd")
    one = package.of(pets)
    stream = whole(one)
    assert len(stream) == one.size
    assert b"odd" in members(stream).values()


def test_an_example_is_of_the_test_part(pets: Path) -> None:
    assert package.of(pets).example() == pets / "cat" / "1.jpg"
    (pets / "test" / "cat").mkdir(parents=True)
    (pets / "test" / "cat" / "9.png").write_bytes(b"9")
    assert package.of(pets).example() == pets / "test" / "cat" / "9.png"


def test_an_example_has_a_name_that_can_be_shown(pets: Path) -> None:
    (pets / "test").mkdir()
    (pets / "test" / os.fsdecode(b"\xe9.png")).write_bytes(b"odd")
    assert package.of(pets).example() == pets / "cat" / "1.jpg"
    odd = pets.rename(pets.with_name(os.fsdecode(b"\xe9")))
    assert package.of(odd, name="pets").example() is None


def test_a_file_that_changes_on_the_way(pets: Path) -> None:
    for change in (b"short", b"x" * 10_000):
        one = package.of(pets)
        (pets / "cat" / "1.jpg").write_bytes(change)
        with pytest.raises(DanluError, match="changed while") as caught:
            whole(one)
        assert caught.value.code == "files_unusable"


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz", "PETS.TAR", "pets.tar.bz2"])
def test_an_archive_is_sent_as_it_is(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"anything" * 100_000)
    one = package.of(file)
    assert (one.name.lower(), one.size, one.example()) == ("pets", 800_000, None)
    assert whole(one) == file.read_bytes()
    assert package.of(file, name="猫").name == "猫"


@pytest.mark.parametrize(
    ("name", "code"),
    [("missing", "files_unusable"), ("empty", "files_unusable"), ("pets.rar", "archive_invalid")],
)
def test_what_cannot_be_sent(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    (tmp_path / "pets.rar").write_bytes(b"Rar!")
    with pytest.raises(DanluError) as caught:
        package.of(tmp_path / name)
    assert caught.value.code == code


@pytest.mark.parametrize("ending", ["", ".zip"])
def test_a_name_that_is_no_text(pets: Path, ending: str) -> None:
    odd = pets.with_name(os.fsdecode(b"caf\xe9") + ending)
    if ending:
        odd.write_bytes(b"anything")
    else:
        pets.rename(odd)
    with pytest.raises(DanluError, match=r"cannot be called 'caf\\udce9'") as caught:
        package.of(odd)
    assert caught.value.code == "invalid_request"
    assert package.of(odd, name="cafe").name == "cafe"
    with pytest.raises(DanluError, match="cannot be called"):
        package.of(odd, name=odd.name)
