import getpass
from pathlib import Path

import pytest

from danlu import environment


def test_the_user_is_whom_the_system_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "lin")
    assert environment.user() == "lin"

    for name in ("USER", "LOGNAME", "LNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USERNAME", "wei")
    assert environment.user() == "wei"


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found: 4242")

    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr(getpass, "getuser", nameless)

    assert environment.user() is None


def test_the_home_is_the_one_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from settings import Settings

    monkeypatch.setenv("DANLU_HOME", str(tmp_path))
    assert environment.default_home() == Settings().home == tmp_path

    monkeypatch.delenv("DANLU_HOME")
    assert environment.default_home() == Settings().home


def test_programs_may_be_started_without_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_DATABASE_URL", "postgresql://lab")

    assert environment.variables()["DANLU_DATABASE_URL"] == "postgresql://lab"
    clean = environment.variables(settings=False)
    assert "PATH" in clean
    assert not any(name.startswith("DANLU_") for name in clean)
