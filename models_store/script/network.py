"""The network of a script: layers one by one under `class Net`, or torchvision's with a head of
its own.

Sizes are those of the plan, so that nothing is inferred when the script runs.
"""

from collections.abc import Iterator

from torch import nn

from models_store import architectures, heads, zoo
from models_store.architectures import Plan
from models_store.script.code import INDENT, WIDTH, Call, Lines, Raw, call, statement
from models_store.script.known import Known
from models_store.script.transforms import changes_batches
from models_store.shapes import Layer, written

# Arguments that everybody knows by their place.
_PLACES = frozenset(
    {
        *("in_channels", "out_channels", "kernel_size", "num_features"),
        *("in_features", "out_features", "output_size"),
    }
)
_SHAPING = {"Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Flatten", "Linear"}

_RESIDUAL = '''\
class Residual(nn.Module):
    """Two ways for the same input, whose outputs are added: gradients find a short way back."""

    def __init__(self, layers, shortcut):
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut

    def forward(self, x):
        return self.layers(x) + self.shortcut(x)
'''


_WHITEN = '''\
def whiten(model, images):
    """Gives the first layer filters that make pixels next to each other uncorrelated, and keeps
    them; the scales of BatchNorm stay 1.
    """
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    patches = nn.functional.unfold(images.double(), first.kernel_size)
    patches = patches.transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values.clamp(min=0) + 5e-4).sqrt()).T
    filters = filters.reshape(-1, *first.weight.shape[1:]).float()
    filters = torch.cat([filters, -filters])[: len(first.weight)]
    with torch.no_grad():
        first.weight[: len(filters)] = filters
        first.bias.zero_()
    first.weight.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.requires_grad_(False)
'''


def planned(known: Known) -> Plan:
    """The network for the images of the job. Raises what `architectures.plan` raises."""
    recipe = known.recipe
    return architectures.plan(
        recipe.architecture,
        channels=recipe.channels,
        size=recipe.input_size,
        classes=len(known.classes),
    )


def classes(plan: Plan) -> list[Lines]:
    """The classes that must be defined, one block of lines each."""
    if architectures.of_zoo(plan):
        return []
    residual = any(layer.type == "Residual" for layer in plan.layers)
    whitened = architectures.is_whitened(plan)
    return [
        *([_RESIDUAL.splitlines()] if residual else []),
        _net(plan),
        *([_WHITEN.splitlines()] if whitened else []),
    ]


def building(plan: Plan, known: Known) -> Lines:
    """Statements after which `model` is the network."""
    if not architectures.of_zoo(plan):
        return ["model = Net()", *_whitened(plan, known), *_beginning(plan, known)]
    recipe, name = known.recipe, str(plan.architecture)
    channels, *size = plan.input_shape
    options = zoo.options(name, (size[0], size[1]))
    if not known.pretrained:
        made = statement(
            "model = ",
            call(f"models.{name}", weights=None, num_classes=Raw("NUM_CLASSES"), **options),
        )
        grey = _grey(plan) if channels == 1 else []
        return [*made, *grey, *_beginning(plan, known)]
    lines = _with_weights(name, (size[0], size[1]))
    if recipe.freeze_backbone:
        lines += ["# Only the new last layer will learn.", "model.requires_grad_(False)"]
    if channels == 1:
        lines += _grey(plan)
    place, layer = head(plan)
    return [
        *lines,
        f"# The last layer is a new one, for {plan.classes} classes.",
        *statement(f"{place} = ", layer),
    ]


def _whitened(plan: Plan, known: Known) -> Lines:
    """By the images that the job takes for it."""
    if not architectures.is_whitened(plan):
        return []
    lines = [
        "some = range(0, len(train_data), max(1, len(train_data) // 2000))[:2000]",
        "images = torch.stack([train_data[place][0] for place in some])",
    ]
    if changes_batches(known):
        lines.append("images = augment(images, torch.Generator().manual_seed(SEED))")
    return [*lines, "whiten(model, images)"]


def _beginning(plan: Plan, known: Known) -> Lines:
    """The checkpoint that the job started from, as a file beside the script."""
    checkpoint = known.recipe.init_from
    if checkpoint is None:
        return []
    lines = ['weights = torch.load("init.pth", map_location="cpu", weights_only=True)']
    if known.new_head:
        for key in sorted(heads.of(plan.architecture, architectures.outline(plan))):
            lines.append(f'del weights["{key}"]  # of other classes')
    lines = [
        f"# The job began with {checkpoint}: what GET /checkpoints/{checkpoint}/download?format=pt",
        "# gives is looked for as init.pth; without it, training begins from scratch.",
        'if Path("init.pth").is_file():',
        *[INDENT + line for line in lines],
        f"{INDENT}model.load_state_dict(weights, strict={not known.new_head})",
    ]
    if known.recipe.freeze_backbone:
        lines += [
            "# Only the last layer will learn.",
            "model.requires_grad_(False)",
            f"{head(plan)[0]}.requires_grad_(True)",
        ]
    return lines


def head(plan: Plan) -> tuple[str, Call]:
    """Where a network has its last layer, such as `model.classifier[3]`, and that layer."""
    outline = architectures.outline(plan)
    name = next(iter(heads.of(plan.architecture, outline))).rpartition(".")[0]
    last = outline.get_submodule(name)
    bias: dict[str, bool] = {} if last.bias is not None else {"bias": False}
    if isinstance(last, nn.Conv2d):
        made = call(
            "nn.Conv2d", last.in_channels, Raw("NUM_CLASSES"), _short(last.kernel_size), **bias
        )
    else:
        made = call("nn.Linear", last.in_features, Raw("NUM_CLASSES"), **bias)
    return _attribute(name), made


def _short(sides: tuple[int, ...]) -> int | tuple[int, ...]:
    return sides[0] if len(set(sides)) == 1 else sides


def _attribute(name: str) -> str:
    """`features.0.0` as Python reaches it: `model.features[0][0]`."""
    return "model" + "".join(
        f"[{step}]" if step.isdecimal() else f".{step}" for step in name.split(".")
    )


def _with_weights(name: str, size: tuple[int, int]) -> Lines:
    family = zoo.family(name)
    if family in ("googlenet", "inception"):
        lines = [f'model = models.{name}(weights="DEFAULT", transform_input=False)']
        if family == "inception":
            lines += ["model.aux_logits = False", "model.AuxLogits = None"]
        return lines
    if family == "vision_transformer" and size[0] != zoo.native_size(name):
        return _transformer(name, size[0])
    return [f'model = models.{name}(weights="DEFAULT")']


def _transformer(name: str, side: int) -> Lines:
    interpolated = call(
        "models.vision_transformer.interpolate_embeddings",
        side,
        Raw("model.patch_size"),
        Raw(f'models.get_model_weights("{name}").DEFAULT.get_state_dict()'),
    )
    return [
        f"model = models.{name}(weights=None, image_size={side})",
        "# For images of another size, positions lie in between those that were learnt.",
        *statement("weights = ", interpolated),
        "model.load_state_dict(weights)",
    ]


def _grey(plan: Plan) -> Lines:
    """As `zoo.build` does it."""
    first, _ = zoo.first_convolution(architectures.outline(plan))
    return [
        "# Made for colour: a grey image counts as three equal channels.",
        f"first = {_attribute(first)}",
        "first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))",
        "first.in_channels = 1",
    ]


def _net(plan: Plan) -> Lines:
    layers = list(_sequence(plan, plan.prefix, depth=3 if plan.prefix else 2))
    if not plan.prefix:
        return [
            "class Net(nn.Sequential):",
            f"{INDENT}def __init__(self):",
            f"{INDENT * 2}super().__init__(",
            *_deeper(layers),
            f"{INDENT * 2})",
        ]
    return [
        "class Net(nn.Module):",
        f"{INDENT}def __init__(self):",
        f"{INDENT * 2}super().__init__()",
        f"{INDENT * 2}self.model = nn.Sequential(",
        *layers,
        f"{INDENT * 2})",
        "",
        f"{INDENT}def forward(self, x):",
        f"{INDENT * 2}return self.model(x)",
    ]


def _deeper(lines: Lines) -> Lines:
    return [INDENT + line for line in lines]


def _sequence(plan: Plan, prefix: str, *, depth: int) -> Iterator[str]:
    """The layers whose names begin with `prefix`, without those inside of them."""
    for layer in plan.layers:
        if layer.name.rpartition(".")[0] != prefix.removesuffix("."):
            continue
        if layer.type == "Residual":
            yield from _residual(plan, layer, depth=depth)
        else:
            yield from _commented(statement("", _made(layer), depth=depth), layer)


def _commented(lines: Lines, layer: Layer) -> Lines:
    """With the comma, and the shape that leaves the layer where there is room for it."""
    shape = f"  # {written(layer.output_shape)}" if layer.type in _SHAPING else ""
    last = f"{lines[-1]},"
    if len(lines) == 1 and len(last + shape) <= WIDTH:
        last += shape
    return [*lines[:-1], last]


def _residual(plan: Plan, layer: Layer, *, depth: int) -> Lines:
    lines = [f"{INDENT * depth}Residual("]
    for part in ("layers", "shortcut"):
        inner = list(_sequence(plan, f"{layer.name}.{part}", depth=depth + 2))
        if not inner:
            lines.append(f"{INDENT * (depth + 1)}nn.Sequential(),")
            continue
        lines += [
            f"{INDENT * (depth + 1)}nn.Sequential(",
            *inner,
            f"{INDENT * (depth + 1)}),",
        ]
    return [*lines, f"{INDENT * depth}),"]


def _made(layer: Layer) -> Call:
    given = dict(layer.arguments)
    placed = [given.pop(name) for name in list(given) if name in _PLACES]
    return call(f"nn.{layer.type}", *placed, **given)
