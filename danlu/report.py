"""How a checkpoint's report looks on a terminal: the command `danlu report` and its tables.

Knows the wire and rich.
"""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from danlu import ids, screen
from danlu.client import Client
from danlu.errors import DanluError
from danlu.wire import ENDED, Calibration, ClassReport, Mistake, Report

_WORST = 10  # classes, where there are more than twice as many
_MISTAKES = 5


def checkpoint(client: Client, typed: str) -> str:
    """Id of the checkpoint that a person means, or of the best of the job that is meant.

    Raises `DanluError`.
    """
    if typed.startswith("ckpt_"):
        return ids.checkpoint(client, typed)
    job = client.job(ids.job(client, typed))
    if job["best_checkpoint_id"] is None:
        detail = f"{job['id']} has no checkpoint; it is {job['state']}."
        hint = "Give another job or a checkpoint."
        if job["kind"] != "train":
            detail = f"{job['id']} trains nothing: it is a job of kind {job['kind']}."
        elif job["state"] not in ENDED:
            hint = "Wait for its end."
        raise DanluError("checkpoint_not_found", detail, hint=hint)
    return job["best_checkpoint_id"]


def shown(report: Report) -> Group:
    """The figures, the classes (of many the worst), and the surest mistakes."""
    parts: list[Text | Table] = [_summary(report), _classes(report["classes"])]
    if report["calibration"] is not None:
        parts.insert(1, _calibration(report["calibration"]))
    if report["mistakes"]:
        parts.append(_mistakes(report["mistakes"][:_MISTAKES]))
    return Group(*parts)


def _summary(report: Report) -> Text:
    words = [f"accuracy {report['accuracy']:.4f}"]
    if report["top5_accuracy"] is not None:
        words.append(f"top 5 {report['top5_accuracy']:.4f}")
    words.append(f"F1 {screen.figure(report['averages']['f1'], digits=4)}")
    return Text.assemble(
        (report["checkpoint_id"], "bold"),
        f"  {'  '.join(words)}",
        (f"  on {report['count']:,} {report['judged_on']} images", "dim"),
    )


def _calibration(found: Calibration) -> Text:
    return Text(
        f"calibration error {found['ece_before']:.4f}, {found['ece_after']:.4f} with the "
        f"temperature {found['temperature']:.3f}",
        style="dim",
    )


def _classes(classes: Sequence[ClassReport]) -> Table:
    rows = list(classes)
    if len(rows) > 2 * _WORST:
        rows = sorted(rows, key=lambda one: one["f1"] or 0.0)[:_WORST]
    title = "class" if len(rows) == len(classes) else f"the worst of {len(classes)} classes"
    table = screen.new_table(title, ">precision", ">recall", ">F1", ">images")
    for one in rows:
        figures = (screen.figure(one["precision"]), screen.figure(one["recall"]))
        table.add_row(Text(one["label"]), *figures, screen.figure(one["f1"]), f"{one['support']:,}")
    return table


def _mistakes(mistakes: Sequence[Mistake]) -> Table:
    table = screen.new_table("surest mistakes", "is", "taken for", ">probability")
    for one in mistakes:
        image = f"{one['part']} {one['index']}"
        sure = screen.figure(one["probability"])
        table.add_row(image, Text(one["label"]), Text(one["predicted"]), sure)
    return table
