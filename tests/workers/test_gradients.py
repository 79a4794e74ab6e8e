"""Gradients put aside are added to those that came after."""

import torch
from torch import nn

from workers import gradients


def test_what_was_taken_is_added_to_what_there_is() -> None:
    network = nn.Linear(2, 1)
    network.weight.grad, network.bias.grad = torch.ones(1, 2), torch.ones(1)

    earlier = gradients.take(network)
    none = network.weight.grad
    network.weight.grad = torch.full((1, 2), 2.0)
    gradients.add(earlier)

    assert none is None
    assert network.weight.grad.tolist() == [[3.0, 3.0]]
    assert network.bias.grad is not None
    assert network.bias.grad.tolist() == [1.0]
