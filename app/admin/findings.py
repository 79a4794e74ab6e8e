"""What a check of `danlu doctor` found: how things are, whether that is well, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    ok = "ok"
    warning = "warning"  # danlu works, and something may surprise
    problem = "problem"  # something does not work, or will be lost


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's answer; `hint` says what to do where not all is well."""

    about: str
    level: Level
    message: str
    hint: str = ""


def fine(about: str, message: str) -> Finding:
    """All is well."""
    return Finding(about, Level.ok, message)


def warning(about: str, message: str, hint: str) -> Finding:
    """It works, but."""
    return Finding(about, Level.warning, message, hint)


def problem(about: str, message: str, hint: str) -> Finding:
    """It does not work."""
    return Finding(about, Level.problem, message, hint)
