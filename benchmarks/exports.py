"""Can every kind of network leave as ONNX? Time, memory, and how far the logits are from PyTorch's.

    python -m benchmarks.exports          danlu's own networks, and the smallest of each family
    python -m benchmarks.exports vit_b_16

Each in a process of its own; takes some minutes and 4 GB of memory. Exit code 1 if one cannot, or
differs by more than is promised.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from models_store import architectures, export, zoo
from models_store.catalogue import ARCHITECTURES
from models_store.manifest import Manifest, Preprocessing

IMAGES = 20


def smallest_of_each_family() -> list[str]:
    """By parameters."""
    found: dict[str, tuple[int, str]] = {}
    for name in zoo.names():
        side = zoo.native_size(name)
        network = zoo.outline(name, channels=3, size=(side, side), classes=10)
        size = sum(one.numel() for one in network.parameters())
        family = zoo.family(name)
        found[family] = min(found.get(family, (size, name)), (size, name))
    return [name for _, name in found.values()]


def row(name: str) -> str:
    """Exports one, checks it, and says how that went."""
    known = ARCHITECTURES.get(name)
    side = known.input_size if known else zoo.native_size(name)
    channels = known.channels if known else 3
    pre = Preprocessing(
        height=side, width=side, channels=channels, trained_height=side, trained_width=side
    )
    described = Manifest(
        id="ckpt_1", job_id=None, architecture=name, classes=[str(n) for n in range(10)],
        preprocessing=pre, recipe={}, dataset={}, epoch=0, metrics={}, made_with={},
        created_at=datetime.now(UTC),
    )  # fmt: skip
    torch.manual_seed(0)
    plan = architectures.plan(name, channels=channels, size=(side, side), classes=10)
    network = architectures.build(plan)
    enliven(network, channels, side)
    size = sum(one.nbytes for one in network.state_dict().values()) / 1e6
    before, began = peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        export.write_onnx(network, described, temperature=1.0, target=target)
        wrote = time.perf_counter() - began
        found = export.check(target, network, pre, export.noise(pre, IMAGES), of="noise")
    checked = time.perf_counter() - began - wrote
    return (
        f"{name:22} {size:7.1f} MB {wrote:6.1f} s to write {checked:6.1f} s to check "
        f"{before:6.0f} -> {peak():6.0f} MB  {found.largest_difference / found.largest_logit:.1e} "
        f"of {found.largest_logit:.2g}"
    )


@torch.no_grad()
def enliven(network: torch.nn.Module, channels: int, side: int) -> None:
    """Freshly drawn deep networks give numbers near zero: statistics and a last layer of size 1."""
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    network(torch.rand(8, channels, side, side))
    network.eval().requires_grad_(False)
    logits = network(torch.rand(4, channels, side, side))
    for module in network.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            last = module
    if not logits.any():  # a vision transformer begins with a head of zeros
        torch.nn.init.normal_(last.weight, std=0.05)
        logits = network(torch.rand(4, channels, side, side))
    last.weight /= logits.abs().max() / 10


def peak() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", help="a network; all of them without")
    if (name := parser.parse_args().name) is not None:
        sys.stdout.write(f"{row(name)}\n")
        return 0
    failed = 0
    for name in [*ARCHITECTURES, *smallest_of_each_family()]:
        command = [sys.executable, "-m", "benchmarks.exports", name]
        failed += subprocess.run(command).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
