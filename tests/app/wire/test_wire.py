"""The whole OpenAPI document held against a real server, by schemathesis: every check, every phase.

The server has no worker, so the jobs that it makes only queue. `make wire` is the long run.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from settings import Settings

HERE = Path(__file__).parent
FEW = 4
EXAMPLES = int(os.environ.get("DANLU_EXAMPLES", FEW))
KEY = "plum-7"

# As `make wire` runs it: hundreds of examples take minutes; a few do beside much else.
pytestmark = [pytest.mark.timeout(480 + 30 * EXAMPLES), pytest.mark.long]


def schemathesis(address: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run over the document at `address`; `folder` holds its configuration."""
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    # The same cases each time in the short run, other ones each time in the long one.
    chosen = "--generation-deterministic" if EXAMPLES == FEW else "--generation-database=none"
    return subprocess.run(
        [
            *(sys.executable, "-c", program, "run", f"{address}/openapi.json"),
            *("--checks=all", "--continue-on-failure", "--no-color", chosen),
            *(f"--max-examples={EXAMPLES}", *arguments),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")},
        capture_output=True,
        text=True,
        check=False,
    )


def dictionary(words: Sequence[str]) -> str:
    return "".join(f'"{word}"\n' for word in words)


@pytest.mark.parametrize("key", ["", KEY], ids=["without a key", "with a key"])
def test_the_server_does_what_it_says(
    tmp_path: Path, train: Any, server_alone: Any, key: str
) -> None:
    home = tmp_path / "home"
    made, spare = (train(Settings(home=home)) for _ in range(2))
    (tmp_path / "jobs.dict").write_text(dictionary([made.job_id]))
    (tmp_path / "checkpoints.dict").write_text(dictionary(made.checkpoint_ids))
    (tmp_path / "spare.dict").write_text(dictionary(spare.checkpoint_ids))
    shutil.copy(HERE / "schemathesis.toml", tmp_path)
    variables = {"DANLU_MAX_QUEUED_PER_OWNER": "1000000", "DANLU_API_KEY": key}
    arguments = [f"--header=Authorization: Bearer {key}"] if key else []
    if key and EXAMPLES == FEW:
        arguments.append("--phases=examples")  # the others are in the run without a key

    with server_alone(home, **variables) as address:
        done = schemathesis(address, tmp_path, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr
