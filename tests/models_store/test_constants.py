import torch

from models_store.constants import constant

CPU = torch.device("cpu")


def test_the_same_numbers_are_the_same_tensor() -> None:
    rows = constant(((0, 0.5), (1, 2)), CPU)

    assert rows.tolist() == [[0.0, 0.5], [1.0, 2.0]]
    assert constant(((0, 0.5), (1, 2)), CPU) is rows


def test_numbers_of_another_kind_are_another_tensor() -> None:
    assert constant((1, 0), CPU).dtype == torch.float32
    assert constant((True, False), CPU, dtype=torch.bool).dtype == torch.bool
