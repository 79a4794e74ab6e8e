"""The one exception that people are told of."""

import copy
import pickle

import pytest

from problems import KINDS, Problem

FULL = {
    "hint": "Try mnist.",
    "errors": [{"loc": ["body", "tags", 0], "msg": "unknown"}],
}


def _shown(problem: Problem) -> tuple[object, ...]:
    return (
        type(problem), problem.code, problem.detail, problem.hint, problem.errors,
        problem.status, problem.kind, str(problem),
    )  # fmt: skip


def test_has_what_its_kind_has() -> None:
    problem = Problem("dataset_unknown", "There is no 'minst'.")
    assert problem.status == 404
    assert problem.kind is KINDS["dataset_unknown"]
    assert problem.hint == KINDS["dataset_unknown"].hint
    assert str(problem) == problem.detail == "There is no 'minst'."
    assert problem.errors == []


def test_its_own_hint_comes_first() -> None:
    assert Problem("dataset_unknown", "x", hint="Try mnist.").hint == "Try mnist."
    assert Problem("dataset_unknown", "x", hint="").hint == ""


def test_a_code_that_nobody_registered_is_a_typing_error() -> None:
    with pytest.raises(KeyError, match="dataset_unknwon"):
        Problem("dataset_unknwon", "x")


@pytest.mark.parametrize("given", [{}, FULL])
def test_crosses_process_borders(given: dict[str, object]) -> None:
    problem = Problem("dataset_unknown", "There is no 'minst'.", **given)  # type: ignore[arg-type]
    for other in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert _shown(other) == _shown(problem)


def test_as_dict_is_what_a_job_keeps() -> None:
    assert Problem("job_ended", "It ended.").as_dict() == {
        "code": "job_ended",
        "message": "It ended.",
        "hint": KINDS["job_ended"].hint,
    }
    shown = Problem("dataset_unknown", "x", **FULL).as_dict()  # type: ignore[arg-type]
    assert shown == {"code": "dataset_unknown", "message": "x", **FULL}
