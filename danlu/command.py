"""What the commands share: whom they ask, how they answer, how they follow a job.

Knows no command.
"""

from typing import Any

import typer

from danlu import follow as following
from danlu import screen
from danlu.client import Client
from danlu.programs import DETACHED, FAILED
from danlu.wire import Job


def client(ctx: typer.Context) -> Client:
    """The client of `DANLU_URL`; whoever embeds the commands may give another as `obj`."""
    return ctx.obj if isinstance(ctx.obj, Client) else ctx.with_resource(Client())


def show(value: Any, shown: Any, *, as_json: bool) -> None:
    """The answer: as the server sent it, or for people."""
    if as_json:
        screen.show_json(value)
    else:
        screen.console().print(shown)


def show_text(text: str, *, as_json: bool) -> None:
    """An answer that is text; in a file it is UTF-8 whatever the terminal shows, as Python reads a
    script.
    """
    if as_json:
        screen.show_json({"text": text})
    else:
        typer.echo(text.encode() if piped() else text, nl=not text.endswith("\n"))


def piped() -> bool:
    """Programs get whole ids."""
    return not screen.console().is_terminal


def follow(client: Client, job_id: str, *, as_json: bool) -> Job:
    """The job, shown until it has ended well; exits when it has not, or at Ctrl-C."""
    job = ended(client, job_id, quiet=as_json)
    if as_json:
        screen.show_json(job)
    if job["state"] != "succeeded":
        raise typer.Exit(FAILED)
    return job


def ended(client: Client, job_id: str, *, quiet: bool) -> Job:
    """The job once it has ended, shown until then unless `quiet`; exits at Ctrl-C."""
    try:
        if quiet:
            return client.wait(job_id)
        return following.follow(client, job_id, screen.console())
    except KeyboardInterrupt:
        typer.echo(f"\nThe job goes on; see it with: danlu watch {job_id}", err=True)
        raise typer.Exit(DETACHED) from None
