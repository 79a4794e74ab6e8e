"""Three rules that look over the shoulder of a training, each with a recipe to try next.

Pure functions of what was measured: they know neither torch nor rows. Docs: docs/guide/watching.md.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models_store.fields import Recipe, SubmittedRecipe

DIVERGED = "loss_diverged"
NOTHING_LEARNED = "nothing_learned"
OVERFITTING = "overfitting"
CODES = (DIVERGED, NOTHING_LEARNED, OVERFITTING)

# Epochs that the rules look back on: enough for any of them, and few for a run of 100,000.
WINDOW = 200

# Worse than a guess, or than the untrained network, by these factors is no noise; a high rate may
# cost much in the first epoch and still do well.
_DIVERGED_BEYOND, _DIVERGED_AT_FIRST = 2.0, 5.0
# For so many steps without an epoch between that was better: where the rate of a schedule is
# highest, a few bad batches are half of an epoch of few images, and the end is well all the same.
_DIVERGED_STEPS = 50
# Fewer validation images than this overfit and err as chance has it, and more of them, not another
# recipe, would help.
_FEW = 50
# Before it is said that nothing was learned: so much of the run, but this many steps at least and
# at most. Slow schedules have come to speed by then, and a net of sigmoids, which sits at a guess
# for a while, has left it (lenet5 on digits: after 250 steps). At the end of a run 50 are enough.
_PATIENCE_SHARE, _PATIENCE_LEAST, _PATIENCE_MOST, _AT_THE_END = 1 / 3, 300, 5000, 50
# A validation loss below this share of a guess's shows that something was learned.
_LEARNED_BELOW = 0.95
# Overfitting: the validation loss has risen by this factor since its best, which lies at least
# so many epochs back, while the training loss fell to a half; and the accuracies lie so far apart.
_RISEN, _EPOCHS_SINCE, _HALVED, _GAP = 1.25, 5, 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """What an epoch measured; None: not finite."""

    epoch: int
    step: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned: the share of each class among the training images that count, and for how
    long.
    """

    shares: Sequence[float]
    validation_count: int
    steps: int
    epochs: int
    cross_entropy: bool = True  # another loss has another scale
    first_loss: float | None = None  # of the untrained network
    weighed: Sequence[float] = ()  # the shares as the loss weighs them, where it does

    @property
    def few(self) -> bool:
        """Whether the validation images are so few that chance decides how they fare."""
        return self.validation_count < _FEW

    @property
    def guess_accuracy(self) -> float:
        """Of always naming the most frequent class."""
        return max(self.shares)

    @property
    def guess_loss(self) -> float | None:
        """Cross-entropy of answering with the shares themselves; None for other losses."""
        if not self.cross_entropy:
            return None
        shares = self.weighed or self.shares
        return -sum(share * math.log(share) for share in shares if share > 0)


@dataclass(frozen=True, slots=True)
class Advice:
    """What is wrong, and a body for `POST /train` that should do better."""

    code: str
    message: str
    recipe: dict[str, Any]


@dataclass(slots=True)
class Coach:
    """Listens to one job. It speaks once, and once more if the loss is lost after that; `said` is
    what it has said already.
    """

    recipe: Recipe
    lesson: Lesson
    said: set[str]
    rows: Sequence[Row] = ()

    def tick(self, train_loss: float) -> Advice | None:
        """A look in the middle of an epoch; the first one is at the untrained network."""
        if not math.isfinite(train_loss):
            return None if DIVERGED in self.said else self._speak(DIVERGED)
        if self.lesson.first_loss is None:
            self.lesson = replace(self.lesson, first_loss=train_loss)
        return None

    def epoch(self, row: Row) -> list[Advice]:
        """A finished epoch."""
        self.rows = [*self.rows, row][-WINDOW:]
        for code, rule in RULES.items():
            if self._may_say(code) and rule(self.rows, self.lesson):
                return [self._speak(code)]
        return []

    def _may_say(self, code: str) -> bool:
        # One trouble at a time: what has diverged has also learned nothing, and what is learned by
        # heart is mostly not learned at all.
        return not self.said or (code == DIVERGED and DIVERGED not in self.said)

    def _speak(self, code: str) -> Advice:
        self.said.add(code)
        given = self.recipe.model_dump(mode="json")
        better = {**given, **BETTER[code](self.recipe, self.rows)}
        message = f"{_MESSAGES[code]} Try next: {' '.join(_changes(given, better))}."
        return Advice(code, message, better)


def diverged(rows: Sequence[Row], lesson: Lesson) -> bool:
    """The loss is no number any more, or stays far worse than a guess's."""
    last = rows[-1]
    if last.train_loss is None or last.val_loss is None:
        return True
    start = max(lesson.guess_loss or 0.0, lesson.first_loss or 0.0)
    epochs = math.ceil(_DIVERGED_STEPS * lesson.epochs / lesson.steps)
    if last.epoch < min(epochs, lesson.epochs):
        return False
    return all(_is_far_worse(row, start) for row in rows[-epochs:])


def _is_far_worse(row: Row, start: float) -> bool:
    factor = _DIVERGED_AT_FIRST if row.epoch == 1 else _DIVERGED_BEYOND
    return row.train_loss is None or row.train_loss > factor * start > 0


def nothing_learned(rows: Sequence[Row], lesson: Lesson) -> bool:
    """After enough steps the validation images are told apart no better than by a guess."""
    last = rows[-1]
    patience = min(max(_PATIENCE_LEAST, _PATIENCE_SHARE * lesson.steps), _PATIENCE_MOST)
    at_the_end = last.epoch >= lesson.epochs and last.step >= _AT_THE_END
    if (last.step < patience and not at_the_end) or last.val_accuracy is None:
        return False
    guess, guess_loss = lesson.guess_accuracy, lesson.guess_loss
    if lesson.few and _learns(rows, guess_loss):
        return False
    noise = 2 * math.sqrt(guess * (1 - guess) / lesson.validation_count)
    best_loss = min((row.val_loss for row in rows if row.val_loss is not None), default=math.inf)
    accuracy = max(row.val_accuracy or 0.0 for row in rows)
    flat = guess_loss is None or best_loss > _LEARNED_BELOW * guess_loss
    return flat and accuracy <= guess + max(0.02, noise)


def _learns(rows: Sequence[Row], guess_loss: float | None) -> bool:
    """Whether the training images are told apart; with another loss nobody can say."""
    losses = (row.train_loss for row in rows if row.train_loss is not None)
    return guess_loss is None or min(losses, default=math.inf) < _LEARNED_BELOW * guess_loss


def overfitting(rows: Sequence[Row], lesson: Lesson) -> bool:
    """The training images are learned by heart while the validation images fare worse."""
    if lesson.few:
        return False
    known = [row for row in rows if row.val_loss is not None and row.train_loss is not None]
    if len(known) < _EPOCHS_SINCE:
        return False
    best = min(known, key=lambda row: row.val_loss or 0.0)
    recent = known[-_EPOCHS_SINCE:]
    if best.epoch > recent[0].epoch - 1:
        return False
    val_loss = sum(row.val_loss or 0.0 for row in recent) / len(recent)
    gap = sum((r.train_accuracy or 0.0) - (r.val_accuracy or 0.0) for r in recent) / len(recent)
    before = max(row.val_accuracy or 0.0 for row in known[: -len(recent)])
    gained = max(row.val_accuracy or 0.0 for row in recent) - before
    return (
        val_loss > _RISEN * (best.val_loss or 0.0)
        and (recent[-1].train_loss or 0.0) < _HALVED * (best.train_loss or 0.0)
        and gap > _GAP
        and gained <= 0.02
    )


RULES: Mapping[str, Callable[[Sequence[Row], Lesson], bool]] = {
    DIVERGED: diverged,
    NOTHING_LEARNED: nothing_learned,
    OVERFITTING: overfitting,
}

_MESSAGES = {
    DIVERGED: "The loss grows instead of falling: the steps are too large.",
    NOTHING_LEARNED: "The network tells the validation images apart no better than a guess would. "
    "Are the labels right?",
    OVERFITTING: "The network learns the training images by heart: they fare ever better, the "
    "validation images worse.",
}


def calmer(recipe: Recipe, _rows: Sequence[Row]) -> dict[str, Any]:
    """Smaller steps, and gradients that cannot run away."""
    optimizer, scheduler = dict(recipe.optimizer), dict(recipe.scheduler or {})
    changed: dict[str, Any] = {"optimizer": optimizer, "scheduler": scheduler or None}
    usual = _USUAL_LR.get(optimizer["name"], math.inf)
    if "adamw" in optimizer:  # Muon's other half
        optimizer["adamw"] = _slowed(optimizer["adamw"], _USUAL_LR["AdamW"])
    optimizer |= _slowed(optimizer, usual)
    scheduler |= _slowed(scheduler, usual)
    if recipe.head_lr is not None:
        changed |= _slowed({"head_lr": recipe.head_lr}, usual)
    return changed | _known(clip_grad_norm=min(1.0, recipe.clip_grad_norm or math.inf))


def _slowed(arguments: Mapping[str, Any], usual: float) -> dict[str, Any]:
    """With a tenth of each rate; one that is far off comes down to a usual one at once."""
    slower = {
        rate: _rounded(min(float(arguments[rate]) / 10, usual))
        for rate in _RATES
        if rate in arguments
    }
    return {**arguments, **slower}


def livelier(recipe: Recipe, _rows: Sequence[Row]) -> dict[str, Any]:
    """The optimizer that learns almost anything, at the rate at which it mostly does."""
    rate = _USUAL_LR["Adam"]
    now = float(recipe.optimizer.get("lr", 0))
    if recipe.optimizer["name"] == "Adam" and rate / 5 < now < rate * 5:
        rate /= 10  # it was that already, so it may have been too much
    return {"optimizer": {"name": "Adam", "lr": rate}, "scheduler": None}


def freer(recipe: Recipe, rows: Sequence[Row]) -> dict[str, Any]:
    """Images that are never quite the same, smaller weights, and an end in time: not before the
    epoch that was best, since the validation loss of few images may rise at first.
    """
    transforms = recipe.transforms.model_dump(mode="json")
    if not any("Crop" in each["type"] for each in transforms["train"]):
        crop = {"type": "RandomCrop", "padding": max(1, min(recipe.size) // 8)}
        transforms["train"] = [crop, *transforms["train"]]
    optimizer = dict(recipe.optimizer)
    if "weight_decay" in optimizer:
        optimizer["weight_decay"] = _rounded(max(5e-4, 5 * float(optimizer["weight_decay"])))
    known = (row for row in rows if row.val_loss is not None)
    best = min(known, key=lambda row: row.val_loss or 0.0, default=None)
    patience = max(_EPOCHS_SINCE, best.epoch if best else 0)
    changed = {"transforms": transforms, "optimizer": optimizer}
    return changed | _known(early_stopping={"metric": "val_loss", "patience": patience})


BETTER: Mapping[str, Callable[[Recipe, Sequence[Row]], dict[str, Any]]] = {
    DIVERGED: calmer,
    NOTHING_LEARNED: livelier,
    OVERFITTING: freer,
}

_RATES = ("lr", "max_lr", "eta_min", "min_lr", "head_lr")
_USUAL_LR = {"SGD": 0.1, "Adam": 0.001, "AdamW": 0.001}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _known(**fields: Any) -> dict[str, Any]:
    """Those that a recipe has."""
    return {key: value for key, value in fields.items() if key in SubmittedRecipe.model_fields}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What differs, as `danlu train` takes it."""
    for key, value in after.items():
        old = before.get(key)
        if value == old:
            continue
        if (
            isinstance(value, dict)
            and isinstance(old, dict)
            and value.get("name") == old.get("name")
        ):
            yield from _changes(old, value, f"{where}{key}.")
        else:
            yield f"{where}{key}={json.dumps(value)}"
