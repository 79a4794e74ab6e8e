"""Shapes, parameters and operations held against real networks that really compute."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models_store import architectures
from models_store.architectures import Plan
from models_store.layers import LayerList
from models_store.shapes import Misfit, Shape, trace

# An even kernel makes PyTorch warn that it copies.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")

Json = dict[str, Any]
CLASSES = 5

small = st.integers(1, 4)
pairs = small | st.tuples(small, small)
gaps = st.integers(0, 2) | st.tuples(st.integers(0, 2), st.integers(0, 2))
switches = st.booleans()


def _layer(kind: str, required: Json, optional: Json) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=optional)


CONVOLUTION = _layer(
    "Conv2d",
    {"out_channels": st.sampled_from([1, 2, 3, 4, 6]), "kernel_size": pairs},
    {
        "stride": pairs,
        "padding": gaps | st.sampled_from(["same", "valid"]),
        "dilation": pairs,
        "groups": st.sampled_from([1, 1, 2, 3]),
        "bias": switches,
        "padding_mode": st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
        "in_channels": st.sampled_from([1, 3]),
    },
)
POOLING = _layer(
    "MaxPool2d",
    {"kernel_size": pairs},
    {"stride": pairs, "padding": gaps, "dilation": pairs, "ceil_mode": switches},
) | _layer(
    "AvgPool2d",
    {"kernel_size": pairs},
    {
        "stride": pairs,
        "padding": gaps,
        "ceil_mode": switches,
        "count_include_pad": switches,
        "divisor_override": small,
    },
)
FLATTEN = _layer("Flatten", {}, {"start_dim": st.integers(1, 3), "end_dim": st.integers(-3, 3)})
OTHERS = st.one_of(
    _layer(
        "AdaptiveAvgPool2d",
        {"output_size": small | st.tuples(st.none() | small, st.none() | small)},
        {},
    ),
    _layer("BatchNorm2d", {}, {"affine": switches, "bias": switches, "momentum": st.none()}),
    _layer("ReLU", {}, {"inplace": switches}),
    _layer("Sigmoid", {}, {}),
    _layer("Tanh", {}, {}),
    _layer("GELU", {}, {"approximate": st.sampled_from(["none", "tanh"])}),
    _layer("Dropout", {}, {"p": st.floats(0, 1), "inplace": switches}),
    FLATTEN,
    _layer("Linear", {"out_features": small}, {"bias": switches}),
)
PLAIN = CONVOLUTION | POOLING | OTHERS
LAYER = st.recursive(
    PLAIN,
    lambda inner: _layer(
        "Residual",
        {"layers": st.lists(inner, max_size=3)},
        {"shortcut": st.lists(inner, max_size=2)},
    ),
    max_leaves=4,
)
SHAPES = st.tuples(st.sampled_from([1, 2, 3]), st.integers(1, 9), st.integers(1, 9))


def _parsed(layers: list[Json]) -> LayerList:
    """Leaves out what is refused before any shape is known."""
    try:
        return LayerList.model_validate({"layers": layers})
    except ValueError:
        assume(False)
        raise


def _module(layer: Json) -> nn.Module:
    given = {key: value for key, value in layer.items() if key != "type"}
    made: nn.Module = getattr(nn, layer["type"])(**given)
    return made


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(layers=st.lists(LAYER, min_size=1, max_size=5), shape=SHAPES)
def test_whatever_is_planned_is_what_pytorch_computes(layers: list[Json], shape: Shape) -> None:
    own = _parsed(layers)
    try:
        rows, output = trace(own.layers, shape, classes=CLASSES, prefix="model.")
    except Misfit:
        assume(False)
        raise
    planned = Plan(own.canonical(), (shape[0], shape[1], shape[2]), CLASSES, rows, "model.")
    network = architectures.build(planned)
    seen: dict[str, Shape] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _module, _input, out, name=name: seen.update({name: tuple(out.shape[1:])})
        )
    images = torch.rand((2, *shape))

    with FlopCounterMode(display=False) as counter:
        assert tuple(network.eval()(images).shape) == (2, *output)

    assert [row.output_shape for row in rows] == [seen[row.name] for row in rows]
    assert counter.get_total_flops() == 2 * architectures.flops(planned)
    assert planned.parameters == sum(value.numel() for value in network.parameters())
    if planned.parameters:  # nothing that a gradient needs has been overwritten
        network.train()(images).sum().backward()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(layer=CONVOLUTION | POOLING | FLATTEN, shape=SHAPES)
def test_a_layer_is_refused_exactly_where_pytorch_refuses_it(layer: Json, shape: Shape) -> None:
    own = _parsed([layer])
    inferred = {"in_channels": shape[0]} if layer["type"] == "Conv2d" else {}
    try:
        expected = tuple(_module(inferred | layer)(torch.zeros((2, *shape))).shape)
    except (RuntimeError, ValueError, IndexError):
        with pytest.raises(Misfit):
            trace(own.layers, shape, classes=CLASSES, prefix="")
    else:
        _, output = trace(own.layers, shape, classes=CLASSES, prefix="")
        assert (2, *output) == expected


def _told(layers: list[Json], shape: Shape = (3, 8, 8)) -> Misfit:
    with pytest.raises(Misfit) as caught:
        trace(_parsed(layers).layers, shape, classes=CLASSES, prefix="")
    return caught.value


CONV: Json = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3}
RELU: Json = {"type": "ReLU", "inplace": True}


@pytest.mark.parametrize(
    ("layers", "path", "reason", "field"),
    [
        ([CONV] * 4, "3", "floor((2 + 2*0 - 1*(3 - 1) - 1) / 1 + 1) = 0", None),
        (
            [CONV | {"kernel_size": [1, 5], "stride": 2, "padding": [0, 1], "dilation": 3}],
            *("0", "floor((8 + 2*1 - 3*(5 - 1) - 1) / 2 + 1) = -1", None),
        ),
        (
            [{"type": "MaxPool2d", "kernel_size": 20, "stride": 3, "ceil_mode": True}],
            *("0", "ceil((8 + 2*0 - 1*(20 - 1) - 1) / 3 + 1) = -3", None),
        ),
        ([CONV | {"in_channels": 4}], "0", "in_channels is 4, but 3 reach it", "in_channels"),
        (
            [CONV, {"type": "BatchNorm2d", "num_features": 3}],
            *("1", "num_features is 3, but 4 reach it", "num_features"),
        ),
        ([CONV | {"groups": 2}], "0", "2 groups do not divide 3 channels", "groups"),
        (
            [CONV | {"padding": 8, "padding_mode": "reflect"}],
            *("0", "padding_mode 'reflect' takes at most 7 of a side of 8, not 8", "padding"),
        ),
        ([{"type": "Flatten"}, CONV], "1", "it takes channels x height x width", None),
        (
            [{"type": "Flatten", "start_dim": 0}],
            *("0", "start_dim 0 to end_dim -1 must lie within 1 to 3", "start_dim"),
        ),
        (
            [{"type": "Linear"}, {"type": "ReLU"}, {"type": "Linear"}],
            *("0", "out_features is missing: only the last Linear's is", "out_features"),
        ),
        (
            [{"type": "Residual", "layers": [{"type": "ReLU"}], "shortcut": [CONV]}],
            *("0", "its layers make 3 x 8 x 8 of it and its shortcut 4 x 6 x 6", None),
        ),
        (
            [{"type": "ReLU"}, {"type": "Residual", "layers": [CONV, CONV, CONV, CONV]}],
            *("1.layers.3", "floor((2 + 2*0", None),
        ),
        ([{"type": "Sigmoid"}, RELU], "1", "inplace would overwrite numbers", "inplace"),
        ([{"type": "Residual", "layers": [RELU]}], "0.layers.0", "inplace would", "inplace"),
        (
            [{"type": "Tanh"}, {"type": "Flatten"}, {"type": "Dropout", "inplace": True}],
            *("2", "inplace would overwrite numbers", "inplace"),
        ),
        (
            [CONV | {"out_channels": 1_000_000, "padding": 4096}],
            *("0", "1000000 x 8198 x 8198 would leave it: over 10^9 numbers", None),
        ),
    ],
)
def test_a_misfit_says_where_and_why(
    layers: list[Json], path: str, reason: str, field: str | None
) -> None:
    misfit = _told(layers)
    assert (misfit.path, misfit.field) == (path, field)
    assert misfit.reason.startswith(reason)


def test_a_misfit_knows_the_shape_that_reaches_it() -> None:
    assert _told([CONV, CONV, {"type": "Flatten"}, CONV]).shape == (64,)


def test_only_the_last_linear_gets_the_classes() -> None:
    given = LayerList.model_validate(
        {
            "layers": [
                {"type": "Flatten"},
                {"type": "Linear", "out_features": 7},
                {"type": "Residual", "layers": [], "shortcut": [{"type": "Linear"}]},
            ]
        }
    )
    with pytest.raises(Misfit, match="its layers make 7"):
        trace(given.layers, (1, 2, 2), classes=CLASSES, prefix="")
    rows, output = trace(given.layers, (1, 2, 2), classes=7, prefix="")
    assert rows[-1].name == "2.shortcut.0"
    assert (rows[-1].arguments, output) == ({"in_features": 7, "out_features": 7}, (7,))


def test_a_number_that_is_given_for_the_classes_stays() -> None:
    given = LayerList.model_validate(
        {"layers": [{"type": "Flatten"}, {"type": "Linear", "out_features": 3, "in_features": 4}]}
    )
    _, output = trace(given.layers, (1, 2, 2), classes=CLASSES, prefix="")
    assert output == (3,)
