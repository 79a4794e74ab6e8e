"""What is left out is not there for who would import it."""

import subprocess
import sys

PROGRAM = """
from app import triton
triton.leave_out()
try:
    import triton.language
except ImportError:
    import torch
    print(*[name for name in ("torch", "torchvision") if name in __import__("sys").modules])
"""


def test_torch_works_without_it():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("torch", "")
