"""The command line: `danlu serve`, `danlu train`, `danlu predict` and the rest.

Each command reads its words, asks the client and shows the answer. Exit codes: 0 ok, 1 a job
failed, 2 usage, 3 no server, 4 a database of a newer danlu, 5 a home that another worker uses, 6 a
home that is gone, 130 interrupted, though a job that was followed goes on.
"""

import errno
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.text import Text

from danlu import admin, datasets, ids, models, programs, recipe, screen, training
from danlu import report as reports
from danlu.command import client as _client
from danlu.command import follow as _follow
from danlu.command import piped as _piped
from danlu.command import show as _show
from danlu.command import show_text as _show_text
from danlu.errors import NO_SERVER, DanluError
from danlu.programs import FAILED, NO_SERVER_FOUND, USAGE, AsJson
from danlu.serve import HOPELESS, PORT_TAKEN
from danlu.wire import ENDED

JobId = Annotated[str, typer.Argument(help="Id of a job, its beginning, or last.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="At most so many.")]


class _Commands(typer.core.TyperGroup):
    """Commands that may fail with `DanluError`: shown on stderr, told by the exit code."""

    def invoke(self, ctx: Any) -> Any:
        screen.take_any_terminal()
        try:
            return super().invoke(ctx)
        except DanluError as error:
            screen.show_error(error)
            raise typer.Exit(_exit_code(error)) from None


app = typer.Typer(
    cls=_Commands,
    name="danlu",
    help="Train image classifiers and classify images with them. DANLU_URL finds the server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # what waits to be written would fail once more at the end
        sys.exit(f"danlu: what it says cannot be written: {error.strerror}")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("danlu"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Its version.")
    ] = False,
) -> None:
    pass


app.command()(programs.serve)
app.command()(programs.worker)
app.command()(programs.demo)
app.command()(admin.backup)
app.command()(admin.restore)
app.command()(admin.doctor)
app.add_typer(datasets.app)
app.add_typer(models.app)


@app.command()
def train(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(help="A data set, a folder, an archive, or a file with a recipe.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What differs: epochs=3 optimizer.lr=0.1",
            show_default=False,
        ),
    ] = None,
    follow_it: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow",
            "-f",
            help="Show it until it ends; a folder's or an archive's always is, unless forbidden.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the network; make no job.")
    ] = False,
    as_name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Name of a folder's data set on the server."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network."""
    client = _client(ctx)
    if (local := recipe.local(what)) is not None:
        wanted = training.Wanted(local, as_name, settings or (), follow=follow_it is not False)
        training.of_ones_own(client, wanted, dry_run=dry_run, as_json=as_json)
        return
    if as_name is not None:
        raise typer.BadParameter(f"--as names the data set of a folder; {what} is none")
    try:
        submitted = recipe.build([what, *(settings or ())])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        if dry_run:
            plan = client.plan(submitted)
            _show(plan, screen.plan(plan), as_json=as_json)
            return
        job = client.train(submitted)
    except DanluError as error:
        raise training.perhaps_a_folder(error, what) from None
    if follow_it:
        _follow(client, job["id"], as_json=as_json)
        return
    hint = Text.assemble(job["id"], " is ", screen.state(job), "; see it with: danlu watch last")
    _show(job, hint, as_json=as_json)


@app.command()
def jobs(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option(help="Only in this state; may be repeated.")
    ] = None,
    active: Annotated[
        bool, typer.Option("--active", help="Only those that have not ended.")
    ] = False,
    dataset: Annotated[str | None, typer.Option(help="Only on this data set.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    page = _client(ctx).jobs(
        state=state or (), active=active or None, dataset=dataset, owner=owner, tag=tag, limit=limit
    )
    if not page["items"] and not as_json:
        asked = any((state, active, dataset, owner, tag))
        none = "There are no jobs. Train a network with: danlu train digits"
        typer.echo("No job is like that; danlu jobs lists them all." if asked else none)
        return
    _show(page, screen.jobs(page["items"], full_ids=_piped()), as_json=as_json)


@app.command()
def watch(ctx: typer.Context, job: JobId = ids.LAST, as_json: AsJson = False) -> None:
    """Show a job until it ends. Ctrl-C stops the showing, not the job."""
    client = _client(ctx)
    _follow(client, ids.job(client, job), as_json=as_json)


@app.command()
def cancel(
    ctx: typer.Context,
    job: JobId,
    finish: Annotated[
        bool, typer.Option("--finish", help="Let it end after this epoch, and succeed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Cancel a job; its checkpoints stay."""
    client = _client(ctx)
    cancelled = client.cancel(ids.job(client, job), finish=finish)
    soon = " and ends after this epoch" if finish and cancelled["state"] not in ENDED else ""
    shown = Text.assemble(cancelled["id"], " is ", screen.state(cancelled), soon)
    _show(cancelled, shown, as_json=as_json)


@app.command()
def resume(
    ctx: typer.Context,
    job: JobId,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="New total; also for a job that succeeded.")
    ] = None,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it until it ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a job that ended, after its last epoch."""
    client = _client(ctx)
    resumed = client.resume(ids.job(client, job), epochs=epochs)
    if follow_it:
        _follow(client, resumed["id"], as_json=as_json)
        return
    _show(resumed, Text.assemble(resumed["id"], " is ", screen.state(resumed)), as_json=as_json)


@app.command()
def logs(ctx: typer.Context, job: JobId = ids.LAST, as_json: AsJson = False) -> None:
    """Print what a job wrote."""
    client = _client(ctx)
    _show_text(client.logs(ids.job(client, job)), as_json=as_json)


@app.command()
def script(ctx: typer.Context, job: JobId = ids.LAST, as_json: AsJson = False) -> None:
    """Print a job as one plain PyTorch file: danlu script > train.py"""
    client = _client(ctx)
    _show_text(client.script(ids.job(client, job)), as_json=as_json)


@app.command()
def checkpoints(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(help="Only of this job: an id or last.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List checkpoints, newest first."""
    client = _client(ctx)
    whole = None if job is None else ids.job(client, job)
    page = client.checkpoints(job=whole, limit=limit)
    if not page["items"] and not as_json:
        none = f"{whole} has no checkpoints." if whole else "There are no checkpoints."
        typer.echo(f"{none} Each epoch of a training saves one.")
        return
    _show(page, screen.checkpoints(page["items"], full_ids=_piped()), as_json=as_json)


@app.command()
def report(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A checkpoint, or a job: its best.")] = ids.LAST,
    as_json: AsJson = False,
) -> None:
    """Show what a checkpoint is worth."""
    client = _client(ctx)
    found = client.report(reports.checkpoint(client, model))
    _show(found, reports.shown(found), as_json=as_json)


@app.command()
def predict(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="Images."),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="An alias, checkpoint or job; default if none."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, help="So many guesses.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Less probable is unsure.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images."""
    client = _client(ctx)
    name = None if model is None else ids.model(client, model)
    answer = client.predict(*files, model=name, top_k=top_k, threshold=threshold)
    shown = screen.predictions(answer["predictions"], guesses=top_k or screen.GUESSES)
    _show(answer, shown, as_json=as_json)
    if any("error" in prediction for prediction in answer["predictions"]):
        raise typer.Exit(USAGE)


def _exit_code(error: DanluError) -> int:
    if error.code in {NO_SERVER, "not_ready", PORT_TAKEN}:
        return NO_SERVER_FOUND
    for code, (hopeless, _, _) in HOPELESS.items():
        if error.code == hopeless:
            return code
    return FAILED if error.status is not None and error.status >= 500 else USAGE
