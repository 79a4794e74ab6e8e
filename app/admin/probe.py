"""`python -m app.admin.probe`: loads PyTorch and prints what it can compute on, as JSON.

A process of its own: loading can fail or hang, and asking for a GPU's memory takes some of it.
"""

import json
import sys
from typing import Any

import torch
import torchvision  # noqa: F401 - a version that does not fit torch fails here


def look() -> dict[str, Any]:
    """The devices, GPUs with their memory in bytes."""
    return {
        "threads": torch.get_num_threads(),
        "cuda_version": torch.version.cuda,
        "cuda": [_gpu(number) for number in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }


def _gpu(number: int) -> dict[str, Any]:
    name = torch.cuda.get_device_name(number)
    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:  # such as one that another process has for itself
        return {"name": name, "error": str(error).partition("\n")[0]}
    return {"name": name, "free": free, "total": total}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look()))
