"""The client's records are those that the server answers with: same names, nothing missing."""

import typing

import pytest

from app import predictions, schemas
from app.routes.datasets import DataSetImageRead, DataSetRead
from danlu import wire
from models_store import report

# A prediction is one of two things on the wire: an answer, or why there is none.
PREDICTION = {**predictions.PredictionRead.model_fields, **predictions.RefusedRead.model_fields}


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (wire.Progress, schemas.ProgressRead.model_fields),
        (wire.Metrics, schemas.MetricsRead.model_fields),
        (wire.DataSetVersion, schemas.DataSetOfJob.model_fields),
        (wire.JobCheckpoint, schemas.CheckpointOfJob.model_fields),
        (wire.Job, schemas.JobRead.model_fields),
        (wire.Epoch, schemas.EpochRead.model_fields),
        (wire.Step, schemas.StepRead.model_fields),
        (wire.History, schemas.HistoryRead.model_fields),
        (wire.Layer, schemas.LayerRead.model_fields),
        (wire.Plan, schemas.PlanRead.model_fields),
        (wire.Checkpoint, schemas.CheckpointItem.model_fields),
        (wire.Page, schemas.Page.model_fields),
        (wire.Guess, predictions.Guess.model_fields),
        (wire.Prediction, PREDICTION),
        (wire.Answer, predictions.AnswerRead.model_fields),
        (wire.DataSetImage, DataSetImageRead.model_fields),
        (wire.Report, report.Evaluation.model_fields),
        (wire.ClassReport, report.ClassReport.model_fields),
        (wire.Averages, report.Averages.model_fields),
        (wire.Calibration, report.Calibration.model_fields),
        (wire.Bin, report.Bin.model_fields),
        (wire.Mistake, report.Mistake.model_fields),
    ],
)
def test_a_record_has_the_names_of_the_wire(record: type, fields: dict[str, object]) -> None:
    assert set(typing.get_type_hints(record)) == set(fields)


def test_a_data_set_leaves_out_what_the_client_does_not_show() -> None:
    assert set(typing.get_type_hints(wire.DataSet)) <= set(DataSetRead.model_fields)
