"""Which images of a data set are trained on, which choose the best checkpoint, which judge it.

Repeatable by seed. Knows nothing of networks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from data_store.parts import DataSet, Part
from models_store import preprocess
from models_store.fields import Recipe
from problems import Problem
from workers import residence
from workers.batches import Samples
from workers.feeding import Feed

_TEST = 1  # beside the seed: the test images are not drawn like those to validate on


@dataclass(frozen=True, slots=True)
class Split:
    """`test` is None when there is no test part and none was held out, or when it is the
    validation part already.
    """

    train: Samples
    validation: Samples
    test: Samples | None


def split(
    data: DataSet,
    recipe: Recipe,
    device: torch.device,
    *,
    warn: Callable[[str, str], object] = lambda _code, _message: None,
) -> Split:
    """The split that `recipe.validation` and `recipe.test` ask for; pixels move to an accelerator
    once, whole, if it has the room for them. Both fractions are of the whole training part.

    Raises `Problem` dataset_invalid when there is no such part, or when no image is left to train
    or to validate on.
    """
    put = partial(_split, data, recipe)
    if data.stream is not None:
        return put(device)
    return residence.lay(data.parts.values(), device, put, warn=warn)


def border(data: DataSet, recipe: Recipe) -> float | None:
    """The border brightness that images are held against where they are judged and predicted;
    None: none is inverted.
    """
    return (
        preprocess.measure_border(data.parts["train"].borders) if recipe.invert == "auto" else None
    )


def _split(data: DataSet, recipe: Recipe, device: torch.device) -> Split:
    feed = Feed(data.stream, device) if data.stream is not None else None
    samples = partial(_samples, data, device=device, feed=feed, border=border(data, recipe))
    train = samples("train")
    test = samples("test") if "test" in data.parts else None
    if recipe.validation == "test" and test is not None:
        return Split(train, test, None)
    if recipe.test is not None and test is None:
        train, test = _hold_out(train, data, recipe.test, (recipe.seed, _TEST))
    if isinstance(recipe.validation, str):
        if recipe.validation not in data.parts:
            raise Problem("dataset_invalid", f"{data.name} has no {recipe.validation} part.")
        return Split(train, samples(recipe.validation), test)
    rest, validation = _hold_out(train, data, recipe.validation, recipe.seed)
    return Split(rest, validation, test)


def _hold_out(
    samples: Samples, data: DataSet, fraction: float, seed: int | tuple[int, int]
) -> tuple[Samples, Samples]:
    """What stays of the samples, and a fraction of the data set's training part taken from them."""
    labels = samples.labels[samples.index].cpu().numpy()
    wanted = max(1, round(len(data.parts["train"].labels) * fraction))
    held_out = stratified(labels, wanted, seed=seed)
    if held_out.all() or not held_out.any():
        raise Problem(
            "dataset_invalid",
            f"The training part of {data.name} has too few images to hold some out.",
            hint="Add images, or change validation and test.",
        )
    mask = torch.from_numpy(held_out).to(samples.index.device)
    rest, held = _where(samples, ~mask), _where(samples, mask)
    mapped = data.parts["train"].is_mapped and isinstance(samples.pixels, torch.Tensor)
    if mapped and samples.pixels.device.type == "cpu":
        # Or each look at them would map all that lies between them.
        held = replace(held, own=samples.take(held.index))
    return rest, held


def stratified(
    labels: NDArray[np.int64], wanted: int, *, seed: int | tuple[int, int]
) -> NDArray[np.bool_]:
    """Mask (N,) of the `wanted` images held out, drawn by `seed`.

    Every class gives its share to within one image; what rounding leaves over goes to the classes
    that lost most by it. No class gives its last image.
    """
    chance = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * (wanted / len(labels))
    quota = np.minimum(np.floor(shares).astype(np.int64), counts - 1)
    order = np.lexsort((chance.random(len(classes)), -(shares - np.floor(shares))))
    while (missing := wanted - quota.sum()) > 0 and (room := counts - 1 - quota).any():
        quota[[c for c in order if room[c] > 0][:missing]] += 1
    held_out = np.zeros(len(labels), dtype=np.bool_)
    for label, count in zip(classes, quota, strict=True):
        members = np.flatnonzero(labels == label)
        held_out[chance.permutation(members)[:count]] = True
    return held_out


def _samples(
    data: DataSet, name: str, *, device: torch.device, feed: Feed | None, border: float | None
) -> Samples:
    part = data.parts[name]
    labels = torch.from_numpy(np.asarray(part.labels))
    index = torch.arange(len(labels))
    negative = _negative(part, border)
    if feed is not None:  # each batch is moved when it is there
        return Samples(feed.part(name, len(labels)), labels, index, negative=negative)
    pixels = torch.from_numpy(part.images)
    if negative is not None:
        negative = negative.to(device)
    return Samples(
        pixels.to(device), labels.to(device), index.to(device), rest=part.rest, negative=negative
    )


def _negative(part: Part, border: float | None) -> torch.Tensor | None:
    """None where no image is one: of the training part none ever is."""
    found = None if border is None else preprocess.negatives(part.borders, border)
    return None if found is None or not found.any() else torch.from_numpy(found)


def _where(samples: Samples, mask: torch.Tensor) -> Samples:
    return replace(samples, index=samples.index[mask])
