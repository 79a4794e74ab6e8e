"""The commands that run programs: `danlu serve`, `danlu worker`, `danlu demo`.

Words in, exit codes out; how programs are run is `danlu.serve`'s to know.
"""

from pathlib import Path
from typing import Annotated

import typer

from danlu import environment, screen
from danlu import serve as parent

FAILED, USAGE, NO_SERVER_FOUND, DETACHED = 1, 2, 3, 130
"""Exit codes of all commands beside 0."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Home = Annotated[
    Path | None, typer.Option(envvar="DANLU_HOME", help="Folder of everything that danlu keeps.")
]


def serve(
    host: Annotated[
        str, typer.Option(envvar="DANLU_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="DANLU_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    home: Home = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Train here too.")] = True,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Let everyone in who can reach --host.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the server and the worker until Ctrl-C."""
    halves = ("server", "worker") if worker else ("server",)
    _serve(halves, host=host, port=port, home=home, loopback_only=not no_auth, as_json=as_json)


def worker(home: Home = None, as_json: AsJson = False) -> None:
    """Run the worker alone, beside a server of the same home, until Ctrl-C."""
    _serve(("worker",), host="", port=0, home=home, loopback_only=True, as_json=as_json)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server up until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on handwritten digits and classify 20 of them: 3 minutes at most."""
    # Imported here: the other commands have no use for Pillow and for processes.
    from danlu import demo as demonstration

    try:
        outcome = demonstration.demo(screen.console(stderr=as_json), keep=keep)
    except KeyboardInterrupt:
        raise typer.Exit(DETACHED) from None
    if as_json:
        screen.show_json(outcome.as_dict())
    if not outcome.passed:
        raise typer.Exit(FAILED)


def _serve(
    halves: tuple[str, ...],
    *,
    host: str,
    port: int,
    home: Path | None,
    loopback_only: bool,
    as_json: bool,
) -> None:
    def ready(url: str | None, home: Path) -> None:
        if as_json:
            # In one line, for programs that read it while the server runs.
            typer.echo(screen.compact({"url": url, "home": str(home)}))
        else:
            typer.echo(f"home    {home}")
            typer.echo(
                f"danlu   {url}   (try it at {url}/docs)" if url else "worker  waits for jobs"
            )

    parent.serve(
        host=host,
        port=port,
        home=home or environment.default_home(),
        announce=lambda line: typer.echo(line, err=True),
        ready=ready,
        loopback_only=loopback_only,
        commands={name: parent.COMMANDS[name] for name in halves},
    )
