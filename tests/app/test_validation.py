"""Names that nobody knows are refused, with what was perhaps meant."""

import asyncio

import pytest
from starlette.requests import Request

from app import validation
from app.main import create_app
from app.operation import Operation

NOWHERE = Operation({}, {})


def test_an_unknown_parameter_that_is_nearly_known(shared, problem):
    document = problem(shared.get("/jobs?stat=queued"), 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'state'?"
    document = problem(shared.post("/train?dryrun=true", json={}), 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'dry_run'?"


def test_a_query_before_the_server_is_ready_holds_up_nobody(settings):
    """The document that says which parameters there are is not made in the loop."""
    app = create_app(settings)
    scope = {"type": "http", "app": app, "method": "GET", "query_string": b"limit=1"}

    async def turns_of_others() -> int:
        asking = asyncio.create_task(validation.refuse_unknown_parameters(Request(scope)))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.001)
            turns += 1
        await asking
        return turns

    assert asyncio.run(turns_of_others()) > 5


def test_the_first_of_several_wrong_fields_is_told_and_all_are_listed():
    found = [
        {"type": "missing", "loc": ("body", "a"), "msg": "Field required"},
        {"type": "value_error", "loc": ("body", "b", 0), "msg": "Value error, too odd"},
    ]
    problem = validation.problem(NOWHERE, found)
    assert problem.code == "invalid_request"
    assert problem.detail == "a: Field required (and 1 more)"
    assert problem.errors[1] == {"loc": ["body", "b", 0], "msg": "too odd"}


def test_all_that_a_field_may_be_is_told_at_once(shared, problem):
    """Where the first kind alone was told, nobody learned that a number will do."""
    recipe = {"dataset": "digits", "validation": 1.5}
    document = problem(shared.post("/train", json=recipe), 422, "invalid_request")
    assert document["detail"] == (
        "validation: Input should be 'val' or 'test', or: Input should be less than 1"
    )
    assert len(document["errors"]) == 2


def test_an_unknown_field_is_told_before_wrong_values():
    found = [
        {"type": "missing", "loc": ("body", "a"), "msg": "Field required"},
        {"type": "extra_forbidden", "loc": ("body", "b"), "msg": "Extra inputs are not permitted"},
    ]
    problem = validation.problem(NOWHERE, found)
    assert problem.code == "unknown_field"
    assert problem.detail == "danlu knows no field 'b' here."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "json_invalid", "loc": ("body", 3), "msg": "x"}, "invalid_json"),
        ({"type": "missing", "loc": ("body",), "msg": "x", "input": None}, "invalid_json"),
        (
            {"type": "model_type", "loc": ("body",), "msg": "x", "input": b""},
            "unsupported_media_type",
        ),
        ({"type": "model_type", "loc": ("body",), "msg": "x", "input": []}, "invalid_request"),
    ],
)
def test_a_body_that_is_wrong_as_a_whole(error, code):
    problem = validation.problem(NOWHERE, [error])
    assert problem.code == code
    assert problem.hint


def test_no_regular_expression_is_shown_to_people(shared):
    answer = shared.get("/architectures/lenet5?input=abc")
    assert answer.status_code == 422
    assert "pattern" not in answer.text
    assert "/docs" in answer.json()["errors"][0]["msg"]


def test_a_field_that_pytorch_has_and_danlu_sets_is_refused_with_the_reason():
    found = [
        {
            "type": "argument_fixed",
            "loc": ("body", "a", "device"),
            "msg": "danlu sets it: there is one",
            "ctx": {"why": "there is one"},
        }
    ]
    problem = validation.problem(NOWHERE, found)
    assert problem.code == "unknown_field"
    assert problem.hint == "Leave it out: there is one."
    assert problem.errors == [
        {"loc": ["body", "a", "device"], "msg": "danlu sets it: there is one"}
    ]


def test_json_has_lists_and_no_tuples():
    found = [{"type": "tuple_type", "loc": ("body", "a"), "msg": "Input should be a valid tuple"}]
    assert validation.problem(NOWHERE, found).detail == "a: Input should be a valid list"
