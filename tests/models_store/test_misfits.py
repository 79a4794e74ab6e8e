"""What does not go together, with the place of the field to change."""

from typing import Any

import pytest

from models_store import misfits, recipe
from models_store.fields import Device, Recipe, SubmittedRecipe
from problems import Problem


@pytest.fixture(scope="session")
def resolve(facts: Any) -> Any:
    """Resolves a body for 1000 training images of ten classes, without a test part."""

    def resolve(**body: Any) -> Recipe:
        counts = body.pop("_counts", {"train": 1000})
        submitted = SubmittedRecipe.model_validate({"dataset": "own", **body})
        return recipe.resolve(submitted, facts(counts=counts))

    return resolve


ONES = [1.0] * 10
STEP, EPOCH = {"interval": "step"}, {"interval": "epoch"}
STEPS = {"batch_size": 90, "epochs": 10}  # 10 steps in each of 10 epochs


@pytest.mark.parametrize(
    ("body", "place", "detail"),
    [
        ({"test": 0.1, "_counts": {"train": 10, "test": 1}}, ["test"], "own has a test part of"),
        ({"test": 0.5, "validation": 0.5}, ["test"], "No image of 1000 is left"),
        ({"loss": {"weight": [1.0, 2.0]}}, ["loss", "weight"], "There are 2 weights for 10"),
        ({"class_weights": [1.0] * 11}, ["class_weights"], "There are 11 weights for 10 classes"),
        ({"class_weights": [0] * 10}, ["class_weights"], "All weights are 0."),
        (
            {"class_weights": "balanced", "loss": {"weight": ONES}},
            ["class_weights"],
            "Both class_weights and loss.weight",
        ),
        (
            {"class_weights": ONES, "loss": "MSELoss"},
            ["class_weights"],
            "MSELoss weighs no classes.",
        ),
        ({"loss": {"ignore_index": 10}}, ["loss", "ignore_index"], "There is no class 10 among"),
        ({"loss": {"ignore_index": -1}}, ["loss", "ignore_index"], "There is no class -1 among"),
        (
            {"epochs": 3, "scheduler": {"name": "CosineAnnealingLR", "warmup_epochs": 3}},
            ["scheduler", "warmup_epochs"],
            "The run ends after 3 epochs, before its warm-up",
        ),
        (  # as long as the run, once it is rounded to whole steps
            {"epochs": 3, "scheduler": {"name": "OneCycleLR", "warmup_epochs": 2.999}},
            ["scheduler", "warmup_epochs"],
            "The run ends after 3 epochs, before its warm-up",
        ),
        (
            {"optimizer": "Adagrad", "scheduler": "OneCycleLR"},
            ["scheduler", "cycle_momentum"],
            "Adagrad has no momentum to cycle.",
        ),
        (
            {"epochs": 10, "scheduler": {"name": "MultiStepLR", "milestones": [5, 10]}},
            ["scheduler", "milestones"],
            "MultiStepLR would move after 10 epochs, and the run ends after 10.",
        ),
        (
            {**STEPS, "scheduler": {"name": "MultiStepLR", "milestones": [100], **STEP}},
            ["scheduler", "milestones"],
            "MultiStepLR would move after 100 steps, and the run ends after 100.",
        ),
        (
            {
                **STEPS,
                "grad_accumulation": 4,
                "scheduler": {"name": "MultiStepLR", "milestones": [30], **STEP},
            },
            ["scheduler", "milestones"],
            "MultiStepLR would move after 30 steps, and the run ends after 30.",
        ),
        (
            {"epochs": 10, "scheduler": {"name": "StepLR", "step_size": 9, "warmup_epochs": 1}},
            ["scheduler", "step_size"],
            "StepLR would move after 9 epochs, and the run ends after 9.",
        ),
        ({"device": "cpu", "precision": "fp16"}, ["precision"], "fp16 needs a CUDA GPU, and the"),
        ({"device": "mps", "precision": "tf32"}, ["precision"], "tf32 needs a CUDA GPU, and the"),
        ({"devices": 4, "batch_size": 3}, ["devices"], "A batch of 3 leaves some of 4 devices"),
    ],
)
def test_is_refused_at_its_place(
    resolve: Any, body: dict[str, Any], place: list[str], detail: str
) -> None:
    with pytest.raises(Problem) as caught:
        resolve(**body)
    assert caught.value.code == "invalid_request"
    assert caught.value.detail.startswith(detail)
    assert caught.value.hint
    assert caught.value.errors == [{"loc": ["body", *place], "msg": caught.value.detail}]


@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        ({"_counts": {"train": 10}}, "validation", "Add images, or a val folder with some."),
        (
            {"validation": 0.2, "_counts": {"train": 10, "test": 5}},
            "validation",
            'Add images, or say validation: "test".',
        ),
        (
            {"validation": 0.2, "test": 0.1, "_counts": {"train": 11}},
            "validation",
            "Add images, or leave test out.",
        ),
        (
            {"validation": "val", "test": 0.1, "_counts": {"train": 10, "val": 5}},
            "test",
            "Add images, or leave test out.",
        ),
    ],
)
def test_no_class_gives_its_last_image(
    resolve: Any, body: dict[str, Any], field: str, hint: str
) -> None:
    with pytest.raises(Problem, match=f"too few training images .* {field}") as caught:
        resolve(**body)
    assert (caught.value.code, caught.value.hint) == ("dataset_invalid", hint)
    assert caught.value.errors == [{"loc": ["body", field], "msg": caught.value.detail}]


@pytest.mark.parametrize(
    "body",
    [
        {"test": 0.1},
        {"test": 0.2, "validation": "val", "_counts": {"train": 20, "val": 5}},
        {"validation": 0.9, "_counts": {"train": 11}},
        {"validation": 0.1, "test": 0.1, "_counts": {"train": 12}},
        {"validation": "val", "_counts": {"train": 10, "val": 5}},  # nothing is held out
        {"validation": "test", "_counts": {"train": 10, "test": 5}},
        {"class_weights": [0, *ONES[1:]]},
        {"class_weights": "balanced", "loss": {"ignore_index": 9}},
        {"epochs": 1, "scheduler": {"name": "OneCycleLR", "warmup_epochs": 0.5}},
        {"optimizer": "Rprop", "scheduler": {"name": "OneCycleLR", "cycle_momentum": False}},
        {"optimizer": "Muon", "scheduler": "OneCycleLR"},
        {"epochs": 10, "scheduler": {"name": "MultiStepLR", "milestones": [5, 9]}},
        {**STEPS, "scheduler": {"name": "StepLR", "step_size": 99, **STEP}},
        {"device": "cuda", "precision": "fp16"},
        {"devices": 4, "batch_size": 4},
        {"precision": "tf32"},  # whether there is a GPU is known where the job runs
    ],
)
def test_goes_together(resolve: Any, body: dict[str, Any]) -> None:
    assert resolve(**body)


@pytest.mark.parametrize(
    ("body", "images"),
    [
        ({"validation": 0.1}, 900),
        ({"validation": 0.1, "test": 0.25}, 650),
        ({"validation": 0.0001, "test": 0.0001}, 998),  # one image at least
        ({"validation": "val", "_counts": {"train": 1000, "val": 5}}, 1000),
    ],
)
def test_images_that_are_trained_on(resolve: Any, body: dict[str, Any], images: int) -> None:
    assert misfits.trained(resolve(**body), 1000) == images


@pytest.mark.parametrize(
    ("half_wave", "interval", "warned"),
    [
        (None, STEP, None),
        (10, EPOCH, None),
        (100, STEP, None),
        (20, EPOCH, "With T_max 20 in a run of 10 the learning rate does not come down to eta_min"),
        (50, STEP, "With T_max 50 in a run of 100 the learning rate rises again before the end."),
    ],
)
def test_a_cosine_of_another_length_is_told_of(
    resolve: Any, half_wave: int | None, interval: dict[str, str], warned: str | None
) -> None:
    cosine = {"name": "CosineAnnealingLR", "T_max": half_wave, **interval}
    told = misfits.schedule_length(resolve(**STEPS, scheduler=cosine), images=900)
    assert told == warned if warned is None else (told or "").startswith(warned)


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixing_transforms_make_two_labels_of_one(resolve: Any, name: str) -> None:
    plain = resolve(transforms={"train": [{"type": "RandomHorizontalFlip"}]})
    assert misfits.mixing(plain) is None

    lists = {"train": [{"type": "RandomHorizontalFlip"}, {"type": name}]}
    assert misfits.mixing(resolve(transforms=lists, loss="MSELoss")) == name
    with pytest.raises(Problem, match=f"{name} makes two of it") as caught:
        resolve(transforms=lists, loss={"ignore_index": 3})
    assert caught.value.errors[0]["loc"] == ["body", "loss", "ignore_index"]


@pytest.mark.parametrize(
    ("device", "found", "there"),
    [
        ("auto", ["cpu"], 6),
        ("auto", ["cuda:0", "cuda:1"], 2),
        ("auto", ["mps"], 1),
        ("cpu", ["cuda:0", "cuda:1"], 6),
        ("cuda", ["cuda:0", "cuda:1"], 2),
        ("cuda", ["cpu"], 0),
        ("mps", ["mps"], 1),
    ],
)
def test_devices_that_may_share_a_batch(device: Device, found: list[str], there: int) -> None:
    assert misfits.devices_there(device, found, cores=6) == there
