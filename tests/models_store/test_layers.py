"""The layers of own networks held against PyTorch's classes, and what is refused of them."""

import inspect
import json
import typing
from typing import Any

import pytest
from pydantic import ValidationError
from torch import nn

from models_store import layers
from models_store.layers import MOST_DEPTH, MOST_LAYERS, LayerList

KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in typing.get_args(typing.get_args(layers.AnyLayer)[0])
}
OF_TORCH = sorted(KINDS.keys() - {"Residual"})
INFERRED = {"in_channels", "in_features", "num_features", "out_features"}
CONV = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3}


def _signature(name: str) -> dict[str, inspect.Parameter]:
    known = dict(inspect.signature(getattr(nn, name)).parameters)
    return {} if known.keys() == {"args", "kwargs"} else known


def _parse(*given: Any) -> LayerList:
    return LayerList.model_validate({"layers": list(given)})


def _refusal(*given: Any) -> list[Any]:
    with pytest.raises(ValidationError) as caught:
        _parse(*given)
    return list(caught.value.errors())


def nested(depth: int) -> dict[str, Any]:
    layer: dict[str, Any] = {"type": "ReLU"}
    for _ in range(depth):
        layer = {"type": "Residual", "layers": [layer]}
    return layer


@pytest.mark.parametrize("name", OF_TORCH)
def test_names_and_defaults_are_pytorchs(name: str) -> None:
    known = _signature(name)
    fields = dict(KINDS[name].model_fields)
    assert fields.pop("type").is_required()
    if name == "BatchNorm2d" and "bias" not in known:  # an older PyTorch
        del fields["bias"]
    assert fields.keys() == known.keys() - layers.FIXED.keys()
    for field_name, field in fields.items():
        default = known[field_name].default
        if field_name in INFERRED:
            assert (default, field.default) == (inspect.Parameter.empty, None)
        elif default is inspect.Parameter.empty:
            assert field.is_required(), field_name
        else:
            assert field.default == default, field_name


def test_fixed_lists_exactly_what_pytorch_has_besides() -> None:
    besides = {
        rest for name in OF_TORCH for rest in _signature(name).keys() - KINDS[name].model_fields
    }
    assert besides == set(layers.FIXED)


@pytest.mark.parametrize(
    ("layer", "loc"),
    [
        (CONV | {"device": "cuda"}, "device"),
        (CONV | {"dtype": "float16"}, "dtype"),
        ({"type": "MaxPool2d", "kernel_size": 2, "return_indices": False}, "return_indices"),
    ],
)
def test_what_danlu_fixes_is_refused_by_name(layer: dict[str, Any], loc: str) -> None:
    [error] = _refusal(CONV, layer)
    assert error["type"] == "argument_fixed"
    assert error["loc"] == ("layers", 1, layer["type"], loc)
    assert error["msg"] == f"danlu sets it: {layers.FIXED[loc]}"


@pytest.mark.parametrize(
    ("layer", "loc"),
    [
        ({}, ()),
        ({"type": "Conv3d"}, ()),
        ("ReLU", ()),
        ({"type": "Conv2d", "kernel_size": 3}, ("out_channels",)),
        (CONV | {"out_channels": 0}, ("out_channels",)),
        (CONV | {"out_channels": 10**12}, ("out_channels",)),
        (CONV | {"kernel_size": 0}, ("kernel_size",)),
        (CONV | {"kernel_size": [3]}, ("kernel_size",)),
        (CONV | {"kernel_size": [3, 3, 3]}, ("kernel_size",)),
        (CONV | {"kernel_size": "3"}, ("kernel_size",)),
        (CONV | {"kernel_size": True}, ("kernel_size",)),
        (CONV | {"kernel_size": None}, ("kernel_size",)),
        (CONV | {"stride": 0}, ("stride",)),
        (CONV | {"padding": -1}, ("padding",)),
        (CONV | {"padding": "full"}, ("padding",)),
        (CONV | {"padding_mode": "mirror"}, ("padding_mode",)),
        (CONV | {"groups": 0}, ("groups",)),
        (CONV | {"groups": 3}, ()),
        (CONV | {"padding": "same", "stride": 2}, ()),
        (CONV | {"biass": True}, ("biass",)),
        ({"type": "MaxPool2d", "kernel_size": 3, "padding": 2}, ()),
        ({"type": "AvgPool2d", "kernel_size": [4, 2], "padding": [2, 2]}, ()),
        ({"type": "AvgPool2d", "kernel_size": 2, "divisor_override": 0}, ("divisor_override",)),
        ({"type": "AdaptiveAvgPool2d"}, ("output_size",)),
        ({"type": "AdaptiveAvgPool2d", "output_size": None}, ("output_size",)),
        ({"type": "BatchNorm2d", "eps": 0}, ("eps",)),
        ({"type": "BatchNorm2d", "momentum": 2}, ("momentum",)),
        ({"type": "BatchNorm2d", "track_running_stats": False}, ()),
        ({"type": "Dropout", "p": 1.5}, ("p",)),
        ({"type": "Dropout", "p": float("nan")}, ("p",)),
        ({"type": "GELU", "approximate": "erf"}, ("approximate",)),
        ({"type": "Flatten", "start_dim": 9}, ("start_dim",)),
        ({"type": "ReLU", "inplace": 1}, ("inplace",)),
        ({"type": "Residual"}, ("layers",)),
        ({"type": "Residual", "layers": [{"type": "Linear", "bias": 2}]}, ("layers", 0)),
    ],
)
def test_wrong_values_are_refused_at_their_place(layer: Any, loc: tuple[Any, ...]) -> None:
    for error in _refusal(layer):
        written = [step for step in error["loc"][2:] if step not in KINDS]
        assert tuple(written[: len(loc)]) == loc


def test_json_is_taken_as_it_is_written() -> None:
    own = _parse(CONV | {"kernel_size": [3, 5.0], "stride": 1.0}, {"type": "Linear"})
    assert own == _parse(CONV | {"kernel_size": (3, 5)}, {"type": "Linear"})
    assert hash(own) == hash(_parse(CONV | {"kernel_size": (3, 5)}, {"type": "Linear"}))


def test_the_canonical_form_is_the_shortest_and_means_the_same() -> None:
    inner = CONV | {"kernel_size": [3, 1], "padding": [1, 0], "bias": True}
    own = _parse(
        CONV | {"stride": 1, "groups": 1, "padding_mode": "zeros"},
        {"type": "Residual", "layers": [inner], "shortcut": []},
    )
    shortest = {
        "layers": [
            CONV,
            {
                "type": "Residual",
                "layers": [CONV | {"kernel_size": [3, 1], "padding": [1, 0]}],
            },
        ]
    }
    assert own.canonical() == shortest
    assert json.loads(json.dumps(own.canonical())) == shortest
    assert LayerList.model_validate(own.canonical()) == own


def test_as_many_layers_as_allowed_and_no_more() -> None:
    assert len(_parse(*[{"type": "ReLU"}] * MOST_LAYERS).layers) == MOST_LAYERS
    inside = {
        "type": "Residual",
        "layers": [{"type": "ReLU"}] * 250,
        "shortcut": [{"type": "ReLU"}] * 250,
    }
    for many in ([{"type": "ReLU"}] * (MOST_LAYERS + 1), [inside]):
        [error] = _refusal(*many)
        assert error["loc"] == ()
        assert "500 layers at most" in error["msg"]


def test_as_deep_as_allowed_and_no_deeper() -> None:
    assert _parse(nested(MOST_DEPTH)).canonical() == {"layers": [nested(MOST_DEPTH)]}
    for depth in (MOST_DEPTH + 1, 400, 100_000):  # as deep as no JSON parser goes
        [error] = _refusal(nested(depth))
        assert error["loc"] == ()
        assert "nested 20 deep" in error["msg"] or "500 layers" in error["msg"]


def test_no_layer_is_no_network() -> None:
    [error] = _refusal()
    assert "a network needs a layer" in error["msg"]


def test_a_label_for_file_names() -> None:
    assert layers.label("mnist_net") == "mnist_net"
    assert layers.label({"layers": [CONV]}) == "own"
