"""`python -m danlu` is the command itself."""

import subprocess
import sys


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "danlu", "--help"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert "predict" in done.stdout
