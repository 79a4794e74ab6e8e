"""How the commands on the home speak to people: what was done, what was found, how far it is.

Knows rich; knows nothing of how any of it came about.
"""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from app.admin.record import Told

_PIPED_WIDTH = 200  # where no terminal says how wide it is, no line is cut in two


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr; wide when it is no terminal."""
    screen = Console(stderr=stderr, highlight=False)
    if screen.is_terminal:
        return screen
    return Console(stderr=stderr, highlight=False, width=_PIPED_WIDTH)


def say(title: str, detail: str, *, style: str = "") -> None:
    """One line of what was done: what it is about, and what about it."""
    console().print(Text.assemble((f"{title:9}", style or "bold"), detail))


def warn(code: str, detail: str, hint: str) -> None:
    """Why nothing was done, and what to do, on stderr."""
    screen = console(stderr=True)
    screen.print(Text.assemble((f"{code}: ", "bold red"), detail))
    screen.print(Text(hint, style="dim"))


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


@contextlib.contextmanager
def progress() -> Iterator[Told]:
    """A bar on stderr while it is a terminal; it is gone afterwards."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[share]}"))
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        bar.add_task("", total=None, share="")

        def told(what: str, done: int, total: int) -> None:
            [task] = bar.tasks
            if what != task.description:  # a task that has had a total keeps it
                bar.remove_task(task.id)
                bar.add_task(what, total=total or None, share="")
            share = f"{100 * done / total:.0f} %" if total else ""
            bar.update(bar.task_ids[0], completed=done, share=share)

        yield told
