"""What is sent: numbers that are none become null."""

import math

import pytest

from app.schemas import MetricsRead, StepRead


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_null(value):
    sent = StepRead(step=1, epoch=1, train_loss=value, lr=0.1).model_dump_json()
    assert sent == '{"step":1,"epoch":1,"train_loss":null,"lr":0.1}'


def test_what_was_not_measured_is_null():
    assert set(MetricsRead().model_dump().values()) == {None}
