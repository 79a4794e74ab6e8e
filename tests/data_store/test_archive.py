"""From an archive to a folder that danlu can train on, or to nothing at all."""

import gzip
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_store import archive, folder, limits
from problems import Problem

Pack = Callable[..., Path]
Png = Callable[..., bytes]


def quiet(_phase: str, _done: int, _total: int) -> None:
    pass


def unpack(path: Path, progress: Any = quiet, **how: Any) -> tuple[archive.Unpacked, set[str]]:
    into = path.parent / "into"
    unpacked = archive.unpack(path, into, progress, **how)
    return unpacked, {
        file.relative_to(into).as_posix() for file in into.rglob("*") if file.is_file()
    }


def refusal(path: Path, **how: Any) -> Problem:
    before = sorted(path.parent.iterdir())
    with pytest.raises(Problem) as caught:
        unpack(path, **how)
    assert sorted(path.parent.iterdir()) == before
    return caught.value


@pytest.fixture
def files(png: Png) -> dict[str, bytes]:
    return {f"pets/{name}/{n}.png": png(n) for name in ("cat", "dog") for n in range(3)}


@pytest.mark.parametrize("kind", ["zip", "stored", "", "gz", "bz2", "xz"])
def test_archives_are_known_by_their_content(
    zipped: Pack, tarred: Pack, files: dict[str, bytes], kind: str
) -> None:
    junk = {"pets/.DS_Store": b"x", "__MACOSX/pets/cat/._0.png": b"x", "pets/notes.txt": b"x"}
    if kind in ("zip", "stored"):
        path = zipped(files | junk, method=zipfile.ZIP_DEFLATED if kind == "zip" else 0)
    else:
        path = tarred(files | junk, compression=kind)

    unpacked, found = unpack(path)

    assert found == {name.removeprefix("pets/") for name in files}
    assert (unpacked.images, unpacked.in_words()) == (6, "1 no image")
    scan = folder.scan(path.parent / "into")
    assert (scan.classes, len(scan.parts["train"])) == (("cat", "dog"), 6)
    for name, data in files.items():
        assert (path.parent / "into" / name.removeprefix("pets/")).read_bytes() == data


@pytest.mark.parametrize("encoding", ["gbk", "cp932", "utf-8", None])
def test_names_come_out_right(zipped: Pack, png: Png, encoding: str | None) -> None:
    # The second byte of ソ, in Shift-JIS, is a backslash.
    files = {"写真/花/ソ.png": png(1), "写真/鳥/二.png": png(2)}
    if encoding == "gbk":
        files = {"照片/玫瑰/一.png": png(1), "照片/郁金香/二.png": png(2)}

    unpacked, found = unpack(zipped(files, encoding=encoding))

    assert found == {name.partition("/")[2] for name in files}
    assert unpacked.encoding == {"gbk": "gb18030", "cp932": "cp932"}.get(encoding or "", "utf-8")
    told = [(each.code, each.message.rpartition("read as ")[2]) for each in unpacked.findings()]
    names = {"gbk": "GBK (simplified Chinese)", "cp932": "Shift-JIS (Japanese)"}
    assert told == [("names_guessed", name) for each, name in names.items() if each == encoding]
    assert len(unpacked.guessed) == (2 if encoding else 0)


def test_a_guess_is_told_with_names_to_look_at(zipped: Pack, png: Png) -> None:
    files = {f"貓/{n}.png": png(n) for n in range(3)} | {"狗/1.png": png(4), "bird/1.png": png(5)}

    (found,) = unpack(zipped(files, encoding="cp950"))[0].findings()

    assert found.warning()["message"].startswith(
        "The archive does not say how its names are encoded: they were read as Big5 (traditional "
        "Chinese) (貓/0.png, 狗/1.png). If they look wrong, pack"
    )
    assert "UTF-8" in found.advice


def test_what_is_left_out_is_told_with_what_to_do(zipped: Pack, files: dict[str, bytes]) -> None:
    (one,) = unpack(zipped(files | {"pets/a.txt": b""}))[0].findings()
    assert one.message == "1 file of the archive was left out: 1 no image"
    shutil.rmtree(zipped(files).parent / "into")

    (more,) = unpack(zipped(files | {"pets/a.txt": b"", "pets/cat/0.PNG": b""}))[0].findings()

    assert "2 files of the archive were left out" in more.message
    assert more.advice.startswith("Images are taken that have an ending")
    assert "differ by more than upper and lower case" in more.advice


def test_names_in_a_tar_come_out_right_too(tarred: Pack, png: Png) -> None:
    path = tarred({"aa/bb.png": png(1), "cc/dd.png": png(2)}, format=tarfile.GNU_FORMAT)
    data = bytearray(path.read_bytes())
    for old, new in ((b"aa/bb", "花/ソ"), (b"cc/dd", "鳥/二")):
        start = data.index(old)
        data[start : start + 5] = new.encode("cp932")
        data[start + 148 : start + 156] = b" " * 8
        data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(data)

    assert unpack(path)[1] == {"花/ソ.png", "鳥/二.png"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"Rar!\x1a\x07\x00" + bytes(600), "RAR"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "Zstandard"),
        (b"no archive at all", "no archive"),
        (b"", "no archive"),
        (b"\xff\xd8\xff" + bytes(2000), "no archive"),
        (b"PK\x03\x04" + bytes(600), "cut off"),
        (gzip.compress(b"a file that is no tar" * 100, mtime=0), "damaged"),
        (gzip.compress(b"x", mtime=0), "damaged"),
        (b"BZh9" + bytes(600), "damaged"),
        (b"\xfd7zXZ\x00" + bytes(600), "damaged"),
        (b"\x1f\x8b" + bytes(600), "damaged"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "archive"
    path.write_bytes(data)

    problem = refusal(path)

    assert (problem.code, said in problem.detail) == ("archive_invalid", True)


@pytest.mark.parametrize("packed", ["zip", "tar"])
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("../../evil.png", "archive_unsafe"),
        ("/tmp/evil.png", "archive_unsafe"),
        ("..\\evil.png", "archive_unsafe"),
        ("C:\\evil.png", "archive_unsafe"),
        ("../evil.txt", "archive_unsafe"),
        ("pets/Cat/7.png", "archive_invalid"),
        (f"pets/cat/{'x' * 300}.png", "archive_invalid"),
    ],
)
def test_one_bad_name_spoils_it_all(
    zipped: Pack, tarred: Pack, files: dict[str, bytes], packed: str, bad: str, code: str
) -> None:
    path = (zipped if packed == "zip" else tarred)(files | {bad: b"x"})

    assert refusal(path).code == code


def test_a_link_spoils_it_too(tarred: Pack, files: dict[str, bytes]) -> None:
    link = tarfile.TarInfo("pets/cat/9.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"

    assert refusal(tarred(files, entries=[link])).code == "archive_unsafe"


@pytest.mark.parametrize("packed", ["zip", "tar"])
def test_what_makes_no_data_set_is_refused(zipped: Pack, tarred: Pack, packed: str) -> None:
    path = (zipped if packed == "zip" else tarred)({"cat/1.png": b"x", "cat/2.png": b"y"})

    problem = refusal(path)

    assert problem.code == "dataset_invalid"
    assert "only the class 'cat', with 2 images" in problem.detail


def test_one_class_is_enough_for_a_set_that_is_there(zipped: Pack) -> None:
    assert unpack(zipped({"cat/1.png": b"x"}), known=("cat", "dog"))[1] == {"cat/1.png"}


def test_a_thousandfold_archive_is_refused(zipped: Pack, files: dict[str, bytes]) -> None:
    path = zipped(files | {"pets/cat/bomb.bmp": bytes(20_000_000)})

    assert refusal(path).code == "archive_too_large"


def test_a_thousandfold_tar_is_refused(tarred: Pack, files: dict[str, bytes]) -> None:
    bombs = {f"pets/cat/{n}.bmp": bytes(11_000_000) for n in range(7)}

    assert refusal(tarred(files | bombs, compression="gz")).code == "archive_too_large"


def test_a_file_larger_than_any_image_is_left_out(
    tarred: Pack, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tarred(files)
    large = tarfile.TarInfo("pets/cat/large.tif")
    large.size = limits.MOST_IMAGE_BYTES + 1
    small = path.read_bytes().rstrip(b"\0")
    with path.open("wb") as file:  # with holes, where tar would write zeros
        file.write(small.ljust(-len(small) % 512 + len(small), b"\0"))
        file.write(large.tobuf())
        file.truncate(file.tell() + -(-large.size // 512) * 512 + 1024)

    unpacked, found = unpack(path)

    assert len(found) == 6
    assert [(each.file, each.why) for each in unpacked.left_out] == [
        ("pets/cat/large.tif", "too large")
    ]


def test_the_others_stay_where_they_are_when_one_is_too_large(
    zipped: Pack, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_IMAGE_BYTES", 1000)
    # Without the large one there would be no training part, and test would be a class.
    files = {"test/cat/1.png": png(1), "cat/1.png": png(2), "train/cat/large.bmp": bytes(1001)}

    unpacked, found = unpack(zipped(files), known=("cat",))

    assert found == {"test/cat/1.png"}
    assert {each.file: each.why for each in unpacked.left_out} == {
        "cat/1.png": "in none of the parts",
        "train/cat/large.bmp": "too large",
    }


def test_one_that_is_too_large_may_have_been_all_of_its_class(
    zipped: Pack, tarred: Pack, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_IMAGE_BYTES", 1000)
    files = {"cat/a/1.png": png(1), "cat/b/1.png": png(2), "dog/large.bmp": bytes(1001)}

    for path in (zipped(files), tarred(files)):
        problem = refusal(path)
        assert problem.code == "dataset_invalid"
        assert "only the class 'cat', with 2 images" in problem.detail
    assert unpack(zipped(files), known=("cat",))[1] == {"cat/a/1.png", "cat/b/1.png"}


def test_nothing_but_what_is_too_large_is_refused(
    zipped: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_IMAGE_BYTES", 1000)

    problem = refusal(zipped({"cat/1.bmp": bytes(1001), "dog/1.bmp": bytes(1001)}))

    assert problem.code == "dataset_invalid"
    assert "2 images are too large" in problem.detail


@pytest.mark.parametrize("end", ["/.", "\\", "/./", "\\.\\"])
def test_what_says_nothing_at_the_end_of_a_name_is_in_nobodys_way(
    tarred: Pack, files: dict[str, bytes], end: str
) -> None:
    found = unpack(tarred({name + end: data for name, data in files.items()}))[1]

    assert found == {name.removeprefix("pets/") for name in files}


def test_a_full_disk_leaves_nothing(zipped: Pack, files: dict[str, bytes]) -> None:
    def full(_phase: str, done: int, _total: int) -> None:
        if done:
            raise OSError(28, "No space left on device")

    path = zipped(files)

    assert refusal(path, free=lambda _: limits.SPARE_BYTES).code == "disk_full"
    assert refusal(path, progress=full).code == "disk_full"


@pytest.mark.parametrize("compression", ["", "gz"])
def test_a_tar_is_refused_for_its_names_before_anything_is_written(
    tarred: Pack, files: dict[str, bytes], compression: str, tmp_path: Path
) -> None:
    many = {f"{n}/1.png": b"x" for n in range(folder.MOST_CLASSES + 1)}
    made: set[str] = set()

    problem = refusal(
        tarred(many, compression=compression),
        progress=lambda *_: made.update(path.name for path in (tmp_path / "into").iterdir()),
    )

    assert (problem.code, made) == ("dataset_invalid", set())


def test_a_tar_is_listed_before_it_is_unpacked(tarred: Pack, files: dict[str, bytes]) -> None:
    path = tarred(files, compression="gz")
    told: list[tuple[str, int, int]] = []

    unpack(path, lambda *how: told.append(how))

    size = path.stat().st_size
    ends = [("listing", 0), ("listing", size), ("unpacking", 0), ("unpacking", size)]
    assert [each for each in ends if (*each, size) in told] == ends
    assert [phase for phase, _, _ in told] == sorted(phase for phase, _, _ in told)


def test_a_tar_that_has_no_room_is_not_begun(tarred: Pack, files: dict[str, bytes]) -> None:
    sizes = sum(map(len, files.values()))

    assert refusal(tarred(files), free=lambda _: limits.SPARE_BYTES + sizes - 1).code == "disk_full"


def test_progress_is_told_and_stops_the_work(zipped: Pack, files: dict[str, bytes]) -> None:
    path = zipped(files)
    told: list[tuple[str, int, int]] = []
    unpack(path, lambda *how: told.append(how))
    size = path.stat().st_size
    assert told[0] == ("unpacking", 0, size)
    assert told[-1] == ("unpacking", size, size)

    class Stopped(Exception):
        pass

    def stop(_phase: str, done: int, _total: int) -> None:
        raise Stopped

    (path.parent / "into").rename(path.parent / "before")
    with pytest.raises(Stopped):
        unpack(path, stop)
    assert not (path.parent / "into").exists()
