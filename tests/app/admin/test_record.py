from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.admin import record
from app.admin.refusal import Refused


def made(folder: Path) -> record.Record:
    """A backup of a database and one checkpoint whose weights its manifest does not seal."""
    checkpoint = folder / "checkpoints" / "ckpt_1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text("{}")
    (folder / record.DATABASE).write_text("rows")
    heard: list[tuple[str, int, int]] = []
    files = record.measure(folder, lambda *said: heard.append(said))
    assert heard == [("checksums", 0, 2), ("checksums", 1, 2)]
    return record.Record(
        danlu="1",
        created_at=datetime.now(UTC),
        home="/home",
        datasets_dir="/home/datasets",
        database_revision="0001",
        jobs={"running": 1},
        checkpoints=1,
        bytes=6,
        files=files,
        datasets=record.weigh(folder / "datasets"),
    )


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    kept = made(tmp_path)
    record.write(tmp_path, kept)

    assert record.read(tmp_path) == kept
    assert set(kept.files) == {"danlu.sqlite3", "checkpoints/ckpt_1/manifest.json"}


def test_nothing_is_wrong_with_what_was_measured(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []

    assert record.damaged(tmp_path, made(tmp_path), lambda *said: heard.append(said)) == {}
    assert heard[-1] == ("checksums", 6, 6)


def test_data_sets_are_weighed_by_name(tmp_path: Path) -> None:
    image = tmp_path / "datasets" / "pets" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"123")
    (tmp_path / "datasets" / "archive.zip").touch()

    assert record.weigh(tmp_path / "datasets") == {"pets": record.FolderRecord(files=1, bytes=3)}
    assert record.weigh(tmp_path / "none") == {}


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "runs/../../outside"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    kept = made(tmp_path)
    record.write(tmp_path, kept.model_copy(update={"files": {name: kept.files["danlu.sqlite3"]}}))

    with pytest.raises(Refused) as refused:
        record.read(tmp_path)
    assert refused.value.code == "backup_damaged"
