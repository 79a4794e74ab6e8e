"""Folders and archives on their way to the server, shown: compared, sent, imported.

Knows the client and rich; nothing of what is trained afterwards.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from danlu import command, findings, screen
from danlu.client import Client
from danlu.errors import DanluError
from danlu.package import Package
from danlu.programs import DETACHED, FAILED
from danlu.wire import DataSet, Job

AS_NAME = "Give yours another name with --as NAME"


def send(
    client: Client,
    package: Package,
    *,
    replace: bool = False,
    merge: bool = False,
    quiet: bool = False,
    rename: str = AS_NAME,
) -> Job | None:
    """Makes a data set of the package and returns the import, once it has succeeded; None when the
    server has just this already. Exits when the import fails, and at Ctrl-C.

    Raises `DanluError`, also for a name that other content has or that cannot be one; `rename` says
    how another is given.
    """
    console = Console(quiet=True) if quiet else screen.console()
    there = existing(client, package.name)
    if there is not None and _is_same(package, there, console):
        said = f"{package.name} is on the server already, unchanged: nothing was sent."
        console.print(Text(said))
        return None
    if there is not None and not (replace or merge):
        raise _taken(package, there, rename)
    if there is not None and replace:
        said = f"{package.name} has other content on the server: its images take the place of that."
        console.print(Text(said))
    try:
        job = _upload(client, package, console, replace=replace, merge=merge)
    except DanluError as error:
        if any(list(wrong["loc"])[-1:] == ["name"] for wrong in error.errors):
            error.hint = f"{error.hint or ''} {rename}.".strip()
        raise
    ended = command.ended(client, job["id"], quiet=quiet)
    if ended["state"] != "succeeded":
        raise typer.Exit(FAILED)
    told = {warning["code"] for warning in ended["warnings"]}
    console.print(findings.in_short(client.dataset(package.name), told=told))
    return ended


def existing(client: Client, name: str) -> DataSet | None:
    """The data set of the server that has this name, if any. Raises `DanluError`."""
    if "/" in name:  # no address of ours would have it
        detail = f"A data set cannot be called {name!r}: it has a slash."
        raise DanluError("invalid_request", detail, hint="Any other name will do: pets, my photos.")
    try:
        return client.dataset(name)
    except DanluError as error:
        # A folder that cannot be used holds nothing that could be replaced: the server may refuse.
        if error.code in ("dataset_unknown", "dataset_invalid"):
            return None
        raise


def _taken(package: Package, there: DataSet, rename: str) -> DanluError:
    """The name belongs to other content, and nobody said what is to become of that."""
    name, path = shlex.quote(package.name), shlex.quote(str(package.path))
    if there["origin"] == "built_in":
        detail = f"{package.name!r} is the name of a built-in data set."
        return DanluError("name_taken", detail, hint=f"{rename}.")
    return DanluError(
        "name_taken",
        f"The server has a data set {package.name!r} with other content.",
        hint=f"{rename}. Or say what becomes of the other: "
        f"danlu datasets add {name} {path} --replace, or --merge.",
    )


def _is_same(package: Package, there: DataSet, console: Console) -> bool:
    known = there.get("archive_sha256")
    if known is None:
        return False
    with _bar(console, f"comparing {package.name}", package.size) as advance:
        return package.sha256(advance) == known


def _upload(
    client: Client, package: Package, console: Console, *, replace: bool, merge: bool
) -> Job:
    images = f"{len(package.members):,} images, " if package.members else ""
    console.print(Text(f"sending {package.name}: {images}{screen.size(package.size)}"))
    if package.rest:
        files = "1 other file stays" if package.rest == 1 else f"{package.rest:,} other files stay"
        console.print(Text(f"  {files} here", style="dim"))
    try:
        with _bar(console, "sending", package.size) as advance:
            return client.add_dataset(package, replace=replace, merge=merge, progress=advance)
    except KeyboardInterrupt:
        typer.echo("\nThe server keeps nothing of what was sent.", err=True)
        raise typer.Exit(DETACHED) from None


@contextmanager
def _bar(console: Console, what: str, size: int) -> Iterator[Callable[[int], None]]:
    with Progress(
        TextColumn(what),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=size)
        yield lambda more: progress.advance(task, more)
