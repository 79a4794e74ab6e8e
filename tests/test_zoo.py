"""One network of each of torchvision's families: trained, interrupted, resumed and loaded again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models_store import architectures, recipe, zoo
from models_store.fields import Recipe, SubmittedRecipe
from workers import state, training
from workers.training import EpochEnd, Run, Samples

# The smallest of each family, at a small size that it takes.
MEMBERS = {
    "alexnet": 63,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11": 32,
    "vit_b_32": 32,
}
BATCHES = {"maxvit_t": 1}  # at its size it has enough to normalize in one image
RUN = Run(device=torch.device("cpu"), precision="fp32", normalize=None, stopped=lambda: False)


@dataclass(frozen=True)
class Facts:
    name: str = "shapes"
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 4})
    height: int = 32
    width: int = 32
    channels: int = 3
    classes: tuple[str, ...] = ("a", "b", "c")
    defaults: Mapping[str, Any] = field(default_factory=dict)


def chosen(name: str) -> Recipe:
    """Two epochs of one step each."""
    body = {
        "dataset": "shapes",
        "architecture": name,
        "image_size": MEMBERS[name],
        "epochs": 2,
        "batch_size": BATCHES.get(name, 2),
        "optimizer": {"name": "SGD", "lr": 0.001},
        "precision": "fp32",
        "seed": 0,
    }
    return recipe.resolve(SubmittedRecipe.model_validate(body), Facts())


def test_the_page_of_the_zoo_is_of_what_is_installed() -> None:
    page = (Path(__file__).parent.parent / "docs/zoo.md").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = {name.strip("|` "): [cell.strip(" |") for cell in rest] for name, *rest in lines}
    assert tuple(rows) == zoo.names(), "make zoo renews it"
    assert rows["resnet18"] == ["11.7 M", "3.6", "224", "1", "47 MB"]
    assert rows["vgg16"][3] == "32"


def samples(count: int, side: int) -> Samples:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, side, side, 3), generator=chance, dtype=torch.uint8)
    return Samples(pixels, torch.arange(count), torch.arange(count))


def train(network: nn.Module, asked: Recipe, run_folder: Path) -> list[int]:
    """The epochs that were trained: all, or those after a state that is there; it keeps the first
    one's.
    """
    side = asked.size[0]
    begun = training.begin(network, asked, RUN, steps=2)
    state.restore(run_folder, begun)
    done = []
    seen = samples(asked.batch_size, side)
    for event in training.fit(begun, seen, samples(1, side), recipe=asked, run=RUN):
        if isinstance(event, EpochEnd):
            done.append(event.epoch)
            if event.epoch == 1:
                state.keep(run_folder, begun)
    return done


def test_every_family_has_its_member() -> None:
    assert {zoo.family(name) for name in zoo.names()} == {zoo.family(name) for name in MEMBERS}


@pytest.mark.parametrize("name", MEMBERS)
def test_two_steps_with_a_resume_between_and_back_from_its_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # half a gigabyte, for no reader but us
    asked = chosen(name)
    planned = architectures.plan(name, channels=3, size=asked.size, classes=3)
    torch.manual_seed(0)
    whole = architectures.build(planned)
    assert train(whole, asked, tmp_path) == [1, 2]

    resumed = architectures.outline(planned).to_empty(device="cpu")
    assert train(resumed, asked, tmp_path) == [2]

    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())

    loaded = architectures.outline(planned)
    loaded.load_state_dict(dict(theirs), assign=True)
    image = torch.rand(1, 3, *asked.size)
    with torch.inference_mode():
        logits, expected = loaded.eval()(image), whole.eval()(image)
    assert logits.shape == (1, 3)
    # Two steps leave statistics that are far from what the images have: some overflow.
    torch.testing.assert_close(logits, expected, rtol=0, atol=0, equal_nan=True)
