"""A job shown while it runs: a live bar on a terminal, plain lines anywhere else.

Knows the client and rich; starts and ends nothing, so to stop following leaves the job alone.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from danlu import screen
from danlu.client import Client
from danlu.errors import NO_SERVER, DanluError
from danlu.wire import ENDED, Epoch, Job

PHASES = {
    "downloading": "downloading",
    "listing": "looking through the archive",
    "unpacking": "unpacking the archive",
    "checking": "checking the images",
    "saving": "writing to the disk",
    "decoding": "decoding the images",
    "training": "training",
    "evaluating": "evaluating",
}

QUEUED_SECONDS = 1.0
"""Most jobs start within a fraction of that; those that do not are worth a line."""

LATE_TRIES = 20
LATE_SECONDS = 0.5
"""How often, and how far apart, the last epochs are asked for when the server went just then."""


def follow(client: Client, job_id: str, console: Console) -> Job:
    """Show a job until it has ended, then how it ended; returns it. Raises `DanluError`."""
    told = _Told(console)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}", style="cyan"),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=1.0, figures="")
        for job in client.watch(job_id):
            told.beginning(job)
            told.phase(job)
            told.epochs(client, job_id)
            told.warnings(job)
            bar.update(task, **_bar(job))
        told.late_epochs(client, job_id)
    told.end(job)
    return job


def phase(job: Job) -> str:
    """What a job does now, in words."""
    if job["state"] == "queued":
        reason = job["waiting_for"]
        return f"queued, waiting for {reason}" if reason else "queued"
    now = job["progress"]["phase"]
    return PHASES.get(now, now) if job["state"] == "running" and now else job["state"]


def figures(job: Job) -> str:
    """Loss, accuracy, speed and remaining time of a running job, as far as they are known."""
    progress, metrics = job["progress"], job["metrics"]
    parts = []
    if metrics["train_loss"] is not None:
        parts.append(f"loss {metrics['train_loss']:.3f}")
    if metrics["train_accuracy"] is not None:
        parts.append(f"accuracy {metrics['train_accuracy']:.3f}")
    if progress["bytes"]:
        parts.append(screen.size(progress["bytes"]))
    if speed := progress.get("bytes_per_second"):  # older servers do not tell
        parts.append(f"{screen.size(round(speed))}/s")
    if progress["images_per_second"]:
        parts.append(f"{progress['images_per_second']:,.0f} images/s")
    if progress["eta_seconds"] is not None:
        parts.append(f"ETA {_clock(progress['eta_seconds'])}")
    return "  ".join(parts)


def _bar(job: Job) -> dict[str, Any]:
    progress = job["progress"]
    description = phase(job)
    if progress["phase"] == "training" and progress["epochs"]:
        # The epoch that is being trained, not how many are done.
        running = min(progress["epoch"] + 1, progress["epochs"])
        description = f"epoch {running}/{progress['epochs']}"
    return {
        "description": description,
        "completed": progress["fraction"] or 0.0,
        "figures": figures(job),
    }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class _Told:
    """What has been printed about a job already; each thing is said once."""

    console: Console
    begun: bool = False
    first_look: float = 0.0
    since: str | None = None
    behind: bool = False
    phases: set[str] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)

    def beginning(self, job: Job) -> None:
        if not self.begun:
            self.first_look = time.monotonic()
            words = [job["id"], job["dataset"]["name"], screen.network(job), f"of {job['owner']}"]
            self.console.print(Text("  ".join(str(word) for word in words if word), style="dim"))
        self.begun = True

    def phase(self, job: Job) -> None:
        now = phase(job)
        if job["state"] == "queued" and time.monotonic() - self.first_look < QUEUED_SECONDS:
            return
        # On a terminal the bar shows it, and the lines above stay those that matter. Epochs go
        # back and forth between training and evaluating: once is enough.
        if now not in self.phases and not self.console.is_terminal and job["state"] not in ENDED:
            self.console.print(Text(now))
        self.phases.add(now)

    def epochs(self, client: Client, job_id: str) -> None:
        try:
            news = client.history(job_id, since=self.since, max_points=2)
        except DanluError as error:
            if error.code != NO_SERVER:
                raise
            self.behind = True  # the next look catches up; `watch` knows how long to wait for one
            return
        self.behind = False
        self.since = news["next"] if news["next"] is not None else self.since
        for epoch in news["epochs"]:
            self.console.print(_line(epoch, room=self.console.width))

    def late_epochs(self, client: Client, job_id: str) -> None:
        """Those that nobody could be asked for any more: how the job ended is known without them,
        and told in any case.
        """
        for _ in range(LATE_TRIES):
            if not self.behind:
                return
            time.sleep(LATE_SECONDS)
            self.epochs(client, job_id)

    def warnings(self, job: Job) -> None:
        for warning in job["warnings"]:
            if warning["code"] not in self.warned:
                screen.show_notice(self.console, warning, style="yellow")
                self.warned.add(warning["code"])

    def end(self, job: Job) -> None:
        if job["checkpoints"]:
            self.console.print(screen.job_checkpoints(job["checkpoints"]))
        metrics = job["metrics"]
        summary = screen.state(job)
        for title, value in (
            ("best val accuracy", metrics["best_val_accuracy"]),
            ("test accuracy", metrics["test_accuracy"]),
        ):
            if value is not None:
                summary.append(f"  {title} ", style="dim not bold")
                summary.append(f"{value:.4f}", style="default")
        self.console.print(summary)
        if job["error"]:
            screen.show_notice(self.console, job["error"], style="bold red")


def _line(epoch: Epoch, *, room: int) -> Text:
    line = Text(f"epoch {epoch['epoch']:>3}", style="bold")
    for title, value in (
        ("loss", screen.figure(epoch["train_loss"], digits=4)),
        ("accuracy", screen.figure(epoch["train_accuracy"])),
        ("val loss", screen.figure(epoch["val_loss"], digits=4)),
        ("val accuracy", screen.figure(epoch["val_accuracy"])),
    ):
        line.append(f"  {title} ", style="dim").append(value, style="default not bold")
    speed = f"  {epoch['images_per_second'] or 0:,.0f} images/s"
    if len(line) + len(speed) <= room:
        line.append(speed, style="dim not bold")
    return line
