"""The network alone: images a second in a loop at its best batch size, and what decoding costs.

    python -m benchmarks.serving.bare CHECKPOINT --picture FILE

Plain PyTorch with all threads, in both layouts of memory. Prints a line of JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.plain import Model
from models_store import checkpoints, preprocess

_BATCHES = [1, 2, 4, 8, 16, 32, 64]
_TRY_SECONDS, _SECONDS = 0.3, 2.0
_DECODED = 50
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def fastest(folder: Path, kind: torch.dtype) -> dict[str, Any]:
    """Batch size and layout that come to most images a second, and how many those are."""
    model = Model(folder)
    side = model.size[0]
    tried = []
    for layout, memory_format in _LAYOUTS.items():
        network = model.network.to(kind).to(memory_format=memory_format)
        for batch in _BATCHES:
            images = torch.rand(batch, 3, side, side).to(kind).to(memory_format=memory_format)
            tried.append((_rate(network, images, _TRY_SECONDS), layout, batch))
    _, layout, batch = max(tried)
    network = model.network.to(memory_format=_LAYOUTS[layout])
    images = torch.rand(batch, 3, side, side).to(kind).to(memory_format=_LAYOUTS[layout])
    return {"rate": _rate(network, images, _SECONDS), "layout": layout, "batch": batch}


def _rate(network: Any, images: torch.Tensor, seconds: float) -> float:
    """Images a second."""
    with torch.inference_mode():
        network(images)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            network(images)
            done += len(images)
        return done / (time.perf_counter() - began)


def decode_seconds(folder: Path, picture: Path) -> float:
    """Of one core, for one image, by danlu's own decoder: the least of many."""
    pre = checkpoints.read_manifest(folder).preprocessing
    data = picture.read_bytes()
    times = []
    for _ in range(_DECODED):
        began = time.process_time()
        preprocess.decode(data, pre)
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--picture", type=Path, required=True)
    given = parser.parse_args()
    found = {
        "bare bf16": fastest(given.checkpoint, torch.bfloat16),
        "bare fp32": fastest(given.checkpoint, torch.float32),
        "decode_seconds": decode_seconds(given.checkpoint, given.picture),
    }
    sys.stdout.write(json.dumps(found) + "\n")
