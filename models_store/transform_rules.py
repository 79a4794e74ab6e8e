"""Which lists of transforms can work together, and what `eval` is when it is left out.

Torch-free: everything is checked before the job is accepted. Knows neither losses nor networks.
"""

from collections.abc import Sequence

from models_store.fields import Normalize, Recipe
from models_store.pipeline import Pair, Transforms, pair, place, size_after, size_of
from models_store.transforms import (
    CenterCrop,
    CutMix,
    EvalTransform,
    Grayscale,
    MixUp,
    NormalizeTransform,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Resize,
    TrainTransform,
    Transform,
)
from problems import Problem

_LARGEST = 2048  # px, as for image_size


def settle(recipe: Recipe, *, said: str | Normalize | None) -> Recipe:
    """The recipe with its `eval` list filled in, and `normalize` as its lists have it.

    `said` is `normalize` as it was asked for. Raises `Problem` transforms_misfit, with the place,
    when a list cannot work.
    """
    lists = recipe.transforms
    _check("train", lists.train, recipe)
    if lists.eval is None:
        lists = lists.model_copy(update={"eval": steady(lists.train, recipe.size)})
    assert lists.eval is not None
    _check("eval", lists.eval, recipe)
    _check_sizes(lists, recipe.size)
    listed = _normalize(lists, said)
    normalize = recipe.normalize if listed is None else listed
    return recipe.model_copy(update={"transforms": lists, "normalize": normalize})


def steady(train: Sequence[TrainTransform], size: Pair) -> list[EvalTransform]:
    """What `eval` is when it is left out: the train list without chance.

    A random crop becomes the middle of the image, a random crop that is resized becomes the whole
    image at that size, where the size changes; all else that is random is left out.
    """
    kept: list[EvalTransform] = []
    for one in train:
        after = size_after(one, size)
        match one:
            case Resize() | CenterCrop() | Grayscale() | NormalizeTransform():
                kept.append(one)
            case RandomCrop() if after != size:
                kept.append(CenterCrop(type="CenterCrop", size=list(after)))
            case RandomResizedCrop() if after != size:
                kept.append(
                    Resize(
                        type="Resize",
                        size=list(after),
                        interpolation=one.interpolation,
                        antialias=one.antialias,
                    )
                )
        size = after
    return kept


def _misfit(part: str, at: int, what: str, hint: str) -> Problem:
    return Problem(
        "transforms_misfit",
        f"transforms.{part}[{at}]: {what}",
        hint=hint,
        errors=[place(part, at, message=what)],
    )


def _check(part: str, listed: Sequence[Transform], recipe: Recipe) -> None:
    _check_order(part, listed)
    size = recipe.size
    for at, one in enumerate(listed):
        _check_channels(part, at, one, recipe.channels)
        if isinstance(one, RandomCrop):
            _check_crop(part, at, one, size)
        size, before = size_after(one, size), size
        if not all(1 <= side <= _LARGEST for side in size):
            raise _misfit(
                part,
                at,
                f"{one.type} makes {_sides(size)} of {_sides(before)}.",
                f"Every side must stay within 1 to {_LARGEST} pixels.",
            )


def _check_order(part: str, listed: Sequence[Transform]) -> None:
    normalized = mixed = False
    for at, one in enumerate(listed):
        name = one.type
        if mixed and not isinstance(one, MixUp | CutMix):
            raise _misfit(
                part, at, f"{name} comes after MixUp or CutMix.", "Put MixUp and CutMix last."
            )
        if normalized and isinstance(one, NormalizeTransform):
            raise _misfit(part, at, "Normalize is there twice.", "Keep one of them.")
        if normalized and not isinstance(one, RandomErasing | MixUp | CutMix):
            raise _misfit(
                part,
                at,
                f"{name} comes after Normalize, and works on pixels.",
                "Only RandomErasing, MixUp and CutMix may come after Normalize.",
            )
        normalized = normalized or isinstance(one, NormalizeTransform)
        mixed = mixed or isinstance(one, MixUp | CutMix)


def _check_channels(part: str, at: int, one: Transform, channels: int) -> None:
    if isinstance(one, Grayscale) and one.num_output_channels != channels:
        raise _misfit(
            part,
            at,
            f"Grayscale makes {one.num_output_channels} channels, and channels is {channels}.",
            "Set channels to 1 for grey images, or num_output_channels to what channels is.",
        )
    for name, least in (("mean", channels), ("std", channels), ("fill", 1), ("value", 1)):
        given = getattr(one, name, None)
        if isinstance(given, list) and len(given) not in {least, channels}:
            raise _misfit(
                part,
                at,
                f"{name} has {len(given)} numbers for {channels} channels.",
                "Give one number for each channel.",
            )


def _check_crop(part: str, at: int, crop: RandomCrop, size: Pair) -> None:
    """What torchvision would only notice at the first batch."""
    wanted = size if crop.size is None else pair(crop.size)
    left, top, right, bottom = crop.paddings(*size)
    padded = size[0] + top + bottom, size[1] + left + right
    if wanted[0] > padded[0] or wanted[1] > padded[1]:
        raise _misfit(
            part,
            at,
            f"a crop of {_sides(wanted)} does not fit into {_sides(padded)}.",
            "Give a smaller size, more padding, or pad_if_needed: true.",
        )
    # `reflect` leaves the edge out, `symmetric` repeats it; neither can go around twice.
    spare = {"reflect": 1, "symmetric": 0}.get(crop.padding_mode)
    if spare is not None and (
        max(top, bottom) > size[0] - spare or max(left, right) > size[1] - spare
    ):
        raise _misfit(
            part,
            at,
            f"padding_mode {crop.padding_mode} cannot pad {_sides(size)} by that much.",
            "Give less padding, or padding_mode: edge.",
        )


def _check_sizes(lists: Transforms, size: Pair) -> None:
    train, judged = (size_of(size, listed) for listed in (lists.train, lists.eval or ()))
    if train != judged:
        raise Problem(
            "transforms_misfit",
            f"transforms.train ends in {_sides(train)}, transforms.eval in {_sides(judged)}.",
            hint="Both must end in the size that the network takes; leave eval out and it does.",
            errors=[{"loc": ["body", "transforms", "eval"], "msg": "ends in another size"}],
        )


def _normalize(lists: Transforms, said: str | Normalize | None) -> Normalize | None:
    """What the `Normalize` of the lists says; None without one."""
    in_train, in_eval = (
        next((one for one in listed if isinstance(one, NormalizeTransform)), None)
        for listed in (lists.train, lists.eval or ())
    )
    if in_train != in_eval:
        raise Problem(
            "transforms_misfit",
            "transforms.train and transforms.eval do not normalize alike.",
            hint="Give both the same Normalize, or only the field normalize.",
            errors=[{"loc": ["body", "transforms", "eval"], "msg": "another Normalize"}],
        )
    if in_train is None:
        return None
    normalize = Normalize(mean=in_train.mean, std=in_train.std)
    if said is not None and said != normalize:
        raise Problem(
            "transforms_misfit",
            "normalize is given twice: as a field, and as Normalize in transforms.",
            hint="Give one of them; they mean the same.",
            errors=[{"loc": ["body", "normalize"], "msg": "transforms have a Normalize too"}],
        )
    return normalize


def _sides(size: Pair) -> str:
    return f"{size[0]} x {size[1]}"
