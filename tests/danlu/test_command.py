"""What commands share; how it looks is in the tests of the commands."""

import json
from typing import Any

import pytest
import typer

from danlu import command

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_did_not_succeed_ends_the_command(
    client: Any, server: Any, made: Any, capsys: Any, state: str
) -> None:
    server.answers[f"GET /jobs/{JOB}"] = made.job(state=state)
    with pytest.raises(typer.Exit) as caught:
        command.follow(client, JOB, as_json=True)
    assert caught.value.exit_code == 1
    assert json.loads(capsys.readouterr().out)["state"] == state
