"""The networks held against the notes' own classes and against what PyTorch really does."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from models_store import architectures
from models_store.architectures import Plan
from problems import Problem

Notes = Mapping[str, Callable[[], nn.Module]]
PARAMETERS = {"mnist_net": 1_007_590, "cifar10_net": 145_578, "lenet5": 61_706}
NAMES = sorted(PARAMETERS)


def _plan(name: str, **given: int) -> Plan:
    """For the images that the notes have, unless `given` differs."""
    known = architectures.ARCHITECTURES[architectures.canonical(name)]
    side = known.input_size
    return architectures.plan(
        name,
        channels=given.get("channels", known.channels),
        size=(given.get("height", side), given.get("width", side)),
        classes=given.get("classes", 10),
    )


def _children(network: nn.Module) -> nn.Sequential:
    found = network if isinstance(network, nn.Sequential) else network.model
    assert isinstance(found, nn.Sequential)
    return found


def _walk(network: nn.Module, images: torch.Tensor) -> list[tuple[int, ...]]:
    """The shape that leaves each layer."""
    shapes = []
    with torch.no_grad():
        for layer in _children(network):
            images = layer(images)
            shapes.append(tuple(images.shape[1:]))
    return shapes


def test_the_notes_three_networks_are_there() -> None:
    assert set(architectures.ARCHITECTURES) >= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestAsTheNotes:
    def test_same_keys_and_shapes(self, name: str, notes: Notes) -> None:
        ours = architectures.build(_plan(name)).state_dict()
        theirs = notes[name]().state_dict()
        assert [(key, value.shape) for key, value in ours.items()] == [
            (key, value.shape) for key, value in theirs.items()
        ]

    def test_same_layers(self, name: str, notes: Notes) -> None:
        ours = architectures.build(_plan(name))
        assert str(_children(ours)) == str(_children(notes[name]()))

    def test_same_number_of_parameters(self, name: str, notes: Notes) -> None:
        planned = _plan(name)
        theirs = sum(value.numel() for value in notes[name]().parameters())
        assert planned.parameters == theirs == PARAMETERS[name]

    def test_same_first_weights_from_the_same_seed(self, name: str, notes: Notes) -> None:
        torch.manual_seed(7)
        theirs = notes[name]().state_dict()
        planned = _plan(name)
        torch.manual_seed(7)
        ours = architectures.build(planned).state_dict()
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())

    def test_planning_draws_no_random_number(self, name: str) -> None:
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        architectures.plan(name, channels=3, size=(33, 34), classes=5)
        assert torch.equal(torch.rand(3), expected)

    def test_takes_the_notes_weights_and_gives_the_same_logits(
        self, name: str, notes: Notes
    ) -> None:
        theirs = notes[name]().eval()
        planned = _plan(name)
        ours = architectures.build(planned).eval()
        ours.load_state_dict(theirs.state_dict())
        images = torch.rand((4, *planned.input_shape))
        with torch.no_grad():
            assert torch.equal(ours(images), theirs(images))


def test_lenet_has_the_shapes_that_the_notes_print() -> None:
    planned = _plan("lenet5")
    assert [(layer.type, layer.output_shape) for layer in planned.layers] == [
        ("Conv2d", (6, 28, 28)),
        ("Sigmoid", (6, 28, 28)),
        ("AvgPool2d", (6, 14, 14)),
        ("Conv2d", (16, 10, 10)),
        ("Sigmoid", (16, 10, 10)),
        ("AvgPool2d", (16, 5, 5)),
        ("Flatten", (400,)),
        ("Linear", (120,)),
        ("Sigmoid", (120,)),
        ("Linear", (84,)),
        ("Sigmoid", (84,)),
        ("Linear", (10,)),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_named_as_their_weights(name: str) -> None:
    planned = _plan(name)
    assert [layer.index for layer in planned.layers] == list(range(len(planned.layers)))
    named = {layer.name for layer in planned.layers if layer.parameters}
    keys = architectures.build(planned).state_dict()
    assert named == {key.rpartition(".")[0] for key in keys}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(NAMES),
    channels=st.sampled_from([1, 3]),
    height=st.integers(12, 45),
    width=st.integers(12, 45),
    classes=st.integers(1, 30),
)
def test_shapes_and_parameters_are_those_of_the_real_network(
    name: str, channels: int, height: int, width: int, classes: int
) -> None:
    planned = _plan(name, channels=channels, height=height, width=width, classes=classes)
    network = architectures.build(planned)
    shapes = _walk(network, torch.zeros((2, channels, height, width)))
    assert shapes == [layer.output_shape for layer in planned.layers]
    assert shapes[-1] == (classes,)
    assert [layer.parameters for layer in planned.layers] == [
        sum(value.numel() for value in layer.parameters()) for layer in _children(network)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_misfits_are_those_of_the_real_network(name: str) -> None:
    large = _children(architectures.build(_plan(name, height=40, width=40)))
    features = large[: [layer.type for layer in _plan(name).layers].index("Flatten")]
    channels = architectures.ARCHITECTURES[name].channels
    smallest = None
    for side in range(1, 15):
        for height, width in ((side, 20), (20, side)):
            image = torch.zeros((1, channels, height, width))
            try:
                _walk(features, image)
            except RuntimeError:
                with pytest.raises(Problem):
                    _plan(name, height=height, width=width)
            else:
                _plan(name, height=height, width=width)
                smallest = smallest or side
    with pytest.raises(Problem) as caught:
        _plan(name, height=1, width=1)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"Use an image_size of {smallest} or more:")


def test_a_misfit_names_the_layer_and_the_shape_that_reaches_it() -> None:
    with pytest.raises(Problem) as caught:
        _plan("mnist_net", height=8, width=9)
    problem = caught.value
    assert problem.code == "network_misfit"
    assert problem.detail == (
        "Layer 3 of mnist_net, Conv2d(out_channels=20, kernel_size=3), cannot take the 10 x 2 x 2 "
        "that reaches it (channels x height x width): "
        "floor((2 + 2*0 - 1*(3 - 1) - 1) / 1 + 1) = 0."
    )
    assert problem.errors == [{"loc": ["body", "image_size"], "msg": "smaller than 10"}]


@pytest.mark.parametrize("name", ["MNIST-Net", "mnistnet", "mnist_net"])
def test_names_are_matched_loosely(name: str) -> None:
    assert _plan(name).architecture == "mnist_net"


def test_an_unknown_name() -> None:
    with pytest.raises(Problem) as caught:
        architectures.plan("lenet", channels=1, size=(28, 28), classes=10)
    assert caught.value.code == "architecture_unknown"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Did you mean 'lenet5'")
    assert caught.value.errors == [{"loc": ["body", "architecture"], "msg": "unknown architecture"}]


def test_a_network_that_no_memory_holds_is_refused_without_trying() -> None:
    with pytest.raises(Problem) as caught:
        _plan("mnist_net", height=2048, width=2048)
    assert caught.value.code == "network_too_large"
    assert "10,404,007,590 parameters" in caught.value.detail
    assert caught.value.errors[0]["loc"] == ["body", "image_size"]


def test_planning_asks_torch_for_nothing() -> None:
    # A forward pass on the meta device imports sympy and 900 modules more.
    called = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            called.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Listening():
        planned = architectures.plan("lenet5", channels=3, size=(51, 52), classes=3)
        architectures.flops(planned)
    assert called == []


def test_an_argument_that_an_older_pytorch_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(nn.Module):
        def __init__(self, num_features: int) -> None:
            super().__init__()

    monkeypatch.setattr(nn, "BatchNorm2d", Older)
    normed = {"type": "BatchNorm2d", "bias": False}
    rest = [{"type": "Flatten"}, {"type": "Linear"}]

    def plan(*layers: dict[str, Any]) -> Plan:
        return architectures.plan({"layers": layers}, channels=1, size=(5, 5), classes=3)

    assert plan({"type": "BatchNorm2d"}, *rest).parameters
    with pytest.raises(Problem) as caught:
        plan(normed, *rest)

    assert caught.value.code == "invalid_request"
    assert torch.__version__ in str(caught.value.detail)


def test_flops_by_hand() -> None:
    multiply_adds = (
        28 * 28 * 6 * 5 * 5 * 1
        + 10 * 10 * 16 * 5 * 5 * 6
        + 400 * 120
        + 120 * 84
        + 84 * 10
    )  # fmt: skip
    assert architectures.flops(_plan("lenet5")) == 2 * multiply_adds


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_as_pytorch_counts_them(name: str) -> None:
    planned = _plan(name, classes=7)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        architectures.build(planned)(torch.zeros((1, *planned.input_shape)))
    assert architectures.flops(planned) == counter.get_total_flops()
