"""The commands that run programs: `danlu serve`, `danlu worker`, `danlu demo`.

Words in, exit codes out; how programs are run is `danlu.serve`'s to know.
"""

import re
from contextlib import suppress
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


def _path(value: str) -> str:
    """A path that a server may lie below, as the server's own settings have it."""
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", value):
        raise typer.BadParameter(f"{value!r} is no path; one looks like /danlu")
    return value


def serve(
    host: Annotated[
        str, typer.Option(envvar="DANLU_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="DANLU_PORT", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8000,
    root_path: Annotated[
        str,
        typer.Option(
            envvar="DANLU_ROOT_PATH",
            callback=_path,
            help="Path below which a proxy shows it, such as /danlu.",
        ),
    ] = "/",
    home: Home = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Train here too.")] = True,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth", envvar="DANLU_NO_AUTH", help="Ask no key of those who can reach --host."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the server and the worker until Ctrl-C."""
    halves = ("server", "worker") if worker else ("server",)
    _serve(
        halves,
        host=host,
        port=port,
        root_path=root_path,
        home=home,
        no_auth=no_auth,
        as_json=as_json,
    )


def worker(home: Home = None, as_json: AsJson = False) -> None:
    """Run the worker alone, beside a server of the same home, until Ctrl-C."""
    _serve(("worker",), host="", port=0, home=home, as_json=as_json)


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
    root_path: str = "/",
    no_auth: bool = False,
    as_json: bool,
) -> None:
    def ready(place: parent.Place) -> None:
        if as_json:
            # In one line, for programs that read it while the server runs.
            said = {"url": place.url, "key": place.key, "home": str(place.home)}
            typer.echo(screen.compact(said))
        else:
            typer.echo("\n".join(_where(place)))

    parent.serve(
        host=host,
        port=port,
        root_path=root_path,
        home=home or environment.default_home(),
        announce=_announce,
        ready=ready,
        no_auth=no_auth,
        commands={name: parent.COMMANDS[name] for name in halves},
    )


def _announce(line: str) -> None:
    """Server and worker go on where nobody can be told: a full disk, a `tee` that is gone."""
    with suppress(OSError):
        typer.echo(line, err=True)


def _where(place: parent.Place) -> list[str]:
    """What people are told when the port is open. A key of their own is not repeated."""
    home, url, key = f"home    {place.home}", place.url, place.key
    if url is None:
        return [home, "worker  waits for jobs"]
    if key is not None:
        how = f"(for the command line: export DANLU_API_KEY={key})"
        return [home, f"danlu   {url}/?key={key}", f"        {how}"]
    asks = "asks for the key; " if place.asks else ""
    return [home, f"danlu   {url}   ({asks}try it at {url}/docs)"]
