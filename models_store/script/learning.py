"""How a script learns: loss, optimizer, schedule, and what one epoch does."""

import math
from collections.abc import Mapping
from typing import Any

from models_store import architectures, heads
from models_store.architectures import Plan
from models_store.arguments import LOSSES, OPTIMIZERS, SCHEDULERS
from models_store.losses import NO_LABEL
from models_store.misfits import mixing, moves
from models_store.script import network
from models_store.script.code import Call, Lines, Raw, call, differing, statement
from models_store.script.known import Known

_OURS = frozenset({"name", "interval", "warmup_epochs", "metric"})

_MUON_AND_ADAMW = '''\
class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the weights of two dimensions and AdamW for all others, as one optimizer."""

    def __init__(self, muon, adamw):
        self.both = muon, adamw
        super().__init__([*muon.param_groups, *adamw.param_groups], muon.defaults)

    def step(self):
        for one in self.both:
            one.step()
'''

_WARM_UP = '''\
class WarmUp:
    """Raises the learning rate in a line to where the scheduler begins, which waits meanwhile."""

    def __init__(self, optimizer, steps):
        self.groups, self.steps, self.done = optimizer.param_groups, steps, 0
        self.rates = [group["lr"] for group in self.groups]
        self.set_rates()

    def set_rates(self):
        for group, rate in zip(self.groups, self.rates, strict=True):
            group["lr"] = rate * (self.done + 1) / (self.steps + 1)

    def step(self):
        """Called after each step of the optimizer; true once the scheduler may move."""
        self.done += 1
        if self.done <= self.steps:
            self.set_rates()
        return self.is_over()

    def is_over(self):
        return self.done > self.steps
'''


def definitions(known: Known, plan: Plan) -> list[Lines]:
    """Classes that optimizer and schedule need, one block of lines each."""
    blocks = [_MUON_AND_ADAMW] if _is_pair(known, plan) else []
    blocks += [_WARM_UP] if warms_up(known) else []
    return [block.splitlines() for block in blocks]


def warms_up(known: Known) -> bool:
    """Whether the rate rises before the scheduler begins."""
    scheduler = known.recipe.scheduler
    return scheduler is not None and bool(scheduler.get("warmup_epochs"))


def by_step(known: Known) -> bool:
    """Whether the scheduler moves after each step of the optimizer."""
    scheduler = known.recipe.scheduler
    return scheduler is not None and scheduler.get("interval", "step") == "step"


def takes_shares(known: Known) -> bool:
    """Whether the loss compares outputs with a share of each class, not with a label."""
    return str(known.recipe.loss["name"]) != "CrossEntropyLoss"


def is_mean(known: Known) -> bool:
    """Whether the loss of a batch is the mean over its images."""
    return bool(known.recipe.loss.get("reduction", "mean") == "mean")


def counted(known: Known) -> str:
    """What the loss of a batch is the mean over: its images, or the sum of what they weigh."""
    weights, label = _weights(known), ignored(known)
    if mixes(known) or (weights is None and label is None):
        return "len(labels)"
    factors = [
        *([] if weights is None else ["loss_fn.weight[labels]"]),
        *([] if label is None else [f"(labels != {label})"]),
    ]
    return f"{factors[0]}.sum()" if len(factors) == 1 else f"({' * '.join(factors)}).sum()"


def may_weigh_nothing(known: Known) -> bool:
    """Whether all images of a batch may be of classes without any weight."""
    weights = _weights(known)
    return is_mean(known) and not mixes(known) and isinstance(weights, list) and not all(weights)


def _weights(known: Known) -> Any:
    """Of the classes: numbers, `balanced`, or None."""
    return known.recipe.class_weights or known.recipe.loss.get("weight")


def loss(known: Known) -> Lines:
    """Statements for `loss_fn`."""
    chosen, weights = known.recipe.loss, _weights(known)
    lines: Lines = []
    said = differing(
        {key: value for key, value in chosen.items() if key not in ("name", "weight")},
        _defaults(LOSSES[chosen["name"]]),
    )
    if weights == "balanced":
        lines += [
            "# Rare classes count more, so that all of them together count the same.",
            "counts = np.bincount(labels, minlength=NUM_CLASSES).clip(min=1)",
            "weight = torch.tensor(len(labels) / (NUM_CLASSES * counts), dtype=torch.float32)",
        ]
        said = {"weight": Raw("weight.to(device)"), **said}
    elif weights is not None:
        lines += statement("weight = ", call("torch.tensor", list(map(float, weights))))
        said = {"weight": Raw("weight.to(device)"), **said}
    return [*lines, *statement("loss_fn = ", call(f"nn.{chosen['name']}", **said))]


def optimizer(known: Known, plan: Plan) -> Lines:
    """Statements for `optimizer`."""
    chosen = dict(known.recipe.optimizer)
    name, device = chosen.pop("name"), known.recipe.device
    adamw = chosen.pop("adamw", None)
    lines, groups = _groups(known, plan)
    if name != "Muon":
        return [*lines, *statement("optimizer = ", _optimizer(name, chosen, groups(None), device))]
    muon = _optimizer("Muon", chosen, groups("== 2"), device)
    if not _is_pair(known, plan):
        return [*lines, *statement("optimizer = ", muon)]
    ratio = adamw["lr"] / chosen["lr"] if chosen["lr"] else 1.0
    rest = _optimizer("AdamW", adamw, groups("!= 2", ratio), device)
    return [*lines, *statement("optimizer = ", call("MuonAndAdamW", muon, rest))]


def _optimizer(name: str, given: Mapping[str, Any], parameters: Any, device: str) -> Call:
    said = differing(given, _defaults(OPTIMIZERS[name]), always=["lr"])
    on_its_own = "fused" in given and given["fused"] is None and given["foreach"] is None
    if on_its_own and device != "mps":
        said["fused"] = True  # as in the job: another order of operations gives other last bits
    return call(f"torch.optim.{name}", parameters, **said)


def _is_pair(known: Known, plan: Plan) -> bool:
    """Whether Muon leaves something to AdamW."""
    if known.recipe.optimizer["name"] != "Muon":
        return False
    sizes = dict(architectures.outline(plan).named_parameters())
    if known.recipe.freeze_backbone:
        head = heads.of(plan.architecture, architectures.outline(plan))
        sizes = {key: sizes[key] for key in head}
    return any(one.ndim != 2 for one in sizes.values())


def _groups(known: Known, plan: Plan) -> tuple[Lines, Any]:
    """Statements that name the parameters, and what an optimizer is given of those whose `ndim`
    fits; with a rate of its own for the last layer.
    """
    recipe = known.recipe
    if not recipe.freeze_backbone and recipe.head_lr is None:
        learnt = "model.parameters()"
        if architectures.is_whitened(plan):
            learnt = "[p for p in model.parameters() if p.requires_grad]"
        return [], lambda ndim, _=1.0: _those(learnt, ndim)
    place = network.head(plan)[0]
    if recipe.freeze_backbone:

        def frozen(ndim: str | None, ratio: float = 1.0) -> Any:
            those = _those(f"{place}.parameters()", ndim)
            if recipe.head_lr is None:
                return those
            return [{"params": those, "lr": recipe.head_lr * ratio}]

        return [], frozen
    lines = [
        f"head = list({place}.parameters())",
        "backbone = [one for one in model.parameters() if all(one is not two for two in head)]",
    ]

    def both(ndim: str | None, ratio: float = 1.0) -> Any:
        assert recipe.head_lr is not None
        rate = {"lr": recipe.head_lr * ratio}
        return [{"params": _those("backbone", ndim)}, {"params": _those("head", ndim), **rate}]

    return lines, both


def _those(parameters: str, ndim: str | None) -> Raw:
    return Raw(parameters if ndim is None else f"[p for p in {parameters} if p.ndim {ndim}]")


def schedule(known: Known) -> Lines:
    """Statements for `scheduler`, and for `warm_up` where there is one; none without the first."""
    chosen = known.recipe.scheduler
    if chosen is None:
        return []
    updates = "len(train_loader)"
    if known.recipe.grad_accumulation > 1:
        updates = "math.ceil(len(train_loader) / ACCUMULATION)"
    lines: Lines = []
    if warms_up(known):
        lines.append(f"warm_up_steps = round({chosen['warmup_epochs']} * {updates})")
    said = _scheduler(known, updates)
    made = call(f"torch.optim.lr_scheduler.{chosen['name']}", Raw("optimizer"), **said)
    lines += statement("scheduler = ", made)
    if warms_up(known):
        lines.append("warm_up = WarmUp(optimizer, warm_up_steps)")
    return lines


def _scheduler(known: Known, updates: str) -> dict[str, Any]:
    chosen = dict(known.recipe.scheduler or {})
    said = differing(
        {key: value for key, value in chosen.items() if key not in _OURS},
        _defaults(SCHEDULERS[chosen["name"]]),
    )
    if chosen["name"] == "MultiStepLR":
        said["milestones"] = list(said["milestones"])
    if chosen["name"] == "CosineAnnealingLR" and chosen["T_max"] is None:
        said = {"T_max": _length(known, updates), **said}
    if chosen["name"] == "OneCycleLR":
        said["max_lr"] = _peak(known)
        said["total_steps"] = _length(known, updates)
        if _divides_by_zero(known):
            said["pct_start"] = chosen["pct_start"] + 1e-6
    return said


def _length(known: Known, updates: str) -> Raw:
    """How often the scheduler moves in the whole run."""
    warm = warms_up(known)
    if by_step(known):
        return Raw(f"EPOCHS * {updates}" + (" - warm_up_steps" if warm else ""))
    return Raw(f"EPOCHS - warm_up_steps // {updates}" if warm else "EPOCHS")


def _peak(known: Known) -> Any:
    """For every group of parameters: one with another rate peaks as many times higher."""
    peak = (known.recipe.scheduler or {})["max_lr"]
    lr, alike = known.recipe.optimizer["lr"], known.recipe.head_lr is None
    if not lr or (alike and known.recipe.optimizer["name"] != "Muon"):
        return peak
    return Raw(f'[{peak} * group["lr"] / {lr} for group in optimizer.param_groups]')


def _divides_by_zero(known: Known) -> bool:
    """A rise of exactly one step makes PyTorch divide by its length less one."""
    chosen = known.recipe.scheduler or {}
    steps = moves(known.recipe, known.trained)
    rise = chosen["pct_start"] * steps
    ends = [rise - 1, *([2 * rise - 2] if chosen.get("three_phase") else [])]
    return any(math.isclose(end, at) for end in ends for at in (0, steps - 1))


def _defaults(model: Any) -> dict[str, Any]:
    """PyTorch's; what must be said has none."""
    return {
        key: field.get_default(call_default_factory=True)
        for key, field in model.model_fields.items()
        if not field.is_required()
    }


def ignored(known: Known) -> int | None:
    """The label whose images do not count."""
    label = known.recipe.loss.get("ignore_index", NO_LABEL)
    return None if label == NO_LABEL else int(label)


def mixes(known: Known) -> bool:
    """Whether the images of a batch are mixed."""
    return mixing(known.recipe) is not None
