"""Which lists are taken, what `eval` follows from them, and what is refused beforehand."""

import dataclasses
import json
from typing import Any

import pytest

from models_store import recipe
from models_store.fields import Normalize, Recipe, SubmittedRecipe
from problems import Problem

MEAN = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
NORMALIZE = {"type": "Normalize", **MEAN}
OTHER = {"type": "Normalize", "mean": [0.0] * 3, "std": [1.0] * 3}


def one(name: str, **given: Any) -> dict[str, Any]:
    return {"type": name, **given}


@pytest.fixture(scope="module")
def resolve(facts: Any) -> Any:
    """Resolves lists for colour images of 32 px; `eval` None leaves it out."""

    def resolve(
        train: list[Any], judged: list[Any] | None = None, *, defaults: Any = None, **body: Any
    ) -> Recipe:
        lists = {"train": train} | ({} if judged is None else {"eval": judged})
        submitted = SubmittedRecipe.model_validate({"dataset": "own", "transforms": lists, **body})
        known = facts(height=32, width=32, channels=3, defaults=defaults or {})
        return recipe.resolve(submitted, known)

    return resolve


@pytest.fixture(scope="module")
def refusal(resolve: Any) -> Any:
    def refusal(*lists: Any, **body: Any) -> Problem:
        with pytest.raises(Problem) as caught:
            resolve(*lists, **body)
        assert caught.value.code == "transforms_misfit"
        return caught.value

    return refusal


def _shown(resolved: Recipe) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = resolved.transforms.model_dump(exclude_defaults=True)["eval"]
    return listed


@pytest.mark.parametrize(
    ("train", "follows", "size"),
    [
        ([], [], (32, 32)),
        ([one("RandomCrop"), one("RandomResizedCrop"), one("MixUp")], [], (32, 32)),
        ([one("RandomCrop", size=32, padding=4)], [], (32, 32)),
        ([one("RandomCrop", size=24)], [one("CenterCrop", size=[24, 24])], (24, 24)),
        (
            [one("RandomCrop", size=40, pad_if_needed=True)],
            [one("CenterCrop", size=[40, 40])],
            (40, 40),
        ),
        (
            [one("RandomResizedCrop", size=[20, 24], interpolation="bicubic")],
            [one("Resize", size=[20, 24], interpolation="bicubic")],
            (20, 24),
        ),
        (
            [one("Resize", size=40), one("RandomCrop", size=32), one("ColorJitter", hue=0.1)],
            [one("Resize", size=40), one("CenterCrop", size=[32, 32])],
            (32, 32),
        ),
        (
            [one("CenterCrop", size=28), one("Grayscale", num_output_channels=3), NORMALIZE],
            [one("CenterCrop", size=28), one("Grayscale", num_output_channels=3), NORMALIZE],
            (28, 28),
        ),
    ],
)
def test_eval_left_out_is_train_without_chance(
    train: list[Any], follows: list[Any], size: tuple[int, int], resolve: Any
) -> None:
    resolved = resolve(train)
    assert _shown(resolved) == follows
    assert resolved.input_size == size
    assert resolved.size == (32, 32)


@pytest.mark.parametrize(
    "train",
    [
        [one("Resize", size=40), one("RandomCrop", size=32), NORMALIZE, one("RandomErasing")],
        [one("RandomResizedCrop", size=16), one("AutoAugment"), one("CutMix")],
    ],
)
def test_posted_back_it_is_the_same(train: list[Any], resolve: Any, facts: Any) -> None:
    resolved = resolve(train, seed=1)
    posted = SubmittedRecipe.model_validate_json(json.dumps(resolved.model_dump(mode="json")))
    known = facts(height=32, width=32, channels=3)
    assert recipe.resolve(posted, known) == resolved
    other = {"transforms": {"train": [one("MixUp")], "eval": [one("Resize", size=8)]}}
    assert recipe.resolve(posted, dataclasses.replace(known, defaults=other)) == resolved


def test_a_given_eval_is_taken(resolve: Any) -> None:
    judged = [one("Resize", size=30), one("CenterCrop", size=24)]
    resolved = resolve([one("RandomResizedCrop", size=24)], judged)
    assert _shown(resolved) == judged
    assert resolve([], None, transforms={"eval": [one("CenterCrop", size=32)]}).input_size == (
        (32, 32)
    )


def test_naming_train_leaves_a_default_eval_behind(resolve: Any) -> None:
    default = {"train": [one("RandomCrop", size=8)], "eval": [one("Resize", size=8)]}
    resolved = resolve([one("RandomCrop", size=16)], defaults={"transforms": default})
    assert _shown(resolved) == [one("CenterCrop", size=[16, 16])]


def test_a_recipe_of_before_judges_the_image_as_it_is(resolve: Any) -> None:
    stored = resolve([one("RandomCrop")]).model_dump(mode="json")
    stored["transforms"] = {"train": [{"type": "RandomCrop", "padding": 4}]}
    old = Recipe.model_validate(stored)
    assert (old.transforms.shaping, old.input_size) == ([], (32, 32))


class TestNormalize:
    def test_in_the_list_is_what_the_field_says(self, resolve: Any) -> None:
        resolved = resolve([one("RandomCrop"), NORMALIZE])
        assert resolved.normalize == Normalize(**MEAN)
        assert _shown(resolved) == [NORMALIZE]
        assert resolved.transforms.shaping == []

    def test_it_comes_before_the_data_sets_own(self, resolve: Any) -> None:
        resolved = resolve([NORMALIZE], defaults={"normalize": "auto"})
        assert resolved.normalize == Normalize(**MEAN)

    def test_null_as_a_field_says_nothing_against_it(self, resolve: Any) -> None:
        assert resolve([NORMALIZE], normalize=None).normalize == Normalize(**MEAN)

    def test_the_field_alone(self, resolve: Any) -> None:
        assert resolve([], normalize="auto").normalize == "auto"

    @pytest.mark.parametrize("field", ["auto", {"mean": [0.0] * 3, "std": [1.0] * 3}])
    def test_both_are_refused(self, field: Any, refusal: Any) -> None:
        problem = refusal([NORMALIZE], normalize=field)
        assert problem.errors[0]["loc"] == ["body", "normalize"]

    @pytest.mark.parametrize("judged", [[], [OTHER]])
    def test_another_one_in_eval(self, judged: list[Any], refusal: Any) -> None:
        problem = refusal([NORMALIZE], judged)
        assert problem.errors[0]["loc"] == ["body", "transforms", "eval"]
        assert "normalize alike" in refusal([], [NORMALIZE]).detail


@pytest.mark.parametrize(
    ("train", "at", "words"),
    [
        ([NORMALIZE, one("RandomCrop")], 1, "RandomCrop comes after Normalize"),
        ([NORMALIZE, NORMALIZE], 1, "Normalize is there twice"),
        ([NORMALIZE, one("RandomErasing"), one("Resize", size=32)], 2, "Resize comes after"),
        ([one("MixUp"), one("RandomErasing")], 1, "RandomErasing comes after MixUp or CutMix"),
        ([one("CutMix"), NORMALIZE], 1, "Normalize comes after MixUp or CutMix"),
        ([one("Grayscale")], 0, "Grayscale makes 1 channels, and channels is 3"),
        ([one("RandomCrop", size=33)], 0, "a crop of 33 x 33 does not fit into 32 x 32"),
        (
            [one("CenterCrop", size=8), one("RandomCrop", size=[13, 9], padding=2)],
            *(1, "a crop of 13 x 9 does not fit into 12 x 12"),
        ),
        (
            [one("RandomCrop", padding=32, padding_mode="reflect")],
            *(0, "padding_mode reflect cannot pad 32 x 32"),
        ),
        (
            [one("RandomCrop", padding=[33, 0], padding_mode="symmetric")],
            *(0, "padding_mode symmetric cannot pad 32 x 32"),
        ),
        (
            [one("Resize", size=[1, 2048]), one("Resize", size=2)],
            *(1, "Resize makes 2 x 4096 of 1 x 2048"),
        ),
        (
            [one("Resize", size=[2048, 1]), one("Resize", max_size=100)],
            *(1, "Resize makes 100 x 0 of 2048 x 1"),
        ),
        ([one("RandomRotation", degrees=5, fill=[1, 2])], 0, "fill has 2 numbers for 3 channels"),
        ([one("RandomErasing", value=[1, 2])], 0, "value has 2 numbers for 3 channels"),
        ([one("Normalize", mean=[0.5], std=[0.5])], 0, "mean has 1 numbers for 3 channels"),
    ],
)
def test_what_cannot_work_is_refused_at_its_place(
    train: list[Any], at: int, words: str, refusal: Any
) -> None:
    problem = refusal(train)
    assert problem.detail.startswith(f"transforms.train[{at}]: {words}")
    assert problem.errors[0]["loc"] == ["body", "transforms", "train", at]
    assert problem.hint


def test_eval_is_held_to_the_same_rules(refusal: Any) -> None:
    problem = refusal([], [NORMALIZE, one("Resize", size=8)])
    assert problem.errors[0]["loc"] == ["body", "transforms", "eval", 1]


def test_both_lists_end_in_one_size(refusal: Any) -> None:
    problem = refusal([one("RandomCrop", size=24)], [one("CenterCrop", size=28)])
    assert problem.detail == "transforms.train ends in 24 x 24, transforms.eval in 28 x 28."
    assert problem.errors[0]["loc"] == ["body", "transforms", "eval"]


def test_what_only_just_works_is_taken(resolve: Any) -> None:
    resolve([one("RandomCrop", padding=31, padding_mode="reflect")])
    resolve([one("RandomCrop", padding=32, padding_mode="symmetric")])
    resolve([one("RandomCrop", padding=100, padding_mode="edge")])
    resolve([one("RandomRotation", degrees=5, fill=[1, 2, 3]), one("RandomErasing", value=[1])])
    resolve([one("Grayscale")], channels=1)
