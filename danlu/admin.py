"""The commands on the home itself: `danlu backup`, `danlu restore`, `danlu doctor`.

They need no server and know nothing of a home: the program that does becomes this process, so that
its exit code, Ctrl-C and signals are what they would be without us.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from danlu import environment
from danlu.programs import AsJson, Home

# -P: a folder named app where the command is typed must not win over ours.
COMMAND = (sys.executable, "-P", "-m", "app.admin")


def backup(
    folder: Annotated[Path, typer.Argument(help="Where to: a folder that is not there yet.")],
    home: Home = None,
    datasets: Annotated[
        bool, typer.Option("--datasets", help="Copy the data sets too, which may be large.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the home into a new folder, while danlu goes on using it."""
    options = ["--datasets"] if datasets else []
    _become("backup", *options, folder=folder, home=home, as_json=as_json)


def restore(
    folder: Annotated[Path, typer.Argument(help="What danlu backup made.")],
    home: Home = None,
    without_damaged: Annotated[
        bool, typer.Option("--without-damaged", help="Leave out what is damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new home from a backup; jobs that were at work go on in it."""
    options = ["--without-damaged"] if without_damaged else []
    _become("restore", *options, folder=folder, home=home, as_json=as_json)


def doctor(
    home: Home = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what takes long: checksums, devices.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at everything that danlu needs and say what to do. Changes nothing."""
    options = ["--url", environment.url(), *(["--quick"] if quick else [])]
    _become("doctor", *options, home=home, as_json=as_json)


def _become(*words: str, home: Path | None, as_json: bool, folder: Path | None = None) -> NoReturn:
    variables = environment.variables()
    if home is not None:
        variables["DANLU_HOME"] = str(home)
    command = [*COMMAND, *words, *(["--json"] if as_json else [])]
    if folder is not None:
        command += ["--", str(folder)]  # its name may begin with a dash
    sys.stdout.flush()
    os.execve(command[0], command, variables)
