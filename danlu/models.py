"""`danlu models` and its commands: aliases, what they point at, and pointing them elsewhere.

Each command reads its words, asks the client and shows the answer.
"""

from typing import Annotated

import typer
from rich.text import Text

from danlu import command, ids, pages, screen
from danlu.errors import DanluError
from danlu.programs import AsJson
from danlu.wire import Model

app = typer.Typer(
    name="models",
    help="List the aliases, or show, set, roll back and delete one.",
    invoke_without_command=True,
    add_completion=False,
)
Alias = Annotated[str, typer.Argument(help="An alias, such as production.")]


@app.callback()
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the aliases, or show, set, roll back and delete one."""
    if ctx.invoked_subcommand is not None:
        return
    page = pages.whole(command.client(ctx).models)
    if not page["items"] and not as_json:
        typer.echo("There are no aliases. danlu models set production last makes one.")
        return
    command.show(page, screen.models(page["items"], full_ids=command.piped()), as_json=as_json)


@app.command()
def show(ctx: typer.Context, alias: Alias, as_json: AsJson = False) -> None:
    """Show what an alias points at, and what it pointed at before."""
    found = command.client(ctx).model(alias)
    command.show(found, screen.pointings(found), as_json=as_json)


@app.command("set")
def point(
    ctx: typer.Context,
    alias: Alias,
    model: Annotated[str, typer.Argument(help="A checkpoint, or a job: its best so far.")],
    as_json: AsJson = False,
) -> None:
    """Point an alias at a checkpoint. Requests go on being answered meanwhile."""
    client = command.client(ctx)
    _told(client.point(alias, ids.model(client, model)), as_json=as_json)


@app.command()
def rollback(ctx: typer.Context, alias: Alias, as_json: AsJson = False) -> None:
    """Point an alias at what it pointed at before; once more undoes that."""
    client = command.client(ctx)
    before = client.model(alias)["history"][1:2]
    if not before:
        raise DanluError("nothing_before", f"{alias} has pointed at nothing else yet.")
    _told(client.point(alias, before[0]["checkpoint_id"]), as_json=as_json)


@app.command()
def delete(ctx: typer.Context, alias: Alias, as_json: AsJson = False) -> None:
    """Delete an alias. The checkpoint stays."""
    command.client(ctx).delete_model(alias)
    command.show({"alias": alias, "deleted": True}, Text(f"{alias} is deleted"), as_json=as_json)


def _told(model: Model, *, as_json: bool) -> None:
    said = f"{model['alias']} points at {model['checkpoint_id']}"
    command.show(model, Text(said), as_json=as_json)
