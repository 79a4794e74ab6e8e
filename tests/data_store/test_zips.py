"""What is in a zip, and what a zip must not be."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from data_store import entries
from data_store.zips import Zip
from problems import Problem

Pack = Callable[..., Path]
END = struct.Struct("<4s4H2LH")
ENTRY = struct.Struct("<4s4B4H3L5H2L")


def contents(path: Path) -> dict[bytes, bytes]:
    told: list[int] = []
    opened = Zip(path)
    try:
        read = {
            opened.names[number].raw: content.read(1 << 20)
            for number, content in opened.files(opened.names, told.append)
        }
        assert sum(told) == opened.total
        return read
    finally:
        opened.close()


def refusal(path: Path) -> Problem:
    with pytest.raises(Problem) as caught:
        contents(path)
    return caught.value


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_come_out_as_they_went_in(zipped: Pack, method: int) -> None:
    files = {"cat/1.jpg": b"one" * 100, "cat/2.jpg": b"", "readme.txt": b"three"}

    found = contents(zipped({"cat/": b"", **files}, method=method))

    assert found == {name.encode(): data for name, data in files.items()}


def test_only_wanted_files_are_read(zipped: Pack) -> None:
    opened = Zip(zipped({"a": b"1", "b": b"2"}))

    assert [opened.size(number) for number, _ in opened.files({1}, lambda _: None)] == [1]
    opened.close()


def test_zip64_and_a_program_in_front_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"MZ this unpacks itself" * 10)
    with (
        zipfile.ZipFile(path, "a") as packed,
        packed.open("cat/1.jpg", "w", force_zip64=True) as file,
    ):
        file.write(b"one")

    assert contents(path) == {b"cat/1.jpg": b"one"}


@pytest.mark.parametrize("encoding", ["gbk", "cp932"])
def test_names_without_a_flag_are_as_they_lie(zipped: Pack, encoding: str) -> None:
    opened = Zip(zipped({"猫/1.jpg": b""}, encoding=encoding))

    assert [(name.raw, name.known) for name in opened.names.values()] == [
        ("猫/1.jpg".encode(encoding), False)
    ]
    opened.close()


def test_a_unicode_path_goes_before_unless_the_entry_was_renamed(tmp_path: Path) -> None:
    def extra(raw: bytes, text: str) -> bytes:
        data = struct.pack("<BL", 1, zlib.crc32(raw)) + text.encode()
        return struct.pack("<HHL", 0x5455, 4, 0) + struct.pack("<HH", 0x7075, len(data)) + data

    path = tmp_path / "archive"
    with zipfile.ZipFile(path, "w") as packed:
        for name, of in (("xx.jpg", b"xx.jpg"), ("yy.jpg", b"before")):
            member = zipfile.ZipInfo(name)
            member.extra = extra(of, "猫.jpg")
            packed.writestr(member, b"")
    opened = Zip(path)

    names = [(name.raw, name.known) for name in opened.names.values()]

    assert names == [("猫.jpg".encode(), True), (b"yy.jpg", False)]
    opened.close()


@pytest.mark.parametrize("left", [0.3, 0.5, 0.99])
def test_a_zip_that_was_cut_off_is_refused(zipped: Pack, left: float) -> None:
    path = zipped({f"cat/{n}.jpg": bytes(range(256)) for n in range(20)}, method=0)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])

    problem = refusal(path)

    assert problem.code == "archive_invalid"
    assert "cut off" in problem.detail


def test_wrong_bytes_are_found(zipped: Pack) -> None:
    path = zipped({"cat/1.jpg": b"right"}, method=0)
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))

    problem = refusal(path)

    assert problem.code == "archive_invalid"
    assert "cat/1.jpg" in problem.detail


def test_a_password_is_not_asked_for(zipped: Pack) -> None:
    path = zipped({"cat/1.jpg": b"one"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)

    problem = refusal(path)

    assert problem.code == "archive_invalid"
    assert "password" in problem.detail


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_limit_are_refused(zipped: Pack, method: int) -> None:
    problem = refusal(zipped({"cat/1.jpg": b"one"}, method=method))

    assert problem.code == "archive_invalid"
    assert "ordinary zip" in problem.hint


@pytest.mark.parametrize(("place", "value"), [(42, 0xFFFFFFF0), (20, 0x7FFFFFFF), (10, 9)])
def test_a_directory_that_lies_is_damage(zipped: Pack, place: int, value: int) -> None:
    """About where a file is, how long it is, and how it was packed (deflate64)."""
    path = zipped({"cat/1.jpg": b"one" * 100})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + place
    data[at : at + (2 if place == 10 else 4)] = value.to_bytes(2 if place == 10 else 4, "little")
    path.write_bytes(data)

    assert refusal(path).code == "archive_invalid"


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("cat/1.jpg")
    member.external_attr = (kind | 0o644) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as packed:
        packed.writestr(member, b"/etc/passwd")

    assert refusal(tmp_path / "archive").code == "archive_unsafe"


def test_files_that_share_their_bytes_are_refused(zipped: Pack) -> None:
    path = zipped({"cat/1.jpg": b"one" * 1000, "cat/2.jpg": b"two" * 1000}, method=0)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    for place in (20, 24):  # the second says that it is as long as both
        data[at + place : at + place + 4] = (6000).to_bytes(4, "little")
    path.write_bytes(data)

    assert "overlap" in refusal(path).detail


def test_a_name_that_is_no_utf8_is_refused(zipped: Pack) -> None:
    path = zipped({"é.jpg": b""})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))

    assert refusal(path).code == "archive_invalid"


@pytest.mark.parametrize("count", [entries.MOST_ENTRIES + 1, 10**6])
def test_a_million_entries_are_refused_before_they_are_looked_at(
    tmp_path: Path, count: int
) -> None:
    entry = ENTRY.pack(b"PK\x01\x02", 20, 0, 20, 0, *[0] * 8, 1, *[0] * 5) + b"x"
    directory = entry * count
    end = END.pack(b"PK\x05\x06", 0, 0, 0, 0, len(directory), 0, 0)
    path = tmp_path / "archive"
    path.write_bytes(directory + end)

    assert refusal(path).code == "archive_too_large"


def test_a_directory_larger_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    size = 3_000_000_000
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(END.pack(b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0))

    assert refusal(path).code == "archive_too_large"


def test_a_bomb_is_given_up_on_the_way(zipped: Pack) -> None:
    opened = Zip(zipped({"cat/1.bmp": bytes(20_000_000)}))
    files = opened.files(opened.names, lambda _: None)
    _, content = next(files)
    assert len(content.read(15_000_000)) == 15_000_000
    with pytest.raises(Problem) as caught:
        content.read(2_000_000)
    assert caught.value.code == "archive_too_large"
    opened.close()
