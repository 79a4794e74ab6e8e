"""`danlu datasets` and its commands: what there is, what is in it, add, delete.

Each command reads its words, asks the client and shows the answer.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from danlu import command, findings, pages, screen, sending
from danlu import package as packages
from danlu.programs import AsJson

app = typer.Typer(
    name="datasets",
    help="List the data sets, or add, show and delete one.",
    invoke_without_command=True,
    add_completion=False,
)
Name = Annotated[str, typer.Argument(help="A data set.")]


@app.callback()
def datasets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets, or add, show and delete one."""
    if ctx.invoked_subcommand is None:
        page = pages.whole(command.client(ctx).datasets)
        command.show(page, screen.datasets(page["items"]), as_json=as_json)


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    what: Annotated[Path, typer.Argument(metavar="FOLDER|ARCHIVE", help="Where the images are.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add the images to those that are there.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put these in place of what is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a folder or an archive, with a folder for each class, and see what is found in it."""
    if merge and replace:
        raise typer.BadParameter("--merge and --replace exclude each other")
    client = command.client(ctx)
    package = packages.of(what, name=name)
    sending.send(
        client,
        package,
        replace=replace,
        merge=merge,
        quiet=as_json,
        rename="Give yours another NAME",
    )
    if as_json:
        screen.show_json(client.dataset(name))


@app.command()
def show(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show what is in a data set, and what its import found."""
    found = command.client(ctx).dataset(name)
    command.show(found, findings.shown(found), as_json=as_json)


@app.command()
def delete(ctx: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Delete a data set of one's own. Models that came of it stay."""
    command.client(ctx).delete_dataset(name)
    command.show({"name": name, "deleted": True}, Text(f"{name} is deleted"), as_json=as_json)
