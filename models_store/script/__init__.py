"""A job as one plain PyTorch file that runs without danlu: `script.write`.

Knows recipes, networks and what was measured for a job; neither rows nor where data sets lie.
"""

from models_store.script.known import BuiltIn, Folder, Known
from models_store.script.script import write

__all__ = ["BuiltIn", "Folder", "Known", "write"]
