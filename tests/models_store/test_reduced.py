"""Networks in bfloat16: what is rounded, and what stays."""

import numpy as np
import pytest
import torch
from torch import nn

from models_store import reduced

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    ).eval()


def test_products_are_rounded_and_what_normalizes_is_not() -> None:
    made = network()
    reduced.reduce(made)
    kinds = {name: value.dtype for name, value in made.state_dict().items()}
    assert {kind for name, kind in kinds.items() if name[0] in "04"} == {torch.bfloat16}
    assert torch.bfloat16 not in {kind for name, kind in kinds.items() if name[0] == "1"}


def test_it_computes_what_autocast_makes_of_the_whole_weights() -> None:
    """Rounded once or rounded at each call: the same bits."""
    made, images = network(), torch.rand(4, 3, 8, 8)
    with torch.inference_mode():
        exact = made(images)
        with reduced.computing("cpu", reduced=True):
            expected = made(images)
        reduced.reduce(made)
        with reduced.computing("cpu", reduced=True):
            found = made(images)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    np.testing.assert_allclose(found.float(), exact, atol=0.05)


def test_nothing_is_rounded_unless_it_was_asked_for() -> None:
    made, images = network(), torch.rand(4, 3, 8, 8)
    with torch.inference_mode(), reduced.computing("cpu", reduced=False):
        assert made(images).dtype == torch.float32


@pytest.mark.parametrize(
    ("has", "native"),
    [
        ({}, False),
        ({"avx512": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
    ],
)
def test_cpus(has: dict[str, bool], native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert reduced.is_native(CPU) is native
    assert reduced.is_native(torch.device("meta")) is False


@pytest.mark.gpu
def test_gpus() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    newest = torch.cuda.get_device_capability() >= (8, 0)
    assert reduced.is_native(torch.device("cuda")) is newest
