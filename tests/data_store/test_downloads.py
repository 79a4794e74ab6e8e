"""Downloads from a server on this machine: mirrors, md5, unpacking, and none that answers."""

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from data_store import downloads
from data_store.built_in import SETS, BuiltIn, File
from problems import Problem
from tests.data_store.mirrors import NOBODY, SOON, Mirror
from tests.data_store.mirrors import served as serving

Served = tuple[str, dict[str, bytes], list[str]]


def wanted(files: dict[str, tuple[bytes, tuple[str, ...]]], *mirrors: str, folder: str) -> BuiltIn:
    """A row of the table for these files: name -> (bytes as served, what they hold)."""
    rows = tuple(
        File(name, len(data), hashlib.md5(data).hexdigest(), holds)
        for name, (data, holds) in files.items()
    )
    return replace(SETS["mnist"], files=rows, mirrors=mirrors, folder=folder)


def nothing(phase: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def zipped() -> dict[str, tuple[bytes, tuple[str, ...]]]:
    return {
        "images.gz": (gzip.compress(os.urandom(700_000)), ("Set/raw/images",)),
        "labels.gz": (gzip.compress(b"labels"), ("Set/raw/labels",)),
    }


def test_gz_files_are_fetched_and_unpacked(served: Served, zipped, tmp_path: Path) -> None:
    address, files, asked = served
    files |= {f"/{name}": data for name, (data, _) in zipped.items()}
    row = wanted(zipped, address, folder="Set/raw")
    told: list[tuple[str, int, int]] = []
    assert not downloads.is_local(row, tmp_path)
    downloads.fetch(row, tmp_path, lambda *call: told.append(call))
    assert (tmp_path / "Set/raw/labels").read_bytes() == b"labels"
    assert (tmp_path / "Set/raw/images").stat().st_size == 700_000
    assert sorted(p.name for p in (tmp_path / "Set/raw").iterdir()) == [
        "images",
        "images.gz",
        "labels",
        "labels.gz",
    ]
    total = sum(len(data) for data, _ in zipped.values())
    assert (told[0], told[-1]) == (("downloading", 0, total), ("downloading", total, total))
    assert downloads.is_local(row, tmp_path)
    downloads.fetch(row, tmp_path, nothing)
    assert len(asked) == 2


def test_what_is_unpacked_is_enough(tmp_path: Path, zipped) -> None:
    for _, (held,) in zipped.values():
        (tmp_path / held).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / held).write_bytes(b"whatever it is")
    row = wanted(zipped, NOBODY, folder="Set/raw")
    assert downloads.is_local(row, tmp_path)
    downloads.fetch(row, tmp_path, nothing)


def test_files_put_there_by_hand_are_taken(tmp_path: Path, zipped) -> None:
    for name, (data, _) in zipped.items():
        (tmp_path / "Set/raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "Set/raw" / name).write_bytes(data)
    row = wanted(zipped, NOBODY, folder="Set/raw")
    assert downloads.is_local(row, tmp_path)
    downloads.fetch(row, tmp_path, nothing)
    assert (tmp_path / "Set/raw/labels").read_bytes() == b"labels"


def test_an_archive_gives_what_it_holds_and_nothing_else(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("batches/one", "batches/readme.html", "../outside", "batches/two"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    files["/all.tar.gz"] = packed.getvalue()
    content = {"all.tar.gz": (packed.getvalue(), ("batches/one", "batches/two"))}
    root = tmp_path / "root"
    downloads.fetch(wanted(content, address, folder="."), root, nothing)
    assert sorted(p.name for p in root.iterdir()) == ["all.tar.gz", "batches"]
    assert {p.name: p.read_text() for p in (root / "batches").iterdir()} == {
        "one": "batches/one",
        "two": "batches/two",
    }
    assert not (tmp_path / "outside").exists()


def test_the_next_mirror_helps(served: Served, tmp_path: Path) -> None:
    address, files, asked = served
    files["/wrong/a.mat"] = b"not it"
    files["/long/a.mat"] = b"the file and then a lot more of it"
    files["/right/a.mat"] = b"the file"
    mirrors = [NOBODY, *(f"{address}{way}/" for way in ("gone", "wrong", "long", "right"))]
    row = wanted({"a.mat": (b"the file", ("a.mat",))}, *mirrors, folder=".")
    told: list[int] = []
    downloads.fetch(row, tmp_path, lambda _, done, __: told.append(done), patience=SOON)
    assert (tmp_path / "a.mat").read_bytes() == b"the file"
    assert asked[:4] == ["/gone/a.mat", "/wrong/a.mat", "/long/a.mat", "/right/a.mat"]
    assert told[-1] == max(told) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["a.mat"]


def test_nobody_answers(served: Served, tmp_path: Path, zipped) -> None:
    row = wanted(zipped, NOBODY, served[0], folder="Set/raw")
    with pytest.raises(Problem, match=r"ConnectError.*404 Not Found") as caught:
        downloads.fetch(row, tmp_path, nothing)
    problem = caught.value
    assert (problem.code, problem.status) == ("dataset_unavailable", 503)
    for file in row.files:
        assert f"{file.name} ({file.bytes:,} bytes, md5 {file.md5})" in problem.hint
    assert str(tmp_path / "Set/raw") in problem.hint
    assert "DANLU_MIRROR" in problem.hint
    assert not list((tmp_path / "Set/raw").iterdir())


def test_stopped_on_the_way_it_is_told_how_much_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    content = {"a.mat": (bytes(5000), ("a.mat",)), "b.mat": (b"it", ("b.mat",))}
    told: list[tuple[int, int]] = []

    def stop(phase: str, done: int, total: int) -> None:
        told.append((done, total))
        if done:
            raise KeyboardInterrupt

    files = {f"/{name}": data for name, (data, _) in content.items()}
    with serving(Mirror(files, then="stall", after=3000)) as mirror:
        row = wanted(content, mirror.url, folder=".")
        with pytest.raises(KeyboardInterrupt):
            downloads.fetch(row, tmp_path, stop)
        assert [p.name for p in tmp_path.iterdir()] == ["a.mat.part"]
        mirror.after = 0
        with pytest.raises(Problem, match="said nothing") as caught:
            downloads.fetch(row, tmp_path, nothing, patience=SOON)
        assert "3,000 bytes have come, and the next try goes on there" in caught.value.hint
        assert not downloads.is_local(row, tmp_path)
        mirror.then = "all"
        told.clear()
        downloads.fetch(row, tmp_path, lambda _, *counted: told.append(counted))
        assert [begin for _, begin in mirror.asked] == [0, 3000, 3000, 0]
    assert (told[0], told[-1]) == ((3000, 5002), (5002, 5002))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mat", "b.mat"]


def test_own_mirrors_are_asked_first_and_look_like_a_home(
    served: Served, tmp_path: Path, zipped
) -> None:
    address, files, asked = served
    files |= {f"/m/datasets/Set/raw/{name}": data for name, (data, _) in zipped.items()}
    row = wanted(zipped, f"{address}known/", folder="Set/raw")
    downloads.fetch(row, tmp_path, nothing, mirrors=[f"{address}empty/", f"{address}m/"])
    below = "datasets/Set/raw"
    assert asked == [
        *(f"/empty/{below}/images.gz", f"/m/{below}/images.gz"),
        f"/m/{below}/labels.gz",  # which had the first one
    ]
    files["/datasets/a.mat"] = b"it"
    row = wanted({"a.mat": (b"it", ("a.mat",))}, NOBODY, folder=".")
    downloads.fetch(row, tmp_path, nothing, mirrors=[address])
    assert (tmp_path / "a.mat").read_bytes() == b"it"


def test_a_folder_that_cannot_be_written(served: Served, tmp_path: Path) -> None:
    address, files, _ = served
    files["/a.mat"] = b"the file"
    (tmp_path / "root").write_bytes(b"a file where the folder should be")
    row = wanted({"a.mat": (b"the file", ("a.mat",))}, address, folder="in")
    with pytest.raises(Problem, match="cannot be written") as caught:
        downloads.fetch(row, tmp_path / "root", nothing)
    assert caught.value.code == "dataset_unavailable"
