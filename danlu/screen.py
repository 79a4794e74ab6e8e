"""How figures, ids, states and times look on a terminal, and the tables made of them.

Knows the wire's types and rich; asks no server anything.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from danlu import ids
from danlu.errors import DanluError
from danlu.wire import Checkpoint, DataSet, Job, JobCheckpoint, Model, Notice, Plan, Prediction

STATE_STYLES = {
    "queued": "cyan",
    "starting": "cyan",
    "running": "blue",
    "cancelling": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
}
PIPED_WIDTH = 200  # where no terminal says how wide it is, no column is cut short
GUESSES = 3
"""Of a prediction, where nobody says how many."""


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr; without colours and wide when it is no terminal."""
    screen = Console(stderr=stderr, highlight=False)
    return (
        screen if screen.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)
    )


def take_any_terminal() -> None:
    """A sign that the encoding of stdout lacks becomes a question mark, and ends no command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def show_json(value: Any) -> None:
    """Print one JSON document, as the server sent it."""
    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=escaped) + "\n")
    sys.stdout.flush()


def compact(value: Any) -> str:
    """JSON in one line, to be read by people."""
    return json.dumps(value, ensure_ascii=False)


def show_error(error: DanluError) -> None:
    """Print what went wrong, where, and what to do, to stderr."""
    screen = console(stderr=True)
    screen.print(Text.assemble((f"{error.code}: ", "bold red"), error.detail))
    for wrong in error.errors:
        where = ".".join(map(str, wrong["loc"][1:]))  # without body, query or path
        line = f"{where}: {wrong['msg']}" if where else wrong["msg"]
        if error.detail not in (line, wrong["msg"]):
            screen.print(Text(f"  {line}"))
    # The general hint of the code: they are above.
    if error.hint and error.hint != "See errors for each wrong field.":
        screen.print(Text(error.hint, style="dim"))


def show_notice(screen: Console, notice: Notice, *, style: str) -> None:
    """Print an error or warning that a job carries."""
    screen.print(Text.assemble((f"{notice['code']}: ", style), notice["message"]))
    if notice.get("hint"):
        screen.print(Text(f"  {notice['hint']}", style="dim"))


def figure(value: float | None, *, digits: int = 3) -> str:
    """A loss, accuracy or probability; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def size(count: int) -> str:
    """Bytes as people say them."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def age(moment: str, *, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 moment was, in its largest unit."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def state(job: Job) -> Text:
    """The state of a job in its colour."""
    return Text(job["state"], style=STATE_STYLES.get(job["state"], ""))


def network(job: Job) -> str | None:
    """A job's network by name, `own` for a list of layers; of a job that trains none, its kind."""
    if job["kind"] != "train":
        return job["kind"]
    architecture = (job["recipe"] or {}).get("architecture")
    return "own" if isinstance(architecture, dict) else architecture


def jobs(items: Sequence[Job], *, full_ids: bool) -> Table:
    """Jobs, one row each."""
    table = new_table(
        "job", "state", "data set", "network", ">epoch", ">val accuracy", "owner", "made"
    )
    shown = _ids((job["id"] for job in items), full=full_ids)
    for job in items:
        progress, metrics = job["progress"], job["metrics"]
        table.add_row(
            shown[job["id"]],
            state(job),
            Text(job["dataset"]["name"] or "–"),
            Text(network(job) or "–"),
            f"{progress['epoch']}/{progress['epochs']}" if progress["epochs"] else "–",
            figure(metrics["best_val_accuracy"]),
            Text(job["owner"]),
            age(job["created_at"]),
        )
    return table


def checkpoints(items: Sequence[Checkpoint], *, full_ids: bool) -> Table:
    """Checkpoints of any jobs, one row each."""
    table = new_table("checkpoint", "job", ">epoch", ">val accuracy", "", ">size", "made")
    shown = _ids((item["id"] for item in items), full=full_ids)
    jobs = (item["job_id"] for item in items if item["job_id"] is not None)
    trained_by = _ids(jobs, full=full_ids)
    for item in items:
        table.add_row(
            shown[item["id"]],
            trained_by[item["job_id"]] if item["job_id"] else "imported",
            str(item["epoch"]) if item["job_id"] else "–",
            figure(item["val_accuracy"]),
            Text("best" if item["best"] else "", style="green"),
            size(item["disk_bytes"]),
            age(item["created_at"]),
        )
    return table


def job_checkpoints(items: Sequence[JobCheckpoint]) -> Table:
    """The checkpoints of one job, with whole ids: they are there to be copied."""
    table = new_table("checkpoint", ">epoch", ">val accuracy", "")
    for item in items:
        best = Text("best" if item["best"] else "", style="green")
        table.add_row(item["id"], str(item["epoch"]), figure(item["val_accuracy"]), best)
    return table


def models(items: Sequence[Model], *, full_ids: bool) -> Table:
    """Aliases, one row each."""
    table = new_table("alias", "checkpoint", "job", ">val accuracy", "input", "", "since", "by")
    shown = _ids((item["checkpoint_id"] for item in items), full=full_ids)
    jobs = (item["job_id"] for item in items if item["job_id"] is not None)
    trained_by = _ids(jobs, full=full_ids)
    for item in items:
        table.add_row(
            item["alias"],
            shown[item["checkpoint_id"]],
            trained_by[item["job_id"]] if item["job_id"] else "imported",
            figure(item["accuracy"]),
            item["input"] or Text("damaged", style="red"),
            Text("warm" if item["warm"] else "", style="green"),
            age(item["updated_at"]),
            Text(item["updated_by"]),
        )
    return table


def pointings(model: Model) -> Table:
    """What an alias was pointed at, newest first, with whole ids: they are there to be copied."""
    table = new_table("checkpoint", "job", "since", "by", "")
    for place, one in enumerate(model["history"]):
        now = Text("now" if place == 0 else "", style="green")
        since, by = age(one["updated_at"]), Text(one["updated_by"])
        table.add_row(one["checkpoint_id"], one["job_id"] or "imported", since, by, now)
    return table


def datasets(items: Sequence[DataSet]) -> Table:
    """Data sets, one row each."""
    table = new_table("data set", "from", ">classes", ">train", ">val", ">test", ">size", "on disk")
    for item in items:
        counts = [item["counts"].get(part) for part in ("train", "val", "test")]
        colour = "grey" if item["channels"] == 1 else "colour"
        table.add_row(
            Text(item["name"]),
            item["origin"].replace("_", " "),
            f"{len(item['classes']):,}",
            *("–" if count is None else f"{count:,}" for count in counts),
            f"{item['width']}×{item['height']} {colour}",
            "yes" if item["available"] else Text("to be downloaded", style="dim"),
        )
    return table


def plan(plan: Plan) -> Group:
    """The layers of a planned network with the shapes that leave them, and what they cost."""
    table = new_table(">", "layer", "type", "output", ">parameters")
    for layer in plan["layers"]:
        shape = "×".join(str(side) for side in layer["output_shape"])
        parameters = f"{layer['parameters']:,}"
        table.add_row(str(layer["index"]), layer["name"], layer["type"], shape, parameters)
    cost = (
        f"{plan['parameters']:,} parameters, {plan['flops']:,} FLOPs an image, "
        f"{plan['steps']:,} steps"
    )
    return Group(table, Text(cost, style="dim"))


def predictions(items: Sequence[Prediction], *, guesses: int = GUESSES) -> Table:
    """Predictions, one row for each file: label, probability, runners-up or what was wrong.
    `guesses`: so many at most, with the label.
    """
    table = new_table("file", "label", ">probability", "then", "")
    for item in items:
        name = Text(Path(item.get("filename") or "–").name)
        if "error" in item:
            wrong = item["error"]
            table.add_row(name, Text(wrong["code"], style="red"), "", Text(wrong["message"]), "")
            continue
        top = item["top"][1:guesses]
        others = ", ".join(f"{guess['label']} {figure(guess['probability'])}" for guess in top)
        label = Text(item["label"], style="dim" if item["unknown"] else "bold")
        if item["unknown"]:
            label.append(" (unsure)")
        notes = Text(", ".join(item["warnings"]), style="yellow")
        table.add_row(name, label, figure(item["probability"]), Text(others), notes)
    return table


def new_table(*titles: str) -> Table:
    """An empty table; a title that begins with `>` stands over figures. Ids and states stay in one
    piece where the terminal is narrow: ids are there to be copied.
    """
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(
            title.removeprefix(">"),
            justify="right" if title.startswith(">") else "left",
            overflow="fold",
            no_wrap=title in ("job", "checkpoint", "state"),
        )
    return table


def _ids(whole: Iterable[str], *, full: bool) -> dict[str, str]:
    return {one: one for one in whole} if full else ids.shorten(whole)
