"""Made-up facts, the notes' own networks, images and checkpoints; torch keeps to one thread."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models_store import architectures, checkpoints
from models_store.manifest import Manifest, Preprocessing
from tests.notes import NET, Module, lenet


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Facts:
    """A data set of grey 28 px images without defaults of its own."""

    name: str = "own"
    classes: Sequence[str] = tuple("0123456789")
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 1000, "test": 100})
    height: int = 28
    width: int = 28
    channels: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def facts() -> type[Facts]:
    return Facts


@pytest.fixture(scope="session")
def notes() -> Mapping[str, Callable[[], nn.Module]]:
    """The networks as the notes define them, for ten classes."""
    return {"mnist_net": NET, "cifar10_net": Module, "lenet5": lenet}


@pytest.fixture(scope="session")
def manifest() -> Callable[..., Manifest]:
    """A manifest of a `mnist_net` at 28 px; `preprocessing` takes what should differ there."""

    def manifest(*, preprocessing: Mapping[str, Any] | None = None, **given: Any) -> Manifest:
        sides = {"height": 28, "width": 28, "trained_height": 28, "trained_width": 28}
        return Manifest.model_validate(
            {
                "id": "ckpt_1",
                "job_id": "job_1",
                "architecture": "mnist_net",
                "classes": list("0123456789"),
                "preprocessing": Preprocessing.model_validate(
                    {**sides, "channels": 1, **(preprocessing or {})}
                ),
                "recipe": {"dataset": "mnist", "epochs": 2},
                "dataset": {"name": "mnist", "version": None},
                "epoch": 2,
                "metrics": {"val_accuracy": 0.5},
                "made_with": {"torch": torch.__version__},
                "created_at": datetime(2026, 1, 1, tzinfo=UTC),
                **given,
            }
        )

    return manifest


@pytest.fixture(scope="session")
def network() -> Callable[..., nn.Module]:
    """The network that a manifest describes, with weights of seed 0."""

    def network(manifest: Manifest) -> nn.Module:
        pre = manifest.preprocessing
        plan = architectures.plan(
            manifest.architecture,
            channels=pre.channels,
            size=pre.input_size,
            classes=len(manifest.classes),
        )
        torch.manual_seed(0)
        return architectures.build(plan).eval()

    return network


@pytest.fixture
def saved(tmp_path: Path, network: Callable[..., nn.Module]) -> Callable[[Manifest], Path]:
    """Saves the network of a manifest below `tmp_path` and gives its folder."""

    def saved(manifest: Manifest) -> Path:
        return checkpoints.save(tmp_path, network(manifest).state_dict(), manifest)

    return saved


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Pixels (H, W) or (H, W, 3), or a PIL image, as a file; PNG unless `format` says otherwise."""

    def encode(pixels: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        file = io.BytesIO()
        image.save(file, options.pop("format", "PNG"), **options)
        return file.getvalue()

    return encode
