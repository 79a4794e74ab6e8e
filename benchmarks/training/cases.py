"""What is trained: two networks of the notes, each with its images and its recipe.

Knows nothing of how they are trained; the loops and danlu's job get the same order of images.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import datasets, transforms


@dataclass(frozen=True, slots=True)
class Case:
    """A network of the notes with what it is trained on.

    `shuffle` holds for every contender: files of a folder lie class by class, and would teach
    nothing in that order; MNIST's images are in no order, and the notes leave them so.
    """

    architecture: str
    dataset: str
    batch_size: int
    channels: int
    side: int
    shuffle: bool
    is_array: bool  # its files already are one array of pixels
    least_share: float | None  # of the notes' accuracy; None: to within half a point

    def recipe(self, *, precision: str, epochs: int, seed: int) -> dict[str, Any]:
        """What danlu is asked for: what the notes do, but for the precision."""
        return {
            "recipe": f"notes-{self.architecture.removesuffix('_net')}",
            "dataset": self.dataset,
            "precision": precision,
            "epochs": epochs,
            "seed": seed,
            "data_loader": {"shuffle": self.shuffle, "drop_last": False},
        }


CASES = {
    "cifar10_net": Case(
        "cifar10_net",
        "cifar10-jpeg",
        batch_size=64,
        channels=3,
        side=32,
        shuffle=True,
        is_array=False,
        least_share=None,
    ),
    "mnist_net": Case(
        "mnist_net",
        "mnist",
        batch_size=128,
        channels=1,
        side=28,
        shuffle=False,
        is_array=True,
        least_share=0.99,
    ),
}
RATE = 0.01  # of SGD, in both


def network(architecture: str) -> nn.Module:
    """As the notes write it (2.13.1): the same layers, so the same weights for the same seed."""
    if architecture == "mnist_net":
        return nn.Sequential(
            nn.Conv2d(1, 10, 5),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(10, 20, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20 * 10 * 10, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, 1, 2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 5, 1, 2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, 1, 2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def images(case: Case, data: Path, *, train: bool, unpacked: bool = False) -> Any:
    """torchvision's data set of PIL images as the notes make it, ToTensor and nothing else.

    `unpacked`: of CIFAR-10 one array of pixels in memory, as the class of that name has it, in
    place of a folder of files.
    """
    to_tensor = transforms.Compose([transforms.ToTensor()])
    if case.dataset == "mnist":
        return datasets.MNIST(root=data, train=train, transform=to_tensor)
    folder = data / case.dataset / ("train" if train else "test")
    files = datasets.ImageFolder(folder, transform=to_tensor)
    return Unpacked(files, to_tensor) if unpacked else files


class Unpacked(torch.utils.data.Dataset[Any]):
    """Pixels in one array, a PIL image made of each when it is asked for, as torchvision's CIFAR10
    does, whose files the copy at hand cannot stand in for.
    """

    def __init__(self, files: datasets.ImageFolder, transform: Any) -> None:
        import numpy as np

        self.targets = list(files.targets)
        self.data = np.stack([np.asarray(files.loader(path)) for path, _ in files.samples])
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The image as a tensor, and its class."""
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


def part(count: int, wanted: int | None) -> list[int]:
    """Which of `count` images make an epoch: `wanted` of them, evenly taken; None: all."""
    taken = count if wanted is None else min(wanted, count)
    return [place * count // taken for place in range(taken)]
