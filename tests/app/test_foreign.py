"""What a form says of weights; the way in is in routes/test_foreign."""

import json

import pytest

from app import foreign
from problems import Problem

FORM = {"architecture": "LeNet-5", "classes": '["猫", "b"]', "input": "1x28x30"}


def described(**fields):
    return foreign.described({**FORM, **fields}, filename="a.pth", sha256="0f")


def test_the_short_form_is_what_the_notes_do():
    found = described()
    assert (found.architecture, found.classes, found.job_id) == ("lenet5", ["猫", "b"], None)
    seen = found.preprocessing
    assert (seen.channels, seen.height, seen.width) == (1, 28, 30)
    assert (seen.normalize, seen.transforms, seen.invert_from_border) == (None, [], None)
    assert found.made_with["imported_from"] == "a.pth"
    assert found.made_with["sha256"] == "0f"


def test_the_long_form_has_the_words_of_a_manifest():
    seen = {
        "channels": 3,
        "image_size": 40,
        "normalize": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
        "transforms": [{"type": "CenterCrop", "size": [28, 26]}],
        "invert_from_border": 0.1,
    }
    layers = {"layers": [{"type": "Flatten"}, {"type": "Linear", "bias": True}]}
    found = described(input=json.dumps(seen), architecture=json.dumps(layers))
    assert found.architecture == {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}
    assert found.preprocessing.input_size == (28, 26)
    told = found.preprocessing.model_dump(mode="json", exclude_defaults=True)
    assert told["normalize"] == seen["normalize"]
    assert (told["height"], told["width"], told["trained_height"]) == (40, 40, 40)


def test_an_input_that_is_too_small_is_told_as_such():
    with pytest.raises(Problem) as caught:
        described(input="1x5x5")
    assert caught.value.code == "network_misfit"
    assert caught.value.errors[0]["loc"] == ["body", "input"]
    assert caught.value.hint.startswith("Use an input of")


def test_places_are_those_that_people_wrote():
    """What a field may be has names of its own in pydantic, which nobody wrote."""
    with pytest.raises(Problem) as caught:
        described(input="3x5000x5000")
    assert caught.value.detail.startswith("input.image_size: Input should be a valid integer")
    assert [error["loc"] for error in caught.value.errors] == [
        ["body", "input", "image_size"],
        ["body", "input", "image_size", 0],
        ["body", "input", "image_size", 1],
    ]


def test_a_layer_with_an_unknown_field_is_told_what_was_meant():
    layers = {"layers": [{"type": "Conv2d", "out_chanels": 3, "kernel_size": 3}]}
    with pytest.raises(Problem) as caught:
        described(architecture=json.dumps(layers))
    assert caught.value.code == "unknown_field"
    assert "'out_channels'" in caught.value.hint
    assert caught.value.errors[-1]["loc"] == ["body", "architecture", "layers", 0, "out_chanels"]


def test_classes_are_words():
    with pytest.raises(Problem, match=r"classes\.1: Input should be a valid string"):
        described(classes='["a", 3]')
