"""From what is asked for to what is run: defaults, what overrides what, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_store import catalog
from models_store import architectures, catalogue, recipe
from models_store.fields import Recipe, SubmittedRecipe
from problems import Problem

ONE_CYCLE = {
    "architecture": "mnist_net",
    "epochs": 15,
    "batch_size": 32,
    "optimizer": {"name": "Adam", "lr": 0.003, "weight_decay": 0.1},
    "scheduler": {"name": "OneCycleLR", "max_lr": 0.003, "div_factor": 10},
    "transforms": {"train": [{"type": "RandomCrop", "padding": 2}]},
}

HIGH_RATE = {
    "architecture": "resnet_small",
    "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9},
    "scheduler": {"name": "OneCycleLR", "max_lr": 0.1, "div_factor": 10},
}

CROSS_ENTROPY = {
    "name": "CrossEntropyLoss",
    "weight": None,
    "ignore_index": -100,
    "label_smoothing": 0.0,
    "reduction": "mean",
}

NOTES = {  # what both scripts of the notes say
    "scheduler": None,
    "normalize": None,
    "transforms": {"train": [], "eval": []},
    "data_loader": {"shuffle": False, "drop_last": False, "num_workers": "auto", "mode": "auto"},
    "validation": "test",
    "precision": "fp32",
    "seed": 0,
    "loss": CROSS_ENTROPY,
    "checkpoints": {"every_epochs": 1, "keep": "all"},
}


def _submit(**body: Any) -> SubmittedRecipe:
    return SubmittedRecipe.model_validate(body)


@pytest.fixture(scope="session")
def resolve(facts: Any) -> Any:
    """Resolves a body; `_facts` are the facts that should differ."""

    def resolve(*, _facts: dict[str, Any] | None = None, **body: Any) -> Recipe:
        return recipe.resolve(_submit(**{"dataset": "own", **body}), facts(**(_facts or {})))

    return resolve


@pytest.fixture(scope="session")
def tuned(resolve: Any) -> Any:
    """Resolves a body for a data set whose defaults are `ONE_CYCLE`."""
    return lambda **body: resolve(_facts={"defaults": ONE_CYCLE}, **body)


class TestDefaults:
    def test_a_data_set_is_enough(self, resolve: Any) -> None:
        resolved = resolve()
        assert resolved.model_dump(mode="json", exclude={"seed", "optimizer"}) == {
            "dataset": "own",
            "architecture": "mnist_net",
            "pretrained": False,
            "freeze_backbone": False,
            "head_lr": None,
            "init_from": None,
            "epochs": 10,
            "batch_size": 128,
            "scheduler": None,
            "loss": CROSS_ENTROPY,
            "class_weights": None,
            "grad_accumulation": 1,
            "clip_grad_norm": None,
            "max_seconds": None,
            "early_stopping": None,
            "image_size": 28,
            "channels": 1,
            "normalize": None,
            "invert": "auto",
            "transforms": {"train": [], "eval": []},
            "data_loader": {
                "shuffle": True,
                "drop_last": False,
                "num_workers": "auto",
                "mode": "auto",
            },
            "validation": 0.1,
            "test": None,
            "device": "auto",
            "devices": 1,
            "precision": "auto",
            "compile": False,
            "deterministic": False,
            "checkpoints": {"every_epochs": 1, "keep": 5},
            "promote": None,
            "tensorboard": {"histograms": False},
        }
        assert resolved.optimizer["name"] == "Adam"
        assert resolved.optimizer["lr"] == 0.001

    def test_come_from_the_data_set_first(self, tuned: Any) -> None:
        resolved = tuned()
        assert (resolved.epochs, resolved.batch_size) == (15, 32)
        assert resolved.scheduler["max_lr"] == 0.003
        assert resolved.transforms.train[0].padding == 2

    @pytest.mark.parametrize(
        ("images", "batch"), [(1, 2), (7, 2), (8, 2), (511, 127), (512, 128), (60_000, 128)]
    )
    def test_a_batch_is_at_most_a_quarter(self, resolve: Any, images: int, batch: int) -> None:
        counts = {"train": images, "val": 1}
        assert resolve(_facts={"counts": counts}).batch_size == batch

    @pytest.mark.parametrize(
        ("counts", "validation"),
        [
            ({"train": 999, "test": 10}, 0.2),
            ({"train": 1000}, 0.1),
            ({"train": 1000, "val": 5}, "val"),
            ({"train": 1000, "val": 0}, 0.1),
        ],
    )
    def test_validation_is_an_own_part_or_a_fraction(
        self, resolve: Any, counts: dict[str, int], validation: object
    ) -> None:
        assert resolve(_facts={"counts": counts}).validation == validation

    @pytest.mark.parametrize(
        ("height", "width", "image_size", "size"),
        [(28, 28, 28, (28, 28)), (20, 30, [20, 30], (20, 30))],
    )
    def test_images_keep_their_size(
        self, resolve: Any, height: int, width: int, image_size: object, size: tuple[int, int]
    ) -> None:
        resolved = resolve(_facts={"height": height, "width": width})
        assert (resolved.image_size, resolved.size) == (image_size, size)

    def test_colour_images_get_a_colour_network(self, resolve: Any) -> None:
        resolved = resolve(_facts={"channels": 3})
        assert (resolved.architecture, resolved.channels) == ("cifar10_net", 3)

    def test_the_name_is_that_of_the_facts(self, resolve: Any) -> None:
        assert resolve(dataset="OWN").dataset == "own"

    @pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "cifar100", "svhn"])
    def test_every_built_in_set_has_a_recipe_that_fits(self, name: str, tmp_path: Path) -> None:
        facts = catalog.facts(name, tmp_path)
        resolved = recipe.resolve(_submit(dataset=name), facts)
        planned = architectures.plan(
            resolved.architecture,
            channels=resolved.channels,
            size=resolved.size,
            classes=len(facts.classes),
        )
        assert planned.layers[-1].output_shape == (len(facts.classes),)


class TestSeed:
    def test_is_drawn_and_recorded(self, resolve: Any) -> None:
        drawn = {resolve().seed for _ in range(5)}
        assert len(drawn) > 1
        assert all(0 <= seed < 2**31 for seed in drawn)

    @pytest.mark.parametrize("seed", [0, 2**53 - 1])
    def test_stays_when_given(self, resolve: Any, seed: int) -> None:
        assert resolve(seed=seed).seed == seed


class TestNull:
    """`null` is as good as saying nothing, but where it means none."""

    @pytest.mark.parametrize(
        "field",
        sorted(set(SubmittedRecipe.model_fields) - {"scheduler", "seed", "tags", "priority"}),
    )
    def test_takes_the_default(self, tuned: Any, field: str) -> None:
        nothing = tuned(seed=1)
        name = {"dataset": "own"} if field == "dataset" else {}
        said = tuned(seed=1, **{field: None, **name})
        assert said == nothing

    def test_no_scheduler(self, tuned: Any) -> None:
        assert tuned(scheduler=None).scheduler is None
        assert tuned(scheduler=None).optimizer["lr"] == 0.003

    def test_no_normalization(self, resolve: Any) -> None:
        defaults = {"normalize": "auto"}
        assert resolve(_facts={"defaults": defaults}).normalize == "auto"
        assert resolve(_facts={"defaults": defaults}, normalize=None).normalize is None

    def test_a_seed_is_drawn_though_the_ready_made_recipe_has_one(self, resolve: Any) -> None:
        assert resolve(recipe="notes-mnist").seed == 0
        drawn = [resolve(recipe="notes-mnist", seed=None).seed for _ in range(3)]
        assert set(drawn) != {0}

    def test_parts_take_their_defaults(self, tuned: Any) -> None:
        said = tuned(seed=1, transforms={}, data_loader={}, checkpoints={}, optimizer={}, loss={})
        assert said == tuned(seed=1)


class TestMerging:
    def test_the_body_comes_before_the_recipe_before_the_data_set(self, tuned: Any) -> None:
        resolved = tuned(recipe="notes-mnist", batch_size=64)
        assert resolved.batch_size == 64  # the body's
        assert resolved.epochs == 10  # the recipe's, not the data set's 15
        assert resolved.transforms.train == []
        assert resolved.scheduler is None

    def test_one_field_of_a_part_leaves_the_others(self, resolve: Any) -> None:
        resolved = resolve(
            recipe="notes-mnist", data_loader={"drop_last": True}, checkpoints={"every_epochs": 5}
        )
        assert resolved.data_loader.model_dump() == {
            "shuffle": False,
            "drop_last": True,
            "num_workers": "auto",
            "mode": "auto",
        }
        assert resolved.checkpoints.model_dump() == {"every_epochs": 5, "keep": "all"}

    def test_transforms_are_replaced_as_a_list(self, tuned: Any) -> None:
        resolved = tuned(transforms={"train": [{"type": "RandomHorizontalFlip"}]})
        assert [each.model_dump() for each in resolved.transforms.train] == [
            {"type": "RandomHorizontalFlip", "p": 0.5}
        ]
        assert tuned(transforms={"train": []}).transforms.train == []

    def test_a_square_is_one_number(self, resolve: Any) -> None:
        assert resolve(image_size=[32, 32]).image_size == 32
        assert resolve(image_size=[32, 30]).image_size == [32, 30]

    def test_labels_are_no_part_of_what_is_run(self, resolve: Any) -> None:
        labelled = resolve(seed=1, name="first", tags=["a"], priority=5)
        assert labelled == resolve(seed=1)

    def test_nothing_given_is_changed(self, facts: Any) -> None:
        before = json.dumps([ONE_CYCLE, recipe.READY_MADE])
        submitted = _submit(dataset="own", recipe="notes-mnist", optimizer={"lr": 0.5})
        recipe.resolve(submitted, facts(defaults=ONE_CYCLE))
        assert json.dumps([ONE_CYCLE, recipe.READY_MADE]) == before


class TestOptimizer:
    def test_a_name_takes_the_rest_from_pytorch(self, tuned: Any) -> None:
        resolved = tuned(optimizer="AdamW")
        assert resolved.optimizer["lr"] == 0.001
        assert resolved.optimizer["weight_decay"] == 0.01  # AdamW's, not the default recipe's

    @pytest.mark.parametrize("body", [{"lr": 0.05}, {"optimizer": {"lr": 0.05}}])
    def test_lr_alone_changes_the_default_optimizers(
        self, tuned: Any, body: dict[str, Any]
    ) -> None:
        resolved = tuned(**body)
        assert resolved.optimizer["name"] == "Adam"
        assert resolved.optimizer["lr"] == 0.05
        assert resolved.optimizer["weight_decay"] == 0.1

    def test_lr_goes_with_a_name(self, tuned: Any) -> None:
        assert tuned(optimizer={"name": "SGD", "momentum": 0.9}, lr=0.2).optimizer == {
            **tuned(optimizer="SGD").optimizer,
            "momentum": 0.9,
            "lr": 0.2,
        }

    def test_arguments_without_a_name_change_the_default(self, tuned: Any) -> None:
        resolved = tuned(optimizer={"amsgrad": True})
        assert resolved.optimizer["amsgrad"] is True
        assert resolved.optimizer["lr"] == 0.003
        assert resolved.scheduler["max_lr"] == 0.003

    def test_an_argument_of_another_optimizer_is_refused(self, tuned: Any) -> None:
        with pytest.raises(Problem) as caught:
            tuned(optimizer={"momentum": 0.9})
        assert caught.value.code == "unknown_field"
        assert caught.value.detail == "Adam has no argument 'momentum' here."

    @pytest.mark.parametrize(
        "architecture",
        ["cifar10_net", "vgg11", {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}],
    )
    def test_a_rate_that_batch_norm_bears_is_not_for_other_networks(
        self, resolve: Any, architecture: Any
    ) -> None:
        # At 0.1 such networks came to guess within three epochs of CIFAR-10.
        resolved = resolve(_facts={"defaults": HIGH_RATE}, architecture=architecture)
        assert (resolved.optimizer["name"], resolved.optimizer["lr"]) == ("Adam", 0.001)
        assert resolved.scheduler["max_lr"] == 0.001
        assert resolved.scheduler["div_factor"] == 10

    @pytest.mark.parametrize(
        "architecture",
        ["ResNet-Small", catalogue.ARCHITECTURES["resnet_small"].network.canonical()],
        ids=["name", "layers"],
    )
    def test_it_is_for_the_default_network_however_that_is_said(
        self, resolve: Any, architecture: Any
    ) -> None:
        resolved = resolve(_facts={"defaults": HIGH_RATE}, architecture=architecture)
        assert (resolved.optimizer["name"], resolved.optimizer["lr"]) == ("SGD", 0.1)
        assert resolved.scheduler["max_lr"] == 0.1

    def test_a_rate_without_batch_norm_is_for_all(self, tuned: Any) -> None:
        assert tuned(architecture="lenet5").optimizer["lr"] == 0.003

    def test_what_is_said_beside_another_network_stays(self, resolve: Any) -> None:
        def lr(**body: Any) -> float:
            asked = {"_facts": {"defaults": HIGH_RATE}, "architecture": "lenet5", **body}
            return float(resolve(**asked).optimizer["lr"])

        assert lr(lr=0.1) == 0.1
        assert lr(optimizer={"name": "SGD", "lr": 0.2}) == 0.2
        assert lr(recipe="notes-cifar10") == 0.01


class TestScheduler:
    """The peak follows the learning rate unless it is given."""

    @pytest.mark.parametrize(
        ("body", "max_lr"),
        [
            ({}, 0.003),
            ({"lr": 0.05}, 0.05),
            ({"lr": 0}, 0),
            ({"optimizer": {"lr": 0.05}}, 0.05),
            ({"optimizer": {"eps": 1e-7}}, 0.003),
            ({"scheduler": {"pct_start": 0.5}}, 0.003),
            ({"scheduler": {"max_lr": 0.5}}, 0.5),
            ({"scheduler": {"max_lr": 0.5}, "lr": 0.05}, 0.5),
            ({"scheduler": {"pct_start": 0.5}, "lr": 0.05}, 0.05),
            ({"scheduler": {"pct_start": 0.5}, "optimizer": {"lr": 0.05}}, 0.05),
            ({"scheduler": {"pct_start": 0.5}, "optimizer": "SGD"}, 0.001),
            ({"scheduler": "OneCycleLR"}, 0.003),
            ({"scheduler": "one-cycle-lr", "lr": 0.05}, 0.05),
            ({"scheduler": "OneCycleLR", "optimizer": {"name": "SGD", "lr": 0.1}}, 0.1),
        ],
    )
    def test_peak(self, tuned: Any, body: dict[str, Any], max_lr: float) -> None:
        scheduler = tuned(**body).scheduler
        assert scheduler["name"] == "OneCycleLR"
        assert scheduler["max_lr"] == max_lr

    def test_arguments_without_a_name_change_the_default(self, tuned: Any) -> None:
        assert tuned(scheduler={"pct_start": 0.5}).scheduler["div_factor"] == 10
        assert tuned(scheduler={}).scheduler == tuned().scheduler

    def test_a_name_takes_the_rest_from_pytorch(self, tuned: Any) -> None:
        assert tuned(scheduler="OneCycleLR").scheduler["div_factor"] == 25

    def test_naming_an_optimizer_leaves_the_default_schedule_behind(self, tuned: Any) -> None:
        assert tuned(optimizer="Adam").scheduler is None
        assert tuned(optimizer={"name": "SGD", "lr": 0.1}).scheduler is None

    def test_needs_a_name_where_there_is_no_default(self, resolve: Any) -> None:
        with pytest.raises(Problem) as caught:
            resolve(scheduler={"max_lr": 0.1})
        assert caught.value.code == "invalid_request"
        assert caught.value.hint == 'For example {"name": "OneCycleLR"}.'
        assert caught.value.errors[0]["loc"] == ["body", "scheduler", "name"]
        assert resolve(scheduler={}).scheduler is None

    def test_unknown(self, resolve: Any) -> None:
        with pytest.raises(Problem) as caught:
            resolve(scheduler="StepsLR")
        assert caught.value.code == "scheduler_unknown"
        assert caught.value.errors[0]["loc"] == ["body", "scheduler", "name"]


class TestLoss:
    def test_arguments_without_a_name_change_the_default(self, resolve: Any) -> None:
        smoothed = resolve(loss={"label_smoothing": 0.1}).loss
        assert smoothed == CROSS_ENTROPY | {"label_smoothing": 0.1}

    def test_a_name_takes_the_rest_from_pytorch(self, resolve: Any) -> None:
        assert resolve(loss="mse_loss").loss == {"name": "MSELoss", "reduction": "mean"}

    @pytest.mark.parametrize(
        ("loss", "weights"),
        [
            ("CrossEntropyLoss", "balanced"),
            ({"label_smoothing": 0.1}, "balanced"),
            ({"weight": [1.0] * 10}, None),
            ("MSELoss", None),
        ],
    )
    def test_default_weights_go_with_a_loss_that_takes_them(
        self, resolve: Any, loss: Any, weights: str | None
    ) -> None:
        facts = {"defaults": {"class_weights": "balanced"}}
        assert resolve(_facts=facts, loss=loss).class_weights == weights

    def test_unknown(self, resolve: Any) -> None:
        with pytest.raises(Problem) as caught:
            resolve(loss="HuberLoss")
        assert caught.value.code == "loss_unknown"
        assert caught.value.errors[0]["loc"] == ["body", "loss", "name"]


class TestEarlyStopping:
    DEFAULT: ClassVar = {"early_stopping": {"metric": "val_accuracy", "patience": 7}}

    def test_what_is_given_changes_the_default(self, resolve: Any) -> None:
        assert resolve(early_stopping={}).early_stopping.model_dump() == {
            "metric": "val_loss",
            "patience": 10,
            "min_delta": 0.0,
        }
        changed = resolve(_facts={"defaults": self.DEFAULT}, early_stopping={"patience": 3})
        assert changed.early_stopping.model_dump(exclude={"min_delta"}) == {
            "metric": "val_accuracy",
            "patience": 3,
        }

    def test_null_is_none(self, resolve: Any) -> None:
        facts = {"defaults": self.DEFAULT}
        assert resolve(_facts=facts).early_stopping.patience == 7
        assert resolve(_facts=facts, early_stopping=None).early_stopping is None


class TestReadyMade:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            (
                "notes-mnist",
                {"dataset": "mnist", "architecture": "mnist_net", "epochs": 10, "batch_size": 128},
            ),
            (
                "notes_CIFAR10",
                {"dataset": "cifar10", "architecture": "cifar10_net", "epochs": 50}
                | {"batch_size": 64, "image_size": 32, "channels": 3},
            ),
        ],
    )
    def test_are_the_scripts_of_the_notes(
        self, name: str, expected: dict[str, Any], tmp_path: Path
    ) -> None:
        submitted = _submit(recipe=name)
        wanted = recipe.wanted_dataset(submitted)
        resolved = recipe.resolve(submitted, catalog.facts(wanted, tmp_path))
        shown = resolved.model_dump(mode="json")
        assert shown.items() >= {**NOTES, **expected}.items()
        assert resolved.optimizer["name"] == "SGD"
        assert resolved.optimizer["lr"] == 0.01
        assert resolved.optimizer["momentum"] == 0

    @pytest.mark.parametrize("name", recipe.READY_MADE)
    def test_are_valid_bodies_themselves(self, name: str) -> None:
        assert (_submit(**recipe.READY_MADE[name]).dataset is None) == (name == "fine-tune")

    def test_train_another_data_set_too(self, resolve: Any) -> None:
        resolved = resolve(recipe="notes-mnist", dataset="own", epochs=2)
        assert (resolved.dataset, resolved.epochs, resolved.seed) == ("own", 2, 0)

    def test_unknown(self, resolve: Any) -> None:
        with pytest.raises(Problem) as caught:
            resolve(recipe="notes-mnst")
        assert caught.value.code == "recipe_unknown"
        assert caught.value.hint == "Did you mean 'notes-mnist'?"
        assert caught.value.errors == [{"loc": ["body", "recipe"], "msg": "unknown recipe"}]


class TestWantedDataset:
    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({"dataset": "digits"}, "digits"),
            ({"recipe": "notes-mnist"}, "mnist"),
            ({"recipe": "notes-mnist", "dataset": "digits"}, "digits"),
            ({"recipe": "notes-mnist", "dataset": None}, "mnist"),
        ],
    )
    def test_is_the_bodys_or_the_recipes(self, body: dict[str, Any], name: str) -> None:
        assert recipe.wanted_dataset(_submit(**body)) == name

    @pytest.mark.parametrize("body", [{}, {"epochs": 3}, {"dataset": None, "recipe": None}])
    def test_missing(self, body: dict[str, Any]) -> None:
        with pytest.raises(Problem) as caught:
            recipe.wanted_dataset(_submit(**body))
        assert caught.value.code == "invalid_request"
        assert caught.value.hint
        assert caught.value.errors == [{"loc": ["body", "dataset"], "msg": "Field required"}]


class TestRefused:
    @pytest.mark.parametrize(
        ("counts", "body", "place", "detail"),
        [
            ({"train": 9}, {"validation": "test"}, "validation", "own has no test part."),
            ({"train": 9, "val": 0}, {"validation": "val"}, "validation", "own has no val part."),
            ({"train": 1}, {}, "validation", "No image of 1 is left to train on."),
            ({"train": 10}, {"validation": 0.99}, "validation", "No image of 10 is left"),
            (
                {"train": 100},
                {"batch_size": 91, "validation": 0.1, "data_loader": {"drop_last": True}},
                "batch_size",
                "drop_last leaves no batch of 91: there are 90 training images.",
            ),
            (
                {"train": 100},
                {"channels": 3, "normalize": {"mean": [0.5], "std": [0.5]}},
                "normalize",
                "mean and std need one number for each of 3 channels.",
            ),
            (
                {"train": 100},
                {"normalize": {"mean": [0.5], "std": [0.5, 0.5]}},
                "normalize",
                "mean and std need one number for each of 1 channels.",
            ),
        ],
    )
    def test_what_does_not_go_together(
        self, resolve: Any, counts: dict[str, int], body: dict[str, Any], place: str, detail: str
    ) -> None:
        with pytest.raises(Problem) as caught:
            resolve(_facts={"counts": counts}, **body)
        assert caught.value.code == "invalid_request"
        assert caught.value.detail.startswith(detail)
        assert caught.value.hint
        assert caught.value.errors[0]["loc"] == ["body", place]

    @pytest.mark.parametrize("counts", [{}, {"test": 5}, {"train": 0, "test": 5}])
    def test_a_data_set_without_training_images(self, resolve: Any, counts: dict[str, int]) -> None:
        with pytest.raises(Problem) as caught:
            resolve(_facts={"counts": counts})
        assert caught.value.code == "dataset_invalid"
        assert caught.value.detail == "own has no training images."

    def test_a_batch_larger_than_the_set_is_fine(self, resolve: Any) -> None:
        resolved = resolve(_facts={"counts": {"train": 20}}, batch_size=128)
        assert resolved.batch_size == 128
        full = {"batch_size": 90, "data_loader": {"drop_last": True}, "validation": 0.1}
        assert resolve(_facts={"counts": {"train": 100}}, **full).batch_size == 90


optimizers = st.sampled_from(
    [
        "SGD",
        {"lr": 0.1},
        {"name": "Adam", "betas": [0.5, 0.9]},
        {"type": "AdamW", "amsgrad": True},
        {"name": "sgd", "lr": 1, "momentum": 0.9, "nesterov": True},
        {"name": "Muon", "adamw": {"lr": 0.002}},
        {"name": "Adafactor", "eps": [1e-8, 0.001]},
    ]
)
schedulers = st.sampled_from(
    [
        None,
        {"name": "OneCycleLR", "cycle_momentum": False},
        {"name": "one_cycle_lr", "max_lr": 1, "pct_start": 0.1, "cycle_momentum": False},
        {"name": "CosineAnnealingLR", "interval": "step", "warmup_epochs": 0.5},
        {"name": "ReduceLROnPlateau", "metric": "val_accuracy", "mode": "max"},
    ]
)
flip = st.builds(lambda p: {"type": "RandomHorizontalFlip", "p": p}, st.floats(0, 1))
crop = st.builds(lambda padding: {"type": "RandomCrop", "padding": padding}, st.integers(0, 9))
convolution = st.builds(
    lambda kernel, padding: {
        "type": "Conv2d", "out_channels": 3, "kernel_size": kernel, "padding": padding
    },
    st.integers(1, 3) | st.lists(st.integers(1, 3), min_size=2, max_size=2),
    st.sampled_from([0, 2, [1, 0], "same"]),
)  # fmt: skip
own = st.builds(
    lambda layers: {"layers": [*layers, {"type": "Flatten"}, {"type": "Linear"}]},
    st.lists(convolution, max_size=2),
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        # Of the others one insists on a network, and one on many images.
        "recipe": st.sampled_from(["notes-mnist", "notes-cifar10", "mnist-fast"]),
        "architecture": st.sampled_from(["mnist_net", "LeNet-5"]) | own,
        "epochs": st.integers(1, 100_000),
        "batch_size": st.integers(1, 900),
        "optimizer": optimizers,
        "scheduler": schedulers,
        "loss": st.sampled_from(["CrossEntropyLoss", {"label_smoothing": 0.1}, "L1Loss"]),
        "grad_accumulation": st.integers(1, 9),
        "clip_grad_norm": st.none() | st.floats(0.1, 10),
        "max_seconds": st.none() | st.integers(1, 100),
        "early_stopping": st.sampled_from([None, {}, {"metric": "val_accuracy", "patience": 2}]),
        "image_size": st.integers(1, 2048) | st.lists(st.integers(1, 64), min_size=2, max_size=2),
        "channels": st.sampled_from([1, 3]),
        "normalize": st.sampled_from(["auto", None]),
        "invert": st.sampled_from(["auto", "never"]),
        "transforms": st.fixed_dictionaries({"train": st.lists(flip | crop, max_size=3)}),
        "data_loader": st.fixed_dictionaries({}, optional={"shuffle": st.booleans()}),
        "validation": st.sampled_from(["test", 0.1, 0.5]),
        "device": st.sampled_from(["auto", "cpu", "cuda", "mps"]),
        "precision": st.sampled_from(["auto", "fp32", "bf16"]),
        "compile": st.booleans(),
        "deterministic": st.booleans(),
        "seed": st.none() | st.integers(0, 2**53 - 1),
        "checkpoints": st.fixed_dictionaries({"keep": st.just("all") | st.integers(1, 9)}),
    },
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies, defaults=st.sampled_from([{}, ONE_CYCLE]))
def test_posted_back_verbatim_it_is_the_same(
    facts: Any, body: dict[str, Any], defaults: dict[str, Any]
) -> None:
    known = facts(defaults=defaults)
    resolved = recipe.resolve(_submit(dataset="own", **body), known)
    posted = json.loads(json.dumps(resolved.model_dump(mode="json")))
    assert recipe.resolve(_submit(**posted), known) == resolved
    # Nor do other defaults of the data set change what was recorded.
    changed = dataclasses.replace(known, defaults={"epochs": 1, "normalize": "auto"})
    assert recipe.resolve(_submit(**posted), changed) == resolved


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)
words = st.sampled_from(["name", "type", "lr", "max_lr", "betas", "fused", "momentum", "SGD"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(part=st.sampled_from(["optimizer", "scheduler"]), given=st.dictionaries(words, json_values))
def test_whatever_is_said_is_resolved_or_refused(
    facts: Any, part: str, given: dict[str, Any]
) -> None:
    try:
        recipe.resolve(_submit(dataset="own", **{part: given}), facts(defaults=ONE_CYCLE))
    except ValidationError:
        place = ["body", part]
    except Problem as problem:
        place = problem.errors[0]["loc"][:2]
    else:
        return
    assert place == ["body", part]


@pytest.mark.parametrize(
    ("batch_size", "images", "devices", "where"),
    [
        (1, 100, 1, "batch_size"),
        (8, 1, 1, "dataset"),
        (7, 100, 4, "devices"),
        (8, 7, 4, "devices"),
        (8, 100, 4, None),
        (2, 2, 1, None),
    ],
)
def test_batch_norm_needs_two_images_on_each_device(
    resolve: Any, batch_size: int, images: int, devices: int, where: str | None
) -> None:
    """One that never has any would spoil the mean of what all know of the images."""
    asked = resolve(batch_size=batch_size, devices=1).model_copy(update={"devices": devices})
    if where is None:
        recipe.check_batches(asked, images)
        return
    with pytest.raises(Problem) as caught:
        recipe.check_batches(asked, images)
    assert caught.value.code == "invalid_request"
    assert caught.value.errors[0]["loc"] == ["body", where]
