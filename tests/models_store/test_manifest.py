"""The manifest as JSON: what is written can be read again, and nothing else can."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from models_store.manifest import Manifest


def test_reads_what_it_wrote(manifest: Callable[..., Manifest]) -> None:
    written = manifest(
        classes=["猫", "dog"],
        preprocessing={
            "normalize": {"mean": [0.1307], "std": [0.3081]},
            "invert_from_border": 0.013,
        },
        files={"model.safetensors": "00"},
    )
    assert Manifest.model_validate_json(written.model_dump_json()) == written


def test_what_is_not_a_number_becomes_null(manifest: Callable[..., Manifest]) -> None:
    written = manifest(metrics={"val_loss": math.nan, "train_loss": math.inf, "test_loss": None})
    text = written.model_dump_json()
    assert json.loads(text)["metrics"] == dict.fromkeys(["val_loss", "train_loss", "test_loss"])
    assert Manifest.model_validate_json(text).metrics["val_loss"] is None


def test_classes_keep_their_order(manifest: Callable[..., Manifest]) -> None:
    classes = [str(9 - number) for number in range(10)]
    text = manifest(classes=classes).model_dump_json()
    assert Manifest.model_validate_json(text).classes == classes


def test_inversion_and_normalization_are_off_unless_said(manifest: Callable[..., Manifest]) -> None:
    preprocessing = manifest().preprocessing
    assert preprocessing.normalize is None
    assert preprocessing.invert_from_border is None


def test_transforms_decide_what_the_network_gets(manifest: Callable[..., Manifest]) -> None:
    crop = {"type": "CenterCrop", "size": [20, 24]}
    written = manifest(preprocessing={"transforms": [{"type": "Resize", "size": 30}, crop]})
    read = Manifest.model_validate_json(written.model_dump_json())
    assert read == written
    assert read.preprocessing.input_size == (20, 24)


def test_a_manifest_of_before_has_none(manifest: Callable[..., Manifest]) -> None:
    old = manifest().model_dump(mode="json")
    del old["preprocessing"]["transforms"]
    preprocessing = Manifest.model_validate(old).preprocessing
    assert (preprocessing.transforms, preprocessing.input_size) == ([], (28, 28))


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": 2},
        {"unknown": 1},
        {"preprocessing": {"channels": 2}},
        {"preprocessing": {"crop": 1}},
        {"preprocessing": {"transforms": [{"type": "RandomCrop"}]}},
        {"classes": None},
        {"created_at": "yesterday"},
    ],
)
def test_anything_else_is_refused(manifest: Callable[..., Manifest], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**wrong)


def test_a_manifest_does_not_change(manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest().epoch = 3
