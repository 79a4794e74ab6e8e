import json
import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models_store import arguments
from models_store.recipe import Recipe
from tests.workers.noise import samples
from workers import losses, state, training
from workers.training import EpochEnd, Metrics, Run, Training

MakeRecipe = Callable[..., Recipe]
Ends = list[tuple[Metrics, Metrics, float]]
RUN = Run(device=torch.device("cpu"), precision="fp32", normalize=None, stopped=lambda: False)
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "SGD", "lr": 0.05, "momentum": 0.9, "nesterov": True},
    {"name": "Adam", "lr": 0.003, "amsgrad": True},
    {"name": "AdamW", "lr": 0.003, "weight_decay": 0.1},
]
# Everything that draws numbers draws them: order, augmentation, dropout.
VARIED: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 16,
    "transforms": {
        "train": [
            {"type": "RandomCrop", "padding": 2},
            {"type": "RandomHorizontalFlip"},
            {"type": "RandomResizedCrop"},
        ]
    },
}


TRAIN, VALIDATION = samples(70, seed=0), samples(20, seed=1)


def network() -> nn.Module:
    """With all that a state has to hold: a convolution's layout in memory, buffers, dropout."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(192, 10),
    )
    return layers.to(memory_format=torch.channels_last)


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """Files have no room for more bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def begin(recipe: Recipe, run: Run = RUN) -> Training:
    steps = training.steps_per_epoch(len(TRAIN), recipe) * recipe.epochs
    return training.begin(network(), recipe, run, steps=steps)


def train(begun: Training, recipe: Recipe, *, until: int, run: Run = RUN) -> Ends:
    """What each epoch measured, to the bit; up to epoch `until`."""
    ends = []
    for event in training.fit(begun, TRAIN, VALIDATION, recipe=recipe, run=run):
        if isinstance(event, EpochEnd):
            ends.append((event.train, event.validation, event.lr))
        if begun.epoch == until:
            break
    return ends


def bits(begun: Training) -> dict[str, torch.Tensor]:
    """All tensors that the next step depends on."""
    moments = {
        f"{index}.{name}": value
        for index, values in begun.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    return {**begun.network.state_dict(), **moments, **begun.random_states()}


def numbers(begun: Training) -> Any:
    """All else; JSON makes lists of tuples."""
    schedule = None if begun.scheduler is None else begun.scheduler.state_dict()
    groups = begun.optimizer.state_dict()["param_groups"]
    scaler = None if begun.scaler is None else begun.scaler.state_dict()
    waited = {k: v for k, v in begun.limits.state_dict().items() if k != "seconds"}
    known = [begun.epoch, begun.step, begun.steps, groups, schedule, scaler, waited]
    return json.loads(json.dumps(known))


def same(one: Training, other: Training) -> bool:
    ours, theirs = bits(one), bits(other)
    assert ours.keys() == theirs.keys()
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []
    assert numbers(one) == numbers(other)
    return True


@pytest.mark.parametrize("scheduler", [None, {"name": "OneCycleLR", "max_lr": 0.02}])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one["name"])
def test_a_run_that_was_interrupted_is_the_same_run_to_the_bit(
    recipe: MakeRecipe,
    tmp_path: Path,
    optimizer: dict[str, Any],
    scheduler: dict[str, Any] | None,
) -> None:
    asked = recipe(**VARIED, optimizer=optimizer, scheduler=scheduler)
    whole = begin(asked)
    expected = train(whole, asked, until=6)

    first = begin(asked)
    measured = train(first, asked, until=3)
    state.keep(tmp_path, first)
    # What happens before the next attempt draws other numbers.
    train(first, asked, until=4)
    torch.manual_seed(99)
    second = begin(asked)
    torch.manual_seed(99)

    assert state.restore(tmp_path, second)
    assert (second.epoch, second.step) == (3, 15)
    measured += train(second, asked, until=6)

    assert measured == expected
    assert same(second, whole)


# One of each, and what else of a recipe a later step depends on.
WAYS: dict[str, dict[str, Any]] = {
    **{f"optimizer {name}": {"optimizer": {"name": name}} for name in arguments.OPTIMIZERS},
    **{
        f"scheduler {name} by {interval}": {
            "scheduler": {"name": name, "interval": interval, "warmup_epochs": 1.5, **given},
            "optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.9},
        }
        for interval in ("step", "epoch")
        for name, given in {
            "StepLR": {"step_size": 2},
            "MultiStepLR": {"milestones": [1, 2]},
            "ExponentialLR": {"gamma": 0.9},
            "CosineAnnealingLR": {},
            "OneCycleLR": {"max_lr": 0.02},
            "ReduceLROnPlateau": {"patience": 0, "threshold": 0.5},
        }.items()
        if (name, interval) != ("ReduceLROnPlateau", "step")
    },
    "loss MSELoss": {"loss": "MSELoss"},
    "loss L1Loss": {"loss": "L1Loss"},
    "loss weighed": {"loss": {"ignore_index": 3, "label_smoothing": 0.1, "reduction": "sum"}},
    "class weights": {"class_weights": [float(one) for one in range(10)], "grad_accumulation": 3},
    "Muon by cycle": {"optimizer": "Muon", "scheduler": {"name": "OneCycleLR", "max_lr": 0.01}},
    "gathered and cut": {"grad_accumulation": 2, "clip_grad_norm": 0.5},
    "fp16": {"optimizer": "Adam", "clip_grad_norm": 0.5},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_goes_on_to_the_bit(
    recipe: MakeRecipe, tmp_path: Path, way: str
) -> None:
    asked = recipe(epochs=4, batch_size=16, transforms=VARIED["transforms"], **WAYS[way])
    labels = TRAIN.labels
    loss = losses.build(asked.loss, asked.class_weights, labels, classes=10)
    run = replace(RUN, loss=loss, precision="fp16" if way == "fp16" else "fp32")
    whole = begin(asked, run)
    expected = train(whole, asked, until=4, run=run)
    assert len({end[0].loss for end in expected}) == 4  # it did train

    first = begin(asked, run)
    measured = train(first, asked, until=2, run=run)
    state.keep(tmp_path, first)
    second = begin(asked, run)

    assert state.restore(tmp_path, second)
    assert measured + train(second, asked, until=4, run=run) == expected
    assert same(second, whole)


@pytest.mark.parametrize(
    ("scheduler", "jumps"),
    [
        ({"name": "CosineAnnealingLR"}, True),
        ({"name": "OneCycleLR", "max_lr": 0.1}, True),
        ({"name": "CosineAnnealingLR", "T_max": 4}, False),
        ({"name": "StepLR", "step_size": 2}, False),
        ({"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.9}, False),
    ],
)
def test_in_a_longer_run_what_fills_it_is_stretched(
    recipe: MakeRecipe, tmp_path: Path, scheduler: dict[str, Any], jumps: bool
) -> None:
    words = {"batch_size": 16, "optimizer": {"name": "SGD", "lr": 0.1}, "scheduler": scheduler}
    short, long = recipe(epochs=4, **words), recipe(epochs=8, **words)
    first, whole = begin(short), begin(long)
    train(first, short, until=4)
    state.keep(tmp_path, first)
    train(whole, long, until=4)
    kept = first.optimizer.param_groups[0]["lr"]

    second = begin(long)
    assert state.restore(tmp_path, second)

    rate = second.optimizer.param_groups[0]["lr"]
    if jumps:
        assert rate == pytest.approx(whole.optimizer.param_groups[0]["lr"])
        assert rate > kept
    else:
        assert rate == kept
    train(second, long, until=8)
    assert second.epoch == 8


def test_a_run_that_a_limit_ended_stays_ended(recipe: MakeRecipe, tmp_path: Path) -> None:
    asked = recipe(**VARIED, early_stopping={"patience": 1, "min_delta": 10})
    first = begin(asked)
    assert len(train(first, asked, until=9)) == 2
    state.keep(tmp_path, first)
    second = begin(asked)

    assert state.restore(tmp_path, second)

    assert second.limits.ended == "early_stopping"
    assert train(second, asked, until=9) == []
    assert not state.is_settled(tmp_path, second)
    state.settle(tmp_path, second)
    assert state.is_settled(tmp_path, second)
    second.epoch += 1  # of another end, later
    assert not state.is_settled(tmp_path, second)


def test_moments_are_laid_out_as_their_weights_are(recipe: MakeRecipe, tmp_path: Path) -> None:
    """Else each later step would be slower, or in other bits."""
    asked = recipe(**VARIED, optimizer={"name": "Adam", "lr": 0.001})
    first, second = begin(asked), begin(asked)
    train(first, asked, until=1)

    state.keep(tmp_path, first)
    state.restore(tmp_path, second)

    weight = next(one for one in second.network.parameters() if one.shape == (3, 4, 3, 3))
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert second.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_only_the_newest_state_is_there(recipe: MakeRecipe, tmp_path: Path) -> None:
    asked = recipe(**VARIED)
    begun, restored = begin(asked), begin(asked)

    for epoch in (1, 2):
        train(begun, asked, until=epoch)
        state.keep(tmp_path, begun)

    (file,) = (tmp_path / state.FOLDER).iterdir()
    assert state.disk_bytes(tmp_path) == file.stat().st_size > 0
    assert state.restore(tmp_path, restored)
    assert same(restored, begun)


def test_a_write_that_broke_off_leaves_the_one_before(recipe: MakeRecipe, tmp_path: Path) -> None:
    asked = recipe(**VARIED)
    begun, restored = begin(asked), begin(asked)
    train(begun, asked, until=1)
    state.keep(tmp_path, begun)
    (tmp_path / state.FOLDER / "training.safetensors.tmp").write_bytes(b"half of a st")

    assert state.restore(tmp_path, restored)
    assert restored.epoch == 1
    state.keep(tmp_path, restored)
    assert len(list((tmp_path / state.FOLDER).iterdir())) == 1


def test_a_state_that_does_not_fit_on_the_disk_leaves_nothing(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    asked = recipe(**VARIED)
    begun, restored = begin(asked), begin(asked)
    train(begun, asked, until=1)
    state.keep(tmp_path, begun)
    train(begun, asked, until=2)

    with room_for(state.disk_bytes(tmp_path) // 2), pytest.raises(OSError, match="too large"):
        state.keep(tmp_path, begun)

    assert len(list((tmp_path / state.FOLDER).iterdir())) == 1
    assert state.restore(tmp_path, restored)
    assert restored.epoch == 1


def test_without_a_state_nothing_is_changed(recipe: MakeRecipe, tmp_path: Path) -> None:
    asked = recipe(**VARIED)
    begun = begin(asked)

    assert not state.restore(tmp_path, begun)

    assert same(begun, begin(asked))
    assert state.disk_bytes(tmp_path) == 0


def empty(file: Path) -> None:
    file.write_bytes(b"")


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def noise(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 16)


def one_bit(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-1000] ^= 4
    file.write_bytes(whole)


def another_number(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(rb"\"epoch\": 2", rb"\"epoch\": 3"))


def not_described(file: Path) -> None:
    save_file({"network.0.weight": torch.zeros(4, 1, 3, 3)}, file)


def not_json(file: Path) -> None:
    save_file({"network.0.weight": torch.zeros(1)}, file, metadata={"training": "{"})


def no_object(file: Path) -> None:
    save_file({"network.0.weight": torch.zeros(1)}, file, metadata={"training": "[1]"})


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        half,
        short,
        noise,
        one_bit,
        another_number,
        not_described,
        not_json,
        no_object,
        folder,
    ],
)
def test_a_damaged_state_is_none_and_changes_nothing(
    recipe: MakeRecipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    asked = recipe(**VARIED)
    begun, fresh = begin(asked), begin(asked)
    train(begun, asked, until=2)
    state.keep(tmp_path, begun)
    file = tmp_path / state.FOLDER / "training.safetensors"
    before = file.read_bytes()
    damage(file)
    assert file.is_dir() or file.read_bytes() != before
    torch.manual_seed(0)

    with caplog.at_level(logging.WARNING):
        assert not state.restore(tmp_path, fresh)

    assert str(file) in caplog.text
    torch.manual_seed(0)
    assert same(fresh, begin(asked))


@pytest.mark.parametrize("epochs", [4, 9])
def test_a_run_of_another_length_goes_on_in_its_own_schedule(
    recipe: MakeRecipe, tmp_path: Path, epochs: int
) -> None:
    asked = {**VARIED, "optimizer": "Adam", "scheduler": {"name": "OneCycleLR", "max_lr": 0.02}}
    six, other = recipe(**asked), recipe(**{**asked, "epochs": epochs})
    first, second, throughout = begin(six), begin(other), begin(other)
    train(first, six, until=3)
    state.keep(tmp_path, first)

    assert state.restore(tmp_path, second)
    measured = train(second, other, until=epochs)
    expected = train(throughout, other, until=epochs)

    assert [lr for _, _, lr in measured] == [lr for _, _, lr in expected[3:]]
    assert (second.epoch, second.step) == (epochs, epochs * 5)


def test_the_state_is_kept_as_often_as_it_takes_little_time(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    asked = recipe(**VARIED)
    begun, restored = begin(asked), begin(asked)
    # When each epoch ends; to keep a state takes two seconds, so there is one every 100.
    ends = {1: 10.0, 2: 20.0, 3: 109.0, 4: 111.0, 5: 210.0, 6: 212.0}
    keeper = state.Keeper(tmp_path, clock=lambda: times.pop(0))
    kept = []

    for epoch, end in ends.items():
        times = [end, end + 2.0]
        begun.epoch = epoch
        keeper.keep(begun, last=epoch == 6)
        state.restore(tmp_path, restored)
        kept.append(restored.epoch)

    assert kept == [1, 1, 1, 4, 4, 6]


def test_a_state_holds_nothing_that_can_run_code(recipe: MakeRecipe, tmp_path: Path) -> None:
    asked = recipe(**VARIED)
    begun = begin(asked)
    train(begun, asked, until=1)

    state.keep(tmp_path, begun)

    (file,) = (tmp_path / state.FOLDER).iterdir()
    written = file.read_bytes()
    header = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])
    assert json.loads(header["__metadata__"]["training"])["epoch"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_state_of_another_device_is_taken_without_its_random_numbers(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    asked = recipe(**VARIED, optimizer="Adam")
    begun = begin(asked)
    train(begun, asked, until=1)
    state.keep(tmp_path, begun)
    run = Run(torch.device("cuda"), precision="fp32", normalize=None, stopped=lambda: False)
    other = training.begin(network().cuda(), asked, run, steps=begun.steps)

    assert state.restore(tmp_path, other)

    moved = other.optimizer.state_dict()["state"][0]
    assert moved["exp_avg"].is_cuda
    ends = [
        event.epoch
        for event in training.fit(other, TRAIN, VALIDATION, recipe=asked, run=run)
        if isinstance(event, EpochEnd)
    ]
    assert ends == [2, 3, 4, 5, 6]
