"""torchvision's classification networks: which there are, and what each is for an image size.

Discovered, never listed: whatever the installed torchvision has. It is imported when one of its
names is first asked for. Knows nothing of published weights beyond the size they were made for.
"""

import functools
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from problems import Problem

# What networks say, by raising, of images that they cannot take.
_REFUSALS = (RuntimeError, ValueError, AssertionError)
_UNHEARD_OF = 99_991  # classes: as many as no layer has channels
_FILLING = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.zero_, torch.Tensor.fill_}
_NATIVE_SIZE = 224  # of a network without published weights to tell


class Part(NamedTuple):
    """A module that computes: its name in the state_dict, and what leaves it for one image."""

    name: str
    type: str
    arguments: dict[str, Any]
    output_shape: tuple[int, ...]
    parameters: int


@functools.cache
def names() -> tuple[str, ...]:
    """Every classification network of torchvision, quantized ones left out."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def family(name: str) -> str:
    """The module that torchvision keeps it in: `resnet`, `vision_transformer` …"""
    from torchvision import models

    return str(models.get_model_builder(name).__module__.rpartition(".")[2])


def summary(name: str) -> str:
    """A line about it, with numbers for ImageNet's 1000 classes at its own size."""
    from torchvision import models

    meta = models.get_model_weights(name).DEFAULT.meta
    millions, operations = meta["num_params"] / 1e6, 2 * meta["_ops"]
    return f"torchvision's {name}: {millions:.1f} M parameters, {operations:.1f} GFLOPs."


@functools.cache
def native_size(name: str) -> int:
    """Side of the images, in pixels, that its best published weights were made for."""
    from torchvision import models

    for weights in models.get_model_weights(name):
        if weights == type(weights).DEFAULT:
            return int(weights.transforms().crop_size[0])
    return _NATIVE_SIZE


def options(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """What its constructor must be told beside `num_classes` for images of (height, width)."""
    match family(name):
        case "googlenet" | "inception":
            # The extra outputs help very deep nets of 2015; their loss is not in the recipe.
            return {"aux_logits": False, "init_weights": True}
        case "vision_transformer":
            return {"image_size": size[0]}
        case "maxvit":
            return {"input_size": size}
        case _:
            return {}


def build(name: str, *, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """The network with weights that torchvision's own rules draw from the global generator."""
    from torchvision import models

    network: nn.Module = models.get_model(
        name, weights=None, num_classes=classes, **options(name, size)
    )
    if channels == 1:
        stem = first_convolution(network)[1]
        stem.weight = nn.Parameter(grey(stem.weight.detach()))
        stem.in_channels = 1
    if family(name) == "mnasnet":
        _say_version(network)
    return network


def outline(name: str, *, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """The same network without memory for its weights, which are on the meta device; buffers are
    real. Draws nothing from the generators.
    """
    with torch.random.fork_rng(devices=[]), _Unfilled():
        return build(name, channels=channels, size=size, classes=classes)


class _Unfilled(TorchFunctionMode):
    """`torch.empty`, with which layers make room for weights, makes none.

    With the meta device for everything, RegNets could not be built: their widths are tensors.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty:
            return func(*args, **{**(kwargs or {}), "device": "meta"})
        if func in _FILLING and args[0].is_meta:  # a third of the time, for nothing
            return args[0]
        return func(*args, **(kwargs or {}))


def _say_version(network: nn.Module) -> None:
    """MNASNet refuses weights that do not say which version of it they are of; safetensors can't,
    and those of ours are always of this one.
    """
    load = network._load_from_state_dict
    ours = {"version": network._version}

    def told(state: Any, prefix: str, said: dict[str, Any], *rest: Any) -> None:
        load(state, prefix, ours | said, *rest)

    # Of this one network: mypy would have the class's method stay.
    network._load_from_state_dict = told  # type: ignore[assignment]


def grey(kernels: torch.Tensor) -> torch.Tensor:
    """(out, 3, h, w) as (out, 1, h, w): sums, so a grey image counts as three equal channels."""
    return kernels.sum(dim=1, keepdim=True)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """What the image reaches first, and its name."""
    return next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))


@functools.cache
def head(name: str) -> frozenset[str]:
    """The parameters that depend on the number of classes, by their names in the state_dict."""
    side = native_size(name)
    network = outline(name, channels=3, size=(side, side), classes=_UNHEARD_OF)
    sizes = {key: value.shape for key, value in network.named_parameters()}
    return frozenset(key for key, shape in sizes.items() if shape[0] == _UNHEARD_OF)


def parts(name: str, *, channels: int, size: tuple[int, int], classes: int) -> list[Part]:
    """Every module that computes, in the order of computing, found by a pass on the meta device.

    Their parameters add up to the network's. Raises `Problem` network_misfit with the size that
    the network needs.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        network = _on_meta(name, channels, size, classes)
        for module_name, module in network.named_modules():
            module.register_forward_hook(functools.partial(_note, shapes, module_name))
        _look(network, channels, size)
    except _REFUSALS as error:
        raise _misfit(name, size) from error
    modules, owned = dict(network.named_modules()), _owned(network, shapes)
    return [
        Part(
            at or ", ".join(owned[at]),
            type(modules[at]).__name__,
            _arguments(modules[at]),
            shape,
            sum(owned[at].values()),
        )
        for at, shape in shapes.items()
        if owned[at] or not list(modules[at].children())
    ]


@functools.lru_cache(maxsize=64)
def flops(name: str, *, channels: int, size: tuple[int, int], classes: int) -> int:
    """Floating point operations of one image's forward pass, as FlopCounterMode counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    network = _on_meta(name, channels, size, classes)
    with FlopCounterMode(display=False) as counted:
        _look(network, channels, size)
    return int(counted.get_total_flops())


@functools.cache
def smallest(name: str) -> int:
    """Side of the smallest square image that it takes, in pixels."""
    if patch := _patch(name):
        return patch
    fits, misfits = native_size(name), 0
    while fits - misfits > 1:
        side = (fits + misfits) // 2
        if _takes(name, side):
            fits = side
        else:
            misfits = side
    return fits


def _on_meta(name: str, channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    return outline(name, channels=channels, size=size, classes=classes).to("meta").eval()


def _look(network: nn.Module, channels: int, size: tuple[int, int]) -> None:
    """A pass without numbers. With gradients, or attention takes a way that nobody counts."""
    network(torch.empty(1, channels, *size, device="meta"))


def _takes(name: str, side: int) -> bool:
    try:
        _look(_on_meta(name, 3, (side, side), 2), 3, (side, side))
    except _REFUSALS:
        return False
    return True


def _patch(name: str) -> int | None:
    """Side of a patch, where images are cut into patches and nothing else is."""
    side = native_size(name)
    network = outline(name, channels=3, size=(side, side), classes=2)
    return cast("int | None", getattr(network, "patch_size", None))


def _misfit(name: str, size: tuple[int, int]) -> Problem:
    height, width = size
    native, needed = native_size(name), smallest(name)
    if patch := _patch(name):
        near = max(1, round(max(size) / patch)) * patch
        hint = f"Use a square image_size that is a multiple of {patch}, such as {near}."
        wrong = f"not a multiple of {patch} on both sides"
    elif not _takes(name, native + 8):  # few sizes fit, and images are rarely as large as the next
        hint, wrong = f"Use the size it was made for: {native}.", f"not {native}"
    else:
        hint, wrong = f"Use an image_size of {needed} or more.", f"smaller than {needed}"
    return Problem(
        "network_misfit",
        f"{name} cannot take images of {height} x {width} pixels (height x width).",
        hint=hint,
        errors=[{"loc": ["body", "image_size"], "msg": wrong}],
    )


def _note(
    shapes: dict[str, tuple[int, ...]], name: str, _module: nn.Module, _given: Any, output: Any
) -> None:
    """Called after a module's pass; attention gives its weights too, after its output."""
    first = output[0] if isinstance(output, tuple) else output
    shapes.setdefault(name, tuple(first.shape[1:]))


def _owned(network: nn.Module, ran: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Sizes of the parameters of each module that ran: its own, and those of parts that did not."""
    owned: dict[str, dict[str, int]] = {name: {} for name in ran}
    for key, parameter in network.named_parameters():
        owner = next(at for at in _upwards(key) if at in ran)
        owned[owner][key] = parameter.numel()
    return owned


def _upwards(key: str) -> Iterator[str]:
    """`a.b.weight`: `a.b`, `a` and the network itself."""
    while key:
        key = key.rpartition(".")[0]
        yield key


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(kind).parameters.items()}


def _arguments(module: nn.Module) -> dict[str, Any]:
    """Those of the constructor that the module keeps, are plain and are not PyTorch's default."""
    told = {}
    kind: Any = type(module)  # mypy takes it for something that has no hash
    for name, default in _defaults(kind).items():
        value = getattr(module, name, None)
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, bool | int | float | str | tuple) and value != default:
            told[name] = list(value) if isinstance(value, tuple) else value
    return told
