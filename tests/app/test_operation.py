"""Where a wrong field is, told as people wrote it."""

import pytest

from app.operation import Operation

INTEGER = {"type": "integer"}
SCHEMAS = {
    "Recipe": {
        "title": "Recipe",
        "type": "object",
        "properties": {
            "size": {
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]
            },
            "norm": {"anyOf": [{"const": "auto"}, {"$ref": "#/components/schemas/Norm"}]},
            "steps": {
                "type": "array",
                "items": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/Crop"},
                        {"$ref": "#/components/schemas/Flip"},
                    ]
                },
            },
        },
    },
    "Norm": {"title": "Norm", "type": "object", "properties": {"mean": {"type": "number"}}},
    "Crop": {"title": "Crop", "type": "object", "properties": {"padding": {"type": "integer"}}},
    "Flip": {"title": "Flip", "type": "object", "properties": {"p": {"type": "number"}}},
}
BODY = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Recipe"}}}}
OPERATION = Operation({"requestBody": BODY, "parameters": []}, SCHEMAS)


@pytest.mark.parametrize(
    ("loc", "place"),
    [
        (("body", "norm", "Norm", "mean"), ["body", "norm", "mean"]),
        (("body", "norm", "literal['auto']"), ["body", "norm"]),
        (("body", "size", "list[int]", 1), ["body", "size", 1]),
        (("body", "size", "int"), ["body", "size"]),
        (("body", "steps", 0, "Crop", "padding"), ["body", "steps", 0, "padding"]),
        (("query", "limit"), ["query", "limit"]),
        (("body",), ["body"]),
    ],
)
def test_branches_of_unions_are_left_out(loc, place):
    assert OPERATION.field(loc, unknown=False)[0] == place


def test_an_unknown_field_and_its_neighbours():
    place, names = OPERATION.field(("body", "steps", 0, "Crop", "pad"), unknown=True)
    assert place == ["body", "steps", 0, "pad"]
    assert names == ["padding"]
    assert OPERATION.field(("body", "nrom"), unknown=True) == (
        ["body", "nrom"],
        ["size", "norm", "steps"],
    )
