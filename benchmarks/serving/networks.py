"""What is served: networks as checkpoints of danlu's, and homes that have them.

The one for CIFAR-10 is trained here in a few seconds; that of 224 pixels has weights by chance,
which take as long to multiply with.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import images
from database import aliases, engine, ids
from database import checkpoints as rows
from models_store import architectures, checkpoints
from models_store.fields import Normalize
from models_store.manifest import Manifest, Preprocessing

ALIAS = "bench"
CIFAR10, RESNET18 = "cifar10_net", "resnet18"
State = Mapping[str, torch.Tensor]
Change = Callable[[int, State], State]
_IMAGENET = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
_TRAINING_IMAGES, _EPOCHS = 500, 3  # of each class


def checkpoint(architecture: str, data: Path, work: Path) -> Path:
    """The checkpoint of that network below `work`; made if it is not there."""
    root = work / "networks" / architecture
    if root.exists():
        return next(root.iterdir())
    classes = sorted(path.name for path in (data / "cifar10-jpeg" / "train").iterdir())
    side = 32 if architecture == CIFAR10 else 224
    torch.manual_seed(0)
    planned = architectures.plan(architecture, channels=3, size=(side, side), classes=len(classes))
    network = architectures.build(planned)
    if architecture == CIFAR10:
        _train(network, data / "cifar10-jpeg" / "train", classes)
    return checkpoints.save(root, network.state_dict(), _manifest(architecture, classes, side))


def home(folder: Path, made: Sequence[Path], change: Change | None = None) -> list[str]:
    """A home with copies of these checkpoints under new ids, which are returned in order; the alias
    points at the first. `change` makes other weights, of the place in that order and of those there
    are.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "checkpoints").mkdir(parents=True)
    url = f"sqlite:///{folder / 'danlu.sqlite3'}"
    engine.migrate(url)
    connected = engine.connect(url)
    found = []
    with engine.session_factory(connected).begin() as session:
        for place, one in enumerate(made):
            manifest = checkpoints.read_manifest(one).model_copy(update={"id": ids.new("ckpt")})
            state: State = checkpoints.read_state(one, manifest)
            state = change(place, state) if change else state
            saved = checkpoints.save(folder / "checkpoints", state, manifest)
            rows.add_foreign(session, manifest.id, disk_bytes=checkpoints.disk_bytes(saved))
            found.append(manifest.id)
        aliases.point(session, ALIAS, found[0], by="benchmark")
    connected.dispose()
    return found


def _manifest(architecture: str, classes: list[str], side: int) -> Manifest:
    pre = Preprocessing(
        height=side, width=side, channels=3, trained_height=side, trained_width=side,
        normalize=None if architecture == CIFAR10 else _IMAGENET,
    )  # fmt: skip
    return Manifest(
        id=ids.new("ckpt"), job_id=None, architecture=architecture, classes=classes,
        preprocessing=pre, recipe={}, dataset={}, epoch=_EPOCHS, metrics={}, made_with={},
        created_at=datetime.now(UTC),
    )  # fmt: skip


def _train(network: nn.Module, folder: Path, classes: list[str]) -> None:
    """So that labels mean something: about half of the test images get theirs."""
    files = [sorted((folder / name).iterdir())[:_TRAINING_IMAGES] for name in classes]
    pixels = np.stack(
        [
            images.decode(file.read_bytes(), size=(32, 32), channels=3).pixels
            for of_class in files
            for file in of_class
        ]
    )
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    labels = torch.cat([torch.full((len(one),), place) for place, one in enumerate(files)])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    for _ in range(_EPOCHS):
        for batch in torch.chunk(torch.randperm(len(inputs)), len(inputs) // 64):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(inputs[batch]), labels[batch])
            torch.autograd.backward(loss)
            optimizer.step()
