"""What is in a tar, and what a tar must not be."""

import gzip
import io
import lzma
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from data_store import entries
from data_store.tars import Compression, Tar
from problems import Problem

Pack = Callable[..., Path]
FILES = {"cat/1.jpg": b"one" * 1000, "cat/2.jpg": b"", "dog/3.jpg": b"x" * 512, "a.txt": b"text"}


def unheard(_more: int) -> None:
    pass


def contents(path: Path, compression: Compression = "", *, but: str = "") -> dict[str, bytes]:
    listed: list[int] = []
    told: list[int] = []
    opened = Tar(path, compression, listed.append)
    try:
        wanted = {n for n, name in opened.names.items() if name.raw != but.encode()}
        read = {
            number: content.read(1 << 20) for number, content in opened.files(wanted, told.append)
        }
        assert sum(listed) == sum(told) == opened.total
        assert all(opened.size(number) == len(data) for number, data in read.items())
        return {opened.names[number].raw.decode(): data for number, data in read.items()}
    finally:
        opened.close()


def refusal(path: Path, compression: Compression = "") -> Problem:
    with pytest.raises(Problem) as caught:
        contents(path, compression)
    return caught.value


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_files_come_out_as_they_went_in(tarred: Pack, compression: Compression) -> None:
    folder = tarfile.TarInfo("cat")
    folder.type = tarfile.DIRTYPE

    found = contents(tarred(FILES, compression=compression, entries=[folder]), compression)

    assert found == FILES


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_format(tarred: Pack, format: int) -> None:
    files = {f"{'folder/' * 20}{'n' * 90}.jpg": b"one"}

    assert contents(tarred(files, format=format)) == files


def test_what_is_not_wanted_is_passed_over(tarred: Pack) -> None:
    assert list(contents(tarred(FILES), but="cat/1.jpg")) == ["cat/2.jpg", "dog/3.jpg", "a.txt"]


def test_names_in_other_encodings_are_as_they_lie(tarred: Pack) -> None:
    path = tarred({"xxxx.jpg": b""}, format=tarfile.GNU_FORMAT)
    data = path.read_bytes()
    other = data[:512].replace(b"xxxx", "猫犬".encode("gbk"))
    total = sum(other[:148]) + 8 * 32 + sum(other[156:])
    path.write_bytes(other[:148] + b"%06o\0 " % total + other[156:] + data[512:])
    opened = Tar(path, "", unheard)

    assert [(name.raw, name.known) for name in opened.names.values()] == [
        ("猫犬.jpg".encode("gbk"), False)
    ]
    opened.close()


def test_a_pax_name_says_what_it_is(tarred: Pack) -> None:
    opened = Tar(tarred({"猫.jpg": b""}), "", unheard)

    assert [name.known for name in opened.names.values()] == [True]
    opened.close()


def test_a_pax_name_whose_bytes_are_as_they_were_does_not_say_it(tarred: Pack) -> None:
    other = os.fsdecode("狗.jpg".encode("gbk"))
    opened = Tar(tarred({other: b"", "鳥.jpg": b""}), "", unheard)

    assert [(name.raw, name.known) for name in opened.names.values()] == [
        ("狗.jpg".encode("gbk"), False),
        ("鳥.jpg".encode(), True),
    ]
    opened.close()


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_tar_that_was_cut_off_is_refused(
    tarred: Pack, compression: Compression, left: float
) -> None:
    noise = {f"cat/{n}.jpg": zlib.compress(bytes([n]) * 5000) * 200 for n in range(9)}
    path = tarred(noise, compression=compression)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])

    problem = refusal(path, compression)

    assert problem.code == "archive_invalid"
    assert "cut off" in problem.detail


@pytest.mark.parametrize("end", [512, 1024, 1536, 1700, 4608])
def test_also_where_a_file_ends(tarred: Pack, end: int) -> None:
    path = tarred({"a": b"x", "b": b"x", "c": b"x" * 700}, format=tarfile.GNU_FORMAT)
    path.write_bytes(path.read_bytes()[:end])

    assert (refusal(path).code if end < 4608 else list(contents(path))) in (
        "archive_invalid",
        ["a", "b", "c"],
    )


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("step", ["n", "n/", "./", "名"])
def test_names_without_end_are_refused_before_anything_is_made_of_them(
    tarred: Pack, kind: bytes, step: str
) -> None:
    member = tarfile.TarInfo(step * 5000 + "a.txt")
    member.type = kind

    problem = refusal(tarred({"cat/1.jpg": b""}, entries=[member]))

    assert problem.code == "archive_invalid"
    assert "too long" in problem.detail
    assert len(problem.detail) < 200


def test_many_long_names_are_too_many(tarred: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_NAMES_BYTES", 30)

    assert list(contents(tarred({"cat/1.txt": b"", "cat/2.txt": b""}))) == [
        "cat/1.txt",
        "cat/2.txt",
    ]
    assert refusal(tarred({f"cat/{n}.txt": b"" for n in range(4)})).code == "archive_too_large"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_are_refused(tarred: Pack, kind: bytes) -> None:
    member = tarfile.TarInfo("cat/2.jpg")
    member.type, member.linkname = kind, "/etc/passwd"

    assert refusal(tarred({"cat/1.jpg": b""}, entries=[member])).code == "archive_unsafe"


@pytest.mark.parametrize("name", ["../1.jpg", "/etc/1.jpg", "C:\\1.jpg"])
def test_names_that_lead_elsewhere_are_refused_at_once(tarred: Pack, name: str) -> None:
    assert refusal(tarred({name: b"", "cat/1.jpg": b""})).code == "archive_unsafe"


def _header(name: str, size: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_takes_no_more_memory_than_it_should(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "archive"
    with gzip.open(path, "wb") as file:
        file.write(_header("a", 8_000_000_000, kind))
        file.write(bytes(1_000_000))

    assert "too long" in refusal(path, "gz").detail


def test_nor_do_headers_inside_headers_take_more_stack(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(_header("a", 0, tarfile.GNUTYPE_LONGNAME) * 10_000)

    assert refusal(path).code == "archive_invalid"


def test_a_bomb_is_given_up_also_where_it_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(_header("readme.txt", 70_000_000, tarfile.REGTYPE))
        for _ in range(70):
            file.write(bytes(1_000_000))

    assert refusal(path, "gz").code == "archive_too_large"


def test_a_negative_size_is_no_way_back(tmp_path: Path) -> None:
    header = bytearray(_header("1.txt", 0, tarfile.REGTYPE))
    header[124:136] = b"\xff" * 10 + struct.pack(">H", 0xFC00)  # base 256: -1024
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "archive"
    path.write_bytes(bytes(_header("0.txt", 0, tarfile.REGTYPE) + header + bytes(1024)))

    assert refusal(path).code == "archive_invalid"


def test_xz_may_not_ask_for_gigabytes(tarred: Pack) -> None:
    data = bytearray(tarred({"1.jpg": b"x"}, compression="xz").read_bytes())
    size = 4 * (data[12] + 1)  # of the first block's header, behind 12 bytes of the stream's
    data[12 + 4] = 40  # 4 GiB
    data[12 + size - 4 : 12 + size] = struct.pack("<L", zlib.crc32(data[12 : 12 + size - 4]))
    path = tarred({})
    path.write_bytes(data)

    problem = refusal(path, "xz")

    assert problem.code == "archive_invalid"
    assert "Memory" in problem.detail


def test_an_xz_may_consist_of_several(tarred: Pack) -> None:
    data = tarred(FILES).read_bytes()
    path = tarred({})
    path.write_bytes(lzma.compress(data[:700]) + bytes(8) + lzma.compress(data[700:]) + bytes(4))

    assert contents(path, "xz") == FILES


def test_whoever_waits_for_long_files_to_be_passed_over_is_heard(tarred: Pack) -> None:
    listed: list[int] = []
    told: list[int] = []
    path = tarred({"a": bytes(5_000_000), "b": b""}, compression="gz")
    opened = Tar(path, "gz", listed.append)

    assert [number for number, _ in opened.files({1}, told.append)] == [1]
    opened.close()
    assert len(listed) >= 4
    assert opened.total == sum(listed) == sum(told)


def test_what_is_in_a_plain_tar_is_not_read_to_know_its_names(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    size = 10**12
    with path.open("wb") as file:  # with a hole that would take minutes to read
        file.write(_header("a.bmp", size, tarfile.REGTYPE))
        file.truncate(512 + size + 1024)
    opened = Tar(path, "", unheard)

    assert (opened.names[0].raw, opened.size(0)) == (b"a.bmp", size)
    opened.close()


def test_files_with_holes_come_out_whole(tmp_path: Path) -> None:
    name, holes = "GNUSparseFile.0/a.bmp", "0,1,600,1"
    path = tmp_path / "archive"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as packed:
        member = tarfile.TarInfo(name)
        member.size = 2
        member.pax_headers = {
            "GNU.sparse.map": holes,
            "GNU.sparse.size": "601",
            "GNU.sparse.name": "a.bmp",
        }
        packed.addfile(member, io.BytesIO(b"xy"))

    assert contents(path) == {"a.bmp": b"x" + bytes(599) + b"y"}


def test_nor_do_many_holes_take_memory(tarred: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MOST_NAMES_BYTES", 100_000)
    member = tarfile.TarInfo("a.bmp")
    member.pax_headers = {"GNU.sparse.map": ",".join(["0,1"] * 1000), "GNU.sparse.size": "1"}

    assert refusal(tarred({}, entries=[member])).code == "archive_too_large"
