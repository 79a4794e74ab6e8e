"""What the client and its commands take from the environment: where the server is, who asks.

Knows no settings of the server; those are read by the programs that `danlu serve` starts.
"""

import getpass
import os
import shutil
import sys
from pathlib import Path

import platformdirs

DEFAULT_URL = "http://127.0.0.1:8000"

# The room `settings` belongs to the programs: a client on another machine may not have it.
_VARIABLES = os.environ  # noqa: TID251


def url() -> str:
    """Address of the server: `DANLU_URL`, else the default of `danlu serve`."""
    return _VARIABLES.get("DANLU_URL") or DEFAULT_URL


def user() -> str | None:
    """Name of who asks, as the owner of their jobs; None where the system does not tell."""
    if named := _VARIABLES.get("USER"):
        return named
    try:
        return getpass.getuser()  # services and containers often have no $USER
    except (KeyError, OSError, ImportError):  # nor a name for their number
        return None


def command() -> str:
    """What to type for danlu: its path where the shell would not find it, as after `make demo`."""
    ours = Path(sys.executable).with_name("danlu")
    if not ours.exists() or shutil.which("danlu") == str(ours):
        return "danlu"
    return str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours)


def default_home() -> Path:
    """Folder of everything that danlu keeps when none is named, as `settings` has it."""
    return Path(_VARIABLES.get("DANLU_HOME") or platformdirs.user_data_path("danlu"))


def variables(*, settings: bool = True) -> dict[str, str]:
    """A copy of the environment for a program to start; without any `DANLU_*` if so asked."""
    return {
        name: value
        for name, value in _VARIABLES.items()
        if settings or not name.startswith("DANLU_")
    }
