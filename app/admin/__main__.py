"""`python -m app.admin backup|restore|doctor`: reads the settings, does it, and says what was done.

The composition root of the commands on the home. Loads no torch in this process.
"""

import argparse
import errno
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app.admin import screen
from app.admin.refusal import Refused
from problems import Problem
from settings import Settings, what_is_wrong

_FAILED, _USAGE, _INTERRUPTED, _TERMINATED = 1, 2, 130, 143
_EXIT_CODES = {"database_newer": 4}


def main(arguments: Sequence[str]) -> int:
    """Exit codes: 0 done and all is well, 1 it failed or there are problems, 2 usage, 4 the
    database is of a newer danlu, 130 and 143 interrupted; nothing half done is left then.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    asked = _parser().parse_args(arguments)
    command: Callable[[Settings, argparse.Namespace], int] = asked.command
    try:
        return command(Settings(), asked)
    except ValidationError as error:
        sys.stderr.write(what_is_wrong(error))
        return _USAGE
    except Refused as refused:
        screen.warn(refused.code, refused.detail, refused.hint)
        return refused.exit_code
    except Problem as problem:
        screen.warn(problem.code, problem.detail, problem.hint)
        return _EXIT_CODES.get(problem.code, _FAILED)
    except OSError as error:
        screen.warn(*_of_system(error))
        return _FAILED
    except SQLAlchemyError as error:
        hint = "danlu doctor says what is wrong with a database."
        screen.warn("database_unavailable", str(getattr(error, "orig", error)), hint)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def backup(settings: Settings, asked: argparse.Namespace) -> int:
    """Makes a backup and says what is in it."""
    from app.admin import backup, report

    with screen.progress() as told:
        made = backup.backup(settings, asked.folder, datasets=asked.datasets, told=told)
    _answer(asked, report.backup_as_dict(made), lambda: report.backup(made))
    return 0


def restore(settings: Settings, asked: argparse.Namespace) -> int:
    """Makes a home from a backup and says what goes on in it."""
    from app.admin import report, restore

    with screen.progress() as told:
        restored = restore.restore(
            settings, asked.folder, without_damaged=asked.without_damaged, told=told
        )
    _answer(asked, report.restore_as_dict(restored), lambda: report.restore(restored))
    return 0


def doctor(settings: Settings, asked: argparse.Namespace) -> int:
    """Looks at everything and says what to do."""
    from app.admin import doctor, report
    from app.admin.findings import Level

    with screen.progress() as told:
        found = doctor.examine(settings, url=asked.url, quick=asked.quick, told=told)
    _answer(
        asked,
        report.doctor_as_dict(settings, found),
        lambda: report.doctor(settings, found),
    )
    return _FAILED if any(one.level is Level.problem for one in found) else 0


def _answer(
    asked: argparse.Namespace, document: dict[str, Any], show: Callable[[], object]
) -> None:
    if asked.json:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        show()


def _of_system(error: OSError) -> tuple[str, str, str]:
    """Code, detail and hint of what the operating system refused."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", f"There is no space left: {why}.", "Free some, or take another disk."
    where = f"{error.filename}: " if error.filename else ""
    hint = "Run this as the user that danlu runs as."
    return "files_unusable", f"{where}{why}.", hint


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app.admin")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("backup", help="Copy the home, while it is used, into a new folder.")
    one.add_argument("folder", type=Path)
    one.add_argument("--datasets", action="store_true")
    one.set_defaults(command=backup)
    one = commands.add_parser("restore", help="Make a new home from a backup.")
    one.add_argument("folder", type=Path)
    one.add_argument("--without-damaged", action="store_true")
    one.set_defaults(command=restore)
    one = commands.add_parser("doctor", help="Say what is wrong, and what to do.")
    one.add_argument("--url", default="http://127.0.0.1:8000")
    one.add_argument("--quick", action="store_true")
    one.set_defaults(command=doctor)
    for one in commands.choices.values():
        one.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
