"""The loops of a script: what an epoch does to the network, and how it is judged."""

from models_store.script import learning
from models_store.script.code import INDENT, Lines, indented
from models_store.script.known import Known
from models_store.script.transforms import changes_batches


def arguments(known: Known) -> list[str]:
    """What `train_model` is given beside model, device, loader, loss, optimizer and epoch."""
    named = ["chance"] if changes_batches(known) else []
    if learning.mixes(known):
        named.append("mix")
    if learning.by_step(known):
        named.append("scheduler")
    if learning.warms_up(known):
        named.append("warm_up")
    if known.precision == "fp16":
        named.append("scaler")
    if known.recipe.max_seconds is not None:
        named.append("ends_at")
    return named


def train_model(known: Known, *, frozen_norm: bool) -> Lines:
    """The function of an epoch of training."""
    given = ["model", "device", "loader", "loss_fn", "optimizer", "epoch", *arguments(known)]
    return [
        f"def train_model({', '.join(given)}):",
        *indented(
            [
                '"""One pass over the training images."""',
                "model.train()  # dropout drops out, BatchNorm measures each batch",
            ]
        ),
        *(indented(_FROZEN) if frozen_norm else []),
        f"{INDENT}total_loss, right, seen = 0.0, 0, 0",
        *([f"{INDENT}together = 0"] if _divides(known) else []),
        f"{INDENT}for batch, (images, labels) in enumerate(loader, start=1):",
        *indented(_step(known), 2),
        f'{INDENT}print(f"Train Average Loss:{{total_loss / seen:.6f}}, '
        f'Accuracy:{{right / seen:.4f}}")',
    ]


_FROZEN = [
    "# What is frozen also keeps its idea of the usual brightness.",
    "for module in model.modules():",
    "    if isinstance(module, nn.BatchNorm2d):",
    "        module.eval()",
]


def _step(known: Known) -> Lines:
    recipe = known.recipe
    mean = learning.is_mean(known)
    return [
        "images = augment(images.to(device), chance)"
        if changes_batches(known)
        else "images = images.to(device, memory_format=torch.channels_last)",
        "labels = labels.to(device)",
        *_forward(known),
        *_backward(known),
        f"total_loss += loss.item(){' * len(labels)' if mean else ''}",
        "right += (outputs.argmax(1) == labels).sum().item()",
        "seen += len(labels)",
        "if batch % 100 == 0:",
        '    print(f"Train Epoch:{epoch} [{batch}/{len(loader)}] loss:{loss.item():.6f}")',
        *(_time(known) if recipe.max_seconds is not None else []),
    ]


def _time(known: Known) -> Lines:
    if known.recipe.grad_accumulation > 1:
        return ["if moves and time.monotonic() > ends_at:", "    break"]
    return ["if time.monotonic() > ends_at:", "    break"]


def _forward(known: Known) -> Lines:
    """From images to `loss`."""
    inputs, targets = ("mixed", "targets") if learning.mixes(known) else ("images", "labels")
    lines = ["mixed, targets = mix(images, labels)"] if learning.mixes(known) else []
    outputs = f"outputs = model({inputs})"
    if known.precision in ("bf16", "fp16"):
        dtype = "bfloat16" if known.precision == "bf16" else "float16"
        lines += [f"with torch.autocast(device.type, dtype=torch.{dtype}):", f"{INDENT}{outputs}"]
        lines.append("outputs = outputs.float()")
    else:
        lines.append(outputs)
    if learning.takes_shares(known) and not learning.mixes(known):
        targets = "one_hot(labels)"
    lines.append(f"loss = loss_fn(outputs, {targets})")
    if learning.may_weigh_nothing(known):
        lines += [
            f"if not {learning.counted(known)}:  # the mean of nothing is no number",
            f"{INDENT}loss = outputs.sum() * 0",
        ]
    return lines


def _divides(known: Known) -> bool:
    """Whether gradients of several batches are made the mean over what these count."""
    return known.recipe.grad_accumulation > 1 and learning.is_mean(known)


def _backward(known: Known) -> Lines:
    """Gradients, and a step of the optimizer."""
    recipe, scaled = known.recipe, known.precision == "fp16"
    loss = "scaler.scale(loss)" if scaled else "loss"
    if recipe.grad_accumulation == 1:
        zero = "optimizer.zero_grad()  # gradients would add up otherwise"
        return [zero, f"{loss}.backward()", *_move(known)]
    lines = ["# The gradients of several batches add up to those of a large one."]
    divide: Lines = []
    if _divides(known):
        loss = "scaler.scale(loss * count)" if scaled else "(loss * count)"
        lines += [
            f"count = {learning.counted(known)} / BATCH_SIZE",
            "together += count",
        ]
        divide = [
            "for parameter in model.parameters():",
            f"{INDENT}if parameter.grad is not None:",
            f"{INDENT * 2}parameter.grad /= max(together, 1e-30)",
            "together = 0",
        ]
    return [
        *lines,
        f"{loss}.backward()",
        "moves = batch % ACCUMULATION == 0 or batch == len(loader)",
        "if moves:",
        *indented([*divide, *_move(known), "optimizer.zero_grad()"]),
    ]


def _move(known: Known) -> Lines:
    scaled, lines = known.precision == "fp16", []
    if known.recipe.clip_grad_norm is not None:
        lines += ["scaler.unscale_(optimizer)"] if scaled else []
        lines.append("nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD_NORM)")
    lines += ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"]
    if learning.warms_up(known):
        if learning.by_step(known):
            return [*lines, "if warm_up.step():", f"{INDENT}scheduler.step()"]
        return [*lines, "warm_up.step()"]
    return [*lines, *(["scheduler.step()"] if learning.by_step(known) else [])]


def test_model(known: Known) -> Lines:
    """The function that judges: mean loss and accuracy of all images of a loader."""
    lines = [
        "@torch.no_grad()",
        "def test_model(model, device, loader, loss_fn, name):",
        f'{INDENT}"""Mean loss, and the share of images that are classified right."""',
        f"{INDENT}model.eval()  # as in prediction: nothing is dropped, nothing measured",
        f"{INDENT}pairs = [(model(images.to(device)), labels.to(device)) "
        "for images, labels in loader]",
        f"{INDENT}outputs, labels = map(torch.cat, zip(*pairs, strict=True))",
    ]
    if (label := learning.ignored(known)) is not None:
        lines += indented(
            [f"counted = labels != {label}", "outputs, labels = outputs[counted], labels[counted]"]
        )
    targets = "one_hot(labels)" if learning.takes_shares(known) else "labels"
    divided = "" if learning.is_mean(known) else " / len(labels)"
    return [
        *lines,
        f"{INDENT}loss = loss_fn(outputs, {targets}).item(){divided}",
        f"{INDENT}accuracy = (outputs.argmax(1) == labels).float().mean().item()",
        f'{INDENT}print(f"{{name}} Average Loss:{{loss:.6f}}, Accuracy:{{accuracy:.4f}}")',
        f"{INDENT}return loss, accuracy",
    ]
