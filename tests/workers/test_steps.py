"""A batch that does not fit, by `training.fit`, with networks that have room for few images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from models_store.recipe import Recipe
from problems import Problem
from tests.workers.noise import samples
from workers import steps, training
from workers.losses import Loss
from workers.room import Room
from workers.steps import Prepared
from workers.training import EpochEnd, Run, Samples, Training

MakeRecipe = Callable[..., Recipe]
CPU = torch.device("cpu")
RUN = Run(device=CPU, precision="fp32", normalize=None, stopped=lambda: False, classes=10)
SGD = {"name": "SGD", "lr": 0.05, "momentum": 0.9}


TRAIN, VALIDATION = samples(64), samples(40, seed=1)


class Tight(nn.Module):
    """Has no room for more than `most` images, as it notices in `where`."""

    def __init__(self, most: int, where: str = "forward", *, normalised: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(4) if normalised else nn.Identity()
        self.last = nn.Linear(4 * 12 * 12, 10)
        self.most, self.where = most, where
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        full = len(images) > self.most
        if full and self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        hidden = self.norm(self.first(images)).relu()
        if full and self.where == "backward":  # when the last layer has its gradients by now
            if hidden.requires_grad:
                hidden.register_hook(_exhaust)
            else:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        if self.training:
            self.sizes.append(len(images))
        logits: torch.Tensor = self.last(hidden.flatten(1))
        return logits


def _exhaust(_: torch.Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def fitted(
    asked: Recipe, network: nn.Module, run: Run | None = None, train: Samples = TRAIN
) -> tuple[Training, list[EpochEnd]]:
    run = run or replace(RUN)
    least = training.smallest_batch(network)
    per_epoch = training.steps_per_epoch(len(train), asked, least=least)
    begun = training.begin(network, asked, run, steps=per_epoch * asked.epochs)
    found = training.fit(begun, train, VALIDATION, recipe=asked, run=run)
    return begun, [event for event in found if isinstance(event, EpochEnd)]


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"optimizer": {"name": "Adam"}, "clip_grad_norm": 0.5},
        {"class_weights": [float(one) for one in range(1, 11)]},
        {"loss": {"reduction": "sum"}, "optimizer": {**SGD, "lr": 0.002}},
    ],
)
def test_a_batch_in_halves_is_accumulation_to_the_bit(
    recipe: MakeRecipe, where: str, words: dict[str, Any]
) -> None:
    loss_of = losses_of(words)
    tight, wide = Tight(16, where), Tight(64)
    words = {"epochs": 3, "optimizer": SGD, **words}

    split, measured = fitted(recipe(batch_size=32, **words), tight, loss_of())
    plain, wanted = fitted(recipe(batch_size=16, grad_accumulation=2, **words), wide, loss_of())

    assert (split.step, plain.step) == (6, 12)
    assert tight.sizes[-12:] == [16] * 12
    assert same_bits(tight, wide)
    assert [(end.train, end.validation) for end in measured] == [
        (end.train, end.validation) for end in wanted
    ]


def losses_of(words: dict[str, Any]) -> Callable[[], Run]:
    weight = words.get("class_weights")
    loss = Loss(
        weight=None if weight is None else torch.tensor(weight), **dict(words.get("loss") or {})
    )
    return lambda: replace(RUN, loss=loss)


WHOLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "in a group": {"grad_accumulation": 2},
    "in a group, with class weights": {
        "grad_accumulation": 3, "class_weights": [float(one) for one in range(1, 11)],
    },
    "an ignored class, smoothed": {"loss": {"ignore_index": 3, "label_smoothing": 0.1}},
    "sums": {"loss": {"reduction": "sum"}, "optimizer": {**SGD, "lr": 0.001}},
    "augmented and mixed": {"transforms": {"train": [
        {"type": "RandomCrop", "padding": 2}, {"type": "RandomHorizontalFlip"}, {"type": "MixUp"},
    ]}},
    "fp16": {"precision": "fp16"},
}  # fmt: skip


@pytest.mark.parametrize("words", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_batch_in_parts_is_the_whole_batch(
    recipe: MakeRecipe, where: str, words: dict[str, Any]
) -> None:
    words = {"epochs": 2, "batch_size": 14, "optimizer": SGD, **words}
    precision = words.pop("precision", "fp32")
    run_of = losses_of(words)
    tight, wide = Tight(5, where), Tight(64)
    asked = recipe(**words)

    split, measured = fitted(asked, tight, replace(run_of(), precision=precision))
    whole, wanted = fitted(asked, wide, replace(run_of(), precision=precision))

    assert max(tight.sizes[-8:]) <= 4
    assert split.step == whole.step
    # The same images in the same order, augmented and mixed alike.
    for name, state in whole.random_states().items():
        assert torch.equal(split.random_states()[name], state)
    close = {"rtol": 0.02, "atol": 2e-3} if precision == "fp16" else {"rtol": 1e-4, "atol": 1e-5}
    for ours, theirs in zip(tight.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, **close)
    for end, other in zip(measured, wanted, strict=True):
        assert end.train.loss == pytest.approx(other.train.loss, rel=1e-3)
        assert end.train.accuracy == pytest.approx(other.train.accuracy, abs=0.02)


class Once(Tight):
    """Runs out of memory in the backward pass of one call, whatever its size."""

    def __init__(self, call: int) -> None:
        super().__init__(64, "backward")
        self.call = call

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.most = 0 if len(self.sizes) == self.call else 64
        return super().forward(images)


def test_the_batches_before_in_the_group_keep_their_gradients(recipe: MakeRecipe) -> None:
    asked = recipe(
        epochs=1, batch_size=16, grad_accumulation=4, optimizer={"name": "SGD", "lr": 1.0}
    )
    once, wide = Once(2), Tight(64)

    fitted(asked, once)
    fitted(asked, wide)

    assert once.sizes == [16, 16, 16, 8, 8, 8, 8]  # what failed, then it and the rest in halves
    for ours, theirs in zip(once.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_it_is_told_once_by_a_stable_code(recipe: MakeRecipe) -> None:
    heard: list[tuple[str, str]] = []
    run = replace(RUN, warn=lambda code, message: heard.append((code, message)))

    fitted(recipe(epochs=3, batch_size=32), Tight(9), run)

    [(code, message)] = heard
    assert code == "batch_split"
    assert message == (
        "32 images at once do not fit into the memory of cpu: they are trained on in 4 parts. "
        "Their gradients add up to those of the whole batch."
    )


@pytest.mark.parametrize(("normalised", "least"), [(False, 1), (True, 2)])
def test_a_batch_that_never_fits_is_told(recipe: MakeRecipe, normalised: bool, least: int) -> None:
    with pytest.raises(Problem, match=f"Not even {least} image") as raised:
        fitted(recipe(epochs=1, batch_size=32), Tight(least - 1, normalised=normalised))

    assert raised.value.code == "out_of_memory"
    assert "image_size" in raised.value.hint


@pytest.mark.parametrize("count", [33, 64])
def test_batch_norm_gets_two_images_or_more(recipe: MakeRecipe, count: int) -> None:
    tight = Tight(3, normalised=True)

    fitted(recipe(epochs=1, batch_size=11), tight, train=samples(count))

    assert set(tight.sizes) == {2, 3}
    assert sum(tight.sizes) == count


def test_what_is_judged_is_halved_too(caplog: pytest.LogCaptureFixture) -> None:
    judged = samples(600, seed=2)
    run, heard = replace(RUN), list[torch.Tensor]()

    measured = training.evaluate(
        Tight(100), judged, run, heed=lambda logits, labels: heard.append(labels)
    )
    wanted = training.evaluate(Tight(600), judged, replace(RUN))

    assert measured is not None
    assert wanted is not None
    assert measured.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert measured.accuracy == wanted.accuracy
    assert torch.equal(torch.cat(heard), judged.labels)
    assert run.judging.most == 57
    assert "227 images at once do not fit" in caplog.text


def test_judging_that_never_fits_is_told() -> None:
    with pytest.raises(Problem, match="Not even 1 image at once can be judged"):
        training.evaluate(Tight(0), VALIDATION, replace(RUN))


def test_what_has_no_room_to_be_prepared_is_prepared_in_parts() -> None:
    def make(index: torch.Tensor) -> Prepared:
        if len(index) > 6:
            raise MemoryError
        return Prepared(index * 2.0, index, index)

    prepared = steps.prepare(torch.arange(20), make, Room("prepared", CPU))

    assert torch.equal(prepared.inputs, torch.arange(20) * 2.0)
    assert torch.equal(prepared.labels, torch.arange(20))
    assert torch.equal(prepared.targets, torch.arange(20))
