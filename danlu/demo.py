"""`danlu demo`: a server, a worker and a model trained on real handwritten digits, in one command.

Knows only how the halves are started and what HTTP offers, as any other client does.
"""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from danlu import draw, environment, pages, screen
from danlu.client import Client
from danlu.errors import NO_SERVER, DanluError
from danlu.follow import follow
from danlu.serve import COMMANDS, Halves, listen, stop_signals, url
from danlu.wire import DataSetImage, Job, Prediction

RECIPE = {"dataset": "digits"}
IMAGES = 20
WANTED = 18  # right answers; fewer mean that something is wrong with danlu
START_SECONDS = 120.0  # a first start compiles torch's bytecode
GRACE = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo did: the job as it ended, and the predictions beside what was right."""

    job: Job
    labels: Sequence[str]
    predictions: Sequence[Prediction]

    @property
    def right(self) -> int:
        """How many images were given the right label."""
        pairs = zip(self.labels, self.predictions, strict=True)
        return sum(label == prediction.get("label") for label, prediction in pairs)

    @property
    def passed(self) -> bool:
        """Whether training and predicting did what they should."""
        return self.job["state"] == "succeeded" and self.right >= WANTED

    def as_dict(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {
            "passed": self.passed,
            "right": self.right,
            "images": len(self.labels),
            "labels": list(self.labels),
            "predictions": list(self.predictions),
            "job": self.job,
        }


def demo(
    console: Console,
    *,
    keep: bool = False,
    commands: Mapping[str, Sequence[str]] = COMMANDS,
) -> Outcome:
    """Run the demo from nothing to twenty classified images; nothing of it is left at the end.

    `keep` leaves the server up until Ctrl-C. Raises `DanluError`, and KeyboardInterrupt on any
    signal that asks to stop. Call it in the main thread.
    """
    with (
        _interruptible(),
        tempfile.TemporaryDirectory(prefix="danlu-demo-", ignore_cleanup_errors=True) as folder,
        (Path(folder) / "demo.log").open("wb+") as log,
    ):
        listener = listen("127.0.0.1", 0)
        address = url(listener)
        console.print(Rule("danlu demo", style="dim"))
        console.print(f"server {address}   home {folder} (removed at the end)\n", soft_wrap=True)
        halves = Halves(
            commands,
            home=Path(folder) / "home",
            listener=listener,
            # A user's own settings, a database elsewhere above all, are none of the demo's.
            variables=environment.variables(settings=False),
            output=log,
            grace_seconds=GRACE,
        )
        with halves, Client(address, api_key="") as client:
            try:
                outcome = _run(client, halves, console)
            except DanluError:
                _show_log(Path(log.name))
                raise
            _go_on(console, outcome, address if keep else None)
            while keep and halves.ended() is None:
                time.sleep(0.2)
            return outcome


def _run(client: Client, halves: Halves, console: Console) -> Outcome:
    with console.status("starting the server and the worker"):
        _wait_ready(client, halves.ended)
    console.print(Text.assemble("1  ", ("Train a network on handwritten digits", "bold")))
    console.print(Text(f"   POST /train {screen.compact(RECIPE)}", style="dim"))
    job = client.train(RECIPE)
    job = follow(client, job["id"], console)
    if job["state"] != "succeeded":
        return Outcome(job, (), ())
    console.print(Text.assemble("\n2  ", ("Classify images that it has never seen", "bold")))
    console.print(Text(f"   POST /predict, {IMAGES} images of the test part\n", style="dim"))
    chosen = _choose(client)
    files = [client.image(image) for image in chosen]
    named = [(f"{image['index']}.png", file) for image, file in zip(chosen, files, strict=True)]
    answer = client.predict(*named, model=job["id"])
    outcome = Outcome(job, [image["label"] for image in chosen], answer["predictions"])
    captions = [_caption(*pair) for pair in zip(outcome.labels, outcome.predictions, strict=True)]
    console.print(draw.gallery(list(zip(files, captions, strict=True)), console))
    return outcome


def _wait_ready(client: Client, ended: Callable[[], str | None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            # The port is open before there is a server: nothing but time tells that none is there.
            if client.ready(timeout_seconds=1.0).get("worker") != "none":
                return
            missing = "no worker has come up"
        except DanluError as error:
            missing = error.detail
        if reason := ended():
            raise DanluError(NO_SERVER, f"The demo cannot start: {reason}.")
        if time.monotonic() > deadline:
            raise DanluError(NO_SERVER, f"The demo cannot start: {missing}")
        time.sleep(0.1)


def _choose(client: Client) -> list[DataSetImage]:
    """Test images of every class in turn, from all over the part: similar ones lie side by side."""
    by_label: dict[str, list[DataSetImage]] = {}
    images = partial(client.dataset_images, RECIPE["dataset"])
    for image in pages.every(images, split="test"):
        by_label.setdefault(image["label"], []).append(image)
    rounds = IMAGES // len(by_label)
    return [
        by_label[label][len(by_label[label]) * (2 * i + 1) // (2 * rounds)]
        for i in range(rounds)
        for label in sorted(by_label)
    ]


def _caption(label: str, prediction: Prediction) -> Text:
    if "error" in prediction:
        return Text(f"✗ {prediction['error']['code']}", style="red")
    right = prediction["label"] == label
    sure = f"{prediction['probability']:.3f}"
    if right:
        return Text.assemble(("✓ ", "green"), (prediction["label"], "bold"), (f"  {sure}", "dim"))
    wrong = (f"✗ {prediction['label']}", "bold red")
    return Text.assemble(wrong, (f" {sure}", "dim"), f" is {label}")


def _go_on(console: Console, outcome: Outcome, address: str | None) -> None:
    if outcome.labels:
        verdict = f"{outcome.right} of {len(outcome.labels)} right"
        style = "bold green" if outcome.passed else "bold red"
        console.print(Text.assemble((verdict, style), f"; {WANTED} are asked for.\n"))
    console.print(Text.assemble("3  ", ("Go on", "bold")))
    url, danlu = address or environment.DEFAULT_URL, environment.command()
    start = f"export DANLU_URL={address}" if address else f"{danlu} serve"
    lines = (
        (start, "" if address else "a server that stays"),
        (f"{danlu} train mnist --follow", "train something else"),
        (f"{danlu} predict photo.jpg", "classify an image of your own"),
        (f"{url}/docs", "every endpoint, to try in the browser"),
        (f"{url}/datasets", "what can be trained on"),
    )
    width = max(len(what) for what, _ in lines)
    for what, why in lines:
        console.print(Text.assemble(f"   {what:<{width}}   ", (why, "dim")), soft_wrap=True)
    if address:
        console.print("\nThe server stays up until you press Ctrl-C.")


def _show_log(log: Path) -> None:
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    errors = screen.console(stderr=True)
    for line in tail:
        errors.print(Text(line, style="dim"))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let every signal that asks to stop unwind like Ctrl-C, so that all is cleaned up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
