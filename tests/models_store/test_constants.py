"""Numbers that are on a device once, and are numbers whoever asked for them first."""

import torch
from torch import nn

from models_store.constants import constant

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")


def test_the_same_numbers_are_the_same_tensor() -> None:
    assert constant(((0, 0.5), (1, 2)), CPU).tolist() == [[0.0, 0.5], [1.0, 2.0]]
    assert constant(((0, 0.5), (1, 2)), ELSEWHERE) is constant(((0, 0.5), (1, 2)), ELSEWHERE)


def test_numbers_of_another_kind_are_another_tensor() -> None:
    assert constant((1, 0), CPU).dtype == torch.float32
    assert constant((1, 0), ELSEWHERE) is not constant((1, 0), ELSEWHERE, dtype=torch.bool)
    assert constant((True, False), CPU, dtype=torch.bool).dtype == torch.bool


def test_an_export_leaves_nothing_behind() -> None:
    class Shifted(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images - constant((0.25, 0.5, 0.75), images.device)

    torch.export.export(Shifted(), (torch.zeros(3),))

    assert (torch.zeros(3) - constant((0.25, 0.5, 0.75), CPU)).tolist() == [-0.25, -0.5, -0.75]
