"""The file of a report: whole or not there, and what is read of it."""

from pathlib import Path
from typing import Any

import pytest

from models_store import report
from models_store.report import Averages, Calibration, ClassReport, Evaluation
from problems import Problem


def made(**given: Any) -> Evaluation:
    calibration = Calibration(
        temperature=1.7,
        fitted_count=10,
        ece_before=0.2,
        ece_after=0.1,
        nll_before=0.9,
        nll_after=0.8,
        bins_before=[],
        bins_after=[],
    )
    return Evaluation.model_validate(
        {
            "checkpoint_id": "ckpt_1",
            "dataset": {"name": "猫", "version": None},
            "judged_on": "test",
            "count": 1,
            "accuracy": 1.0,
            "top5_accuracy": None,
            "averages": Averages(precision=1, recall=None, f1=None),
            "classes": [
                ClassReport(index=0, label="猫", precision=1, recall=None, f1=None, support=1)
            ],
            "confusion": [[1]],
            "calibration": calibration,
            "mistakes": [],
            **given,
        }
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    report.write(tmp_path, made(accuracy=0.5))
    report.write(tmp_path, made())

    assert report.read(tmp_path) == made()
    assert report.read_temperature(tmp_path) == 1.7
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]
    assert '"parity":null' in (tmp_path / "evaluation.json").read_text()


def test_without_a_report_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert report.read(tmp_path) is None
    assert report.read(tmp_path / "gone") is None
    assert report.read_temperature(tmp_path) is None


def test_without_a_calibration_the_temperature_is_one(tmp_path: Path) -> None:
    report.write(tmp_path, made(calibration=None))

    assert report.read_temperature(tmp_path) == 1.0


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[]", b'{"calibration": {}}', b"\xff"])
def test_a_damaged_report_is_said_to_be(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "evaluation.json").write_bytes(damaged)

    for read in (report.read, report.read_temperature):
        with pytest.raises(Problem, match=r"evaluation\.json cannot be read") as raised:
            read(tmp_path)
        assert raised.value.code == "checkpoint_damaged"


PROOF = {"passed": True, "count": 9, "different": 0, "allowed": 1, "largest_margin": None}


@pytest.mark.parametrize(
    ("proof", "proves"), [(PROOF, True), ({**PROOF, "passed": False}, False), (None, False)]
)
def test_a_proof_in_half_the_bits(tmp_path: Path, proof: Any, proves: bool) -> None:
    report.write(tmp_path, made(parity_bf16=proof))
    assert report.proves_bf16(tmp_path) is proves


@pytest.mark.parametrize("written", [None, "", "{}", "[]", '{"parity_bf16": {"passed": "yes"}}'])
def test_what_cannot_be_read_proves_nothing(tmp_path: Path, written: str | None) -> None:
    if written is not None:
        (tmp_path / "evaluation.json").write_text(written)
    assert report.proves_bf16(tmp_path) is False
