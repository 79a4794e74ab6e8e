"""The transforms of a script, as torchvision.transforms.v2 has them.

danlu works on whole batches of pixels, the script image by image; what comes out is alike. Crops
and flips alone are short enough to be done as danlu does: then each image gets what it got in the
job.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from models_store.pipeline import Pair, size_after, stages
from models_store.script.code import (
    INDENT,
    Call,
    Lines,
    Raw,
    as_tuples,
    call,
    differing,
    indented,
    statement,
)
from models_store.script.known import Known
from models_store.transforms import (
    AutoAugment,
    CutMix,
    Grayscale,
    MixUp,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    Transform,
)

_MODES = {
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST_EXACT",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
}
_DEFAULT_MODES = {"Resize": "bilinear", "RandomResizedCrop": "bilinear"}  # the others: nearest
_AS_BYTES = call("v2.PILToTensor")
_SCALED = call("v2.ToDtype", Raw("torch.float32"), scale=True)


_CROP = '''\
def crop(images, size, chance):
    """A part of each image, from a place of its own."""
    rows, columns = (
        torch.randint(0, room + 1, (len(images), 1), generator=chance, device=chance.device)
        for room in (images.shape[2] - size[0], images.shape[3] - size[1])
    )
    rows = rows + torch.arange(size[0], device=chance.device)
    columns = columns + torch.arange(size[1], device=chance.device)
    batch = torch.arange(len(images), device=chance.device).view(-1, 1, 1)
    return images[batch, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
'''

_FLIP = '''\
def flip(images, axis, p, chance):
    """Some of the images mirrored: along their width (axis 3) or their height (2)."""
    chosen = torch.rand(len(images), generator=chance, device=chance.device) < p
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(axis), images)
'''


def changes_batches(known: Known) -> bool:
    """Whether what is random is done to a whole batch, as in the job."""
    on_pixels, on_inputs = stages(known.recipe.transforms.train)
    short = RandomCrop | RandomHorizontalFlip | RandomVerticalFlip
    erases = any(isinstance(one, RandomErasing) for one in on_inputs)
    return bool(on_pixels) and all(isinstance(one, short) for one in on_pixels) and not erases


def definitions(known: Known) -> list[Lines]:
    """The function `augment`, and those that it needs; none where images change one by one."""
    if not changes_batches(known):
        return []
    on_pixels, _ = stages(known.recipe.transforms.train)
    crops = any(isinstance(one, RandomCrop) for one in on_pixels)
    flips = any(not isinstance(one, RandomCrop) for one in on_pixels)
    blocks = [_CROP.splitlines()] if crops else []
    blocks += [_FLIP.splitlines()] if flips else []
    return [*blocks, _augment(on_pixels, known)]


def _augment(listed: Sequence[Transform], known: Known) -> Lines:
    body: Lines = []
    size = known.size
    for one in listed:
        after = size_after(one, size)
        if isinstance(one, RandomCrop):
            body += _padded(one, size)
            made = call("crop", Raw("images"), after, Raw("chance"))
        else:
            axis = 3 if isinstance(one, RandomHorizontalFlip) else 2
            made = call("flip", Raw("images"), axis, one.model_dump()["p"], Raw("chance"))
        body += statement("images = ", made)
        size = after
    body.append("images = images.float() / 255")
    if (normalize := known.normalize) is not None:
        said = {"mean": list(normalize.mean), "std": list(normalize.std)}
        body += statement("images = ", call("v2.functional.normalize", Raw("images"), **said))
    return [
        "def augment(images, chance):",
        f'{INDENT}"""Bytes (N, C, H, W) to numbers from 0 to 1, with what the job drew."""',
        *indented(body),
        f"{INDENT}return images.contiguous(memory_format=torch.channels_last)",
    ]


def _padded(one: RandomCrop, size: Pair) -> Lines:
    paddings = list(one.paddings(*size))
    if not any(paddings):
        return []
    fill = one.fill if isinstance(one.fill, list) else [one.fill]
    said: dict[str, Any] = {"fill": [int(value) for value in fill]} if any(fill) else {}
    if one.padding_mode != "constant":
        said["padding_mode"] = one.padding_mode
    return statement("images = ", call("v2.functional.pad", Raw("images"), paddings, **said))


def transforms(known: Known) -> Lines:
    """Statements for `train_transform` and `eval_transform`, or `transform` where both are one."""
    train, judged = _lists(known)
    if train == judged:
        return statement("transform = ", call("v2.Compose", train))
    return [
        *statement("train_transform = ", call("v2.Compose", train)),
        *statement("eval_transform = ", call("v2.Compose", judged)),
    ]


def names(known: Known) -> tuple[str, str]:
    """What the transforms of training and of judging are called."""
    train, judged = _lists(known)
    return ("transform", "transform") if train == judged else ("train_transform", "eval_transform")


def _lists(known: Known) -> tuple[list[Call], list[Call]]:
    judged = [*_to_numbers(known.recipe.transforms.shaping, known), *_normalized(known)]
    if changes_batches(known):
        return list(_to_pixels(known)), judged
    on_pixels, on_inputs = stages(known.recipe.transforms.train)
    return [*_to_numbers(on_pixels, known), *_normalized(known), *_erasing(on_inputs)], judged


def _to_numbers(listed: Sequence[Transform], known: Known) -> list[Call]:
    """From an image of the data set to numbers from 0 to 1, (C, H, W)."""
    calls = [*_to_pixels(known), *_on_pixels(listed, known)]
    if calls[-1] is _SCALED and calls[-2] is _AS_BYTES:
        # It divides by 255 as danlu does; ToDtype multiplies, which gives other last bits.
        calls[-2:] = [call("transforms.ToTensor")]
    return calls


def mixing(known: Known) -> Lines:
    """The statement for `mix`, which mixes the images of a batch; none without."""
    mixers = [
        call(f"v2.{one.type}", alpha=one.alpha, num_classes=Raw("NUM_CLASSES"))
        for one in known.recipe.transforms.train
        if isinstance(one, MixUp | CutMix)
    ]
    if not mixers:
        return []
    return statement("mix = ", mixers[0] if len(mixers) == 1 else call("v2.Compose", mixers))


def _to_pixels(known: Known) -> Iterator[Call]:
    """From an image of the data set to a tensor of bytes, (C, H, W), at the recipe's size."""
    if not known.is_folder:  # whose loader has done that
        yield from _to_size(known)
    yield _AS_BYTES


def _to_size(known: Known) -> Iterator[Call]:
    wanted = known.recipe.channels
    if wanted == 1 and known.channels != 1:
        yield call("v2.Grayscale")
    if (known.height, known.width) != known.size:
        yield call("v2.Resize", known.size)
    if wanted == 3 and known.channels != 3:
        yield call("v2.RGB")


def _on_pixels(listed: Sequence[Transform], known: Known) -> Iterator[Call]:
    """The transforms before the normalization, and the step from bytes to numbers from 0 to 1."""
    size, scaled = known.size, False
    for one in listed:
        if isinstance(one, RandomErasing) and not scaled:
            yield _SCALED  # `value` is on that scale
            scaled = True
        made = _made(one, size, scaled=scaled)
        if not (isinstance(one, Grayscale) and known.recipe.channels == 1):
            yield made
        size = size_after(one, size)
    if not scaled:
        yield _SCALED


def _normalized(known: Known) -> list[Call]:
    normalize = known.normalize
    if normalize is None:
        return []
    return [call("v2.Normalize", mean=list(normalize.mean), std=list(normalize.std))]


def _erasing(listed: Sequence[Transform]) -> list[Call]:
    return [_made(one, (0, 0), scaled=True) for one in listed if isinstance(one, RandomErasing)]


def _made(one: Transform, size: Pair, *, scaled: bool) -> Call:
    """torchvision's class with the arguments that are not its defaults."""
    given = one.model_dump(exclude={"type"})
    defaults = {k: f.get_default(call_default_factory=True) for k, f in _fields(one).items()}
    said: dict[str, Any] = differing(given, defaults)
    if "size" in given:
        said.pop("size", None)
        if given["size"] is not None or one.type == "Resize":
            size = given["size"]
        said = {"size": as_tuples(size), **said}
    if "fill" in said:
        said["fill"] = _fill(said["fill"], scaled=scaled)
    mode = given.get("interpolation")
    said.pop("interpolation", None)
    if mode is not None and mode != _DEFAULT_MODES.get(one.type, "nearest"):
        said["interpolation"] = Raw(f"v2.InterpolationMode.{_MODES[mode]}")
    if isinstance(one, AutoAugment) and "policy" in said:
        said["policy"] = Raw(f"v2.AutoAugmentPolicy.{one.policy.upper()}")
    return call(f"v2.{one.type}", *_placed(said), **said)


def _fields(one: Transform) -> Any:
    return type(one).model_fields


def _placed(said: dict[str, Any]) -> list[Any]:
    """The first argument of crops and resizes, which needs no name."""
    return [said.pop("size")] if "size" in said else []


def _fill(fill: Any, *, scaled: bool) -> Any:
    """Brightness from 0 to 255, or where the pixels are numbers by then, from 0 to 1."""
    if isinstance(fill, tuple):
        return tuple(_fill(one, scaled=scaled) for one in fill)
    return None if fill is None else round(fill / 255, 6) if scaled else int(fill)
