from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_store.parts import DataSet, Part
from models_store.recipe import Recipe
from problems import Problem
from workers.split import split, stratified
from workers.training import Samples

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")


def data(**labels: Sequence[int]) -> DataSet:
    parts: Mapping[str, Part] = {
        part: Part(
            images=np.full((len(each), 12, 12, 1), number, np.uint8),
            labels=np.array(each, np.int64),
            borders=np.zeros(len(each), np.float32),
            spreads=np.zeros(len(each), np.float32),
        )
        for number, (part, each) in enumerate(labels.items())
    }
    return DataSet("shapes", "v1", ("a", "b", "c"), parts, skipped=())


def labels_of(samples: Samples) -> list[int]:
    return samples.labels[samples.index].tolist()


def test_every_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [1000, 200, 30])

    held_out = stratified(labels, 123, seed=0)

    assert np.bincount(labels[held_out]).tolist() == [100, 20, 3]


def test_a_seed_draws_the_same_images_and_another_draws_others() -> None:
    labels = np.tile([0, 1], 100)

    first = stratified(labels, 40, seed=3)

    assert np.array_equal(stratified(labels, 40, seed=3), first)
    assert not np.array_equal(stratified(labels, 40, seed=4), first)
    assert np.flatnonzero(first).tolist() != list(range(len(labels)))[: first.sum()]


@pytest.mark.parametrize(
    ("counts", "wanted", "held"),
    [
        ([100, 1], 10, [10, 0]),
        ([100, 1], 91, [91, 0]),  # a class keeps its last image
        ([5, 5], 10, [4, 4]),
        ([18, 10, 2], 3, [2, 1, 0]),  # 1.8, 1.0 and 0.2: rounded down, one is left over
        ([1, 1, 1], 2, [0, 0, 0]),
    ],
)
def test_classes_of_few_images(counts: list[int], wanted: int, held: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)

    held_out = stratified(labels, wanted, seed=0)

    assert np.bincount(labels[held_out], minlength=len(counts)).tolist() == held


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    wanted=st.integers(1, 480),
    seed=st.integers(0, 100),
)
def test_as_many_as_asked_for_and_never_a_whole_class(
    counts: list[int], wanted: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)

    held_out = stratified(labels, wanted, seed=seed)

    assert held_out.sum() == min(wanted, len(labels) - len(counts))
    assert (np.bincount(labels[~held_out], minlength=len(counts)) >= 1).all()


def test_a_fraction_is_held_out_of_the_training_part(recipe: MakeRecipe) -> None:
    found = split(data(train=[0, 1] * 20, test=[0, 1, 1]), recipe(validation=0.25), CPU)

    assert (len(found.train), len(found.validation)) == (30, 10)
    together = torch.cat([found.train.index, found.validation.index])
    assert together.sort().values.tolist() == list(range(40))
    assert found.test is not None
    assert labels_of(found.test) == [0, 1, 1]


def test_the_smallest_fraction_holds_one_image_out(recipe: MakeRecipe) -> None:
    found = split(data(train=[0, 1] * 20), recipe(validation=0.001), CPU)

    assert (len(found.train), len(found.validation)) == (39, 1)


def test_it_is_stratified_by_the_seed_of_the_recipe(recipe: MakeRecipe) -> None:
    images = data(train=[0, 1, 1, 1] * 20)

    found = split(images, recipe(validation=0.1, seed=5), CPU)

    expected = stratified(images.parts["train"].labels, 8, seed=5)
    assert found.validation.index.tolist() == np.flatnonzero(expected).tolist()
    assert sorted(labels_of(found.validation)) == [0] * 2 + [1] * 6
    assert found.test is None


def test_an_own_validation_part_leaves_the_training_part_whole(recipe: MakeRecipe) -> None:
    asked = recipe(validation=0.1).model_copy(update={"validation": "val"})

    found = split(data(train=[0, 1] * 4, val=[1, 0, 2], test=[0]), asked, CPU)

    assert len(found.train) == 8
    assert labels_of(found.validation) == [1, 0, 2]
    assert found.validation.pixels.unique().tolist() == [1]
    assert found.test is not None
    assert found.test.pixels.unique().tolist() == [2]


@pytest.mark.parametrize(("invert", "pixel"), [("auto", 254), ("never", 1)])
def test_negatives_of_the_training_images_are_taken_inverted(
    recipe: MakeRecipe, invert: str, pixel: int
) -> None:
    images = data(train=[0, 1] * 4, test=[1, 0, 2])
    images.parts["test"].borders[1] = 0.9

    found = split(images, recipe(validation="test", invert=invert), CPU)

    assert found.train.negative is None
    taken = found.validation.take(torch.tensor([2, 1, 0]))
    assert taken[:, 0, 0, 0].tolist() == [1, pixel, 1]
    assert found.validation.pixels.unique().tolist() == [1]  # as they lie


def test_validating_on_the_test_part_leaves_nothing_to_judge_on(recipe: MakeRecipe) -> None:
    found = split(data(train=[0, 1] * 4, test=[1, 0, 0]), recipe(validation="test"), CPU)

    assert len(found.train) == 8
    assert labels_of(found.validation) == [1, 0, 0]
    assert found.test is None


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_that_is_gone_by_now_is_named(recipe: MakeRecipe, part: str) -> None:
    asked = recipe(validation="test").model_copy(update={"validation": part})

    with pytest.raises(Problem, match=f"shapes has no {part} part") as raised:
        split(data(train=[0, 1] * 4), asked, CPU)

    assert raised.value.code == "dataset_invalid"


def test_classes_of_one_image_leave_nothing_to_validate_on(recipe: MakeRecipe) -> None:
    with pytest.raises(Problem, match="too few images") as raised:
        split(data(train=[0, 1, 2]), recipe(validation=0.5), CPU)

    assert raised.value.code == "dataset_invalid"


def test_a_test_part_is_held_out_of_a_set_that_has_none(recipe: MakeRecipe) -> None:
    whole = data(train=[0, 1, 1, 1] * 20)
    asked = recipe(validation=0.1).model_copy(update={"test": 0.25})

    found, again = split(whole, asked, CPU), split(whole, asked, CPU)

    assert found.test is not None
    assert again.test is not None
    assert sorted(labels_of(found.test)) == [0] * 5 + [1] * 15
    assert sorted(labels_of(found.validation)) == [0] * 2 + [1] * 6
    together = torch.cat([found.train.index, found.validation.index, found.test.index])
    assert together.sort().values.tolist() == list(range(80))
    assert found.test.index.tolist() == again.test.index.tolist()
    assert found.validation.index.tolist() == again.validation.index.tolist()
    other = split(whole, asked.model_copy(update={"seed": 1}), CPU)
    assert other.test is not None
    assert other.test.index.tolist() != found.test.index.tolist()


def test_it_goes_beside_an_own_validation_part(recipe: MakeRecipe) -> None:
    asked = recipe(validation=0.1).model_copy(update={"validation": "val", "test": 0.5})

    found = split(data(train=[0, 1] * 4, val=[1, 0, 2]), asked, CPU)

    assert found.test is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (4, 3, 4)


def test_what_is_held_out_of_mapped_images_is_a_copy(recipe: MakeRecipe, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    whole = data(train=[0, 1, 2] * 20)
    part = replace(whole.parts["train"], images=np.load(tmp_path / "images.npy", mmap_mode="c"))

    parts = split(replace(whole, parts={"train": part}), recipe(validation=0.2), CPU)

    validation = parts.validation
    assert validation.own is not None
    assert parts.train.own is None
    for index in (validation.index, validation.index[[5, 2]], validation.index[:0]):
        assert np.array_equal(validation.take(index).numpy(), images[index.numpy()])
    assert validation.own.data_ptr() != parts.train.take(validation.index).data_ptr()
