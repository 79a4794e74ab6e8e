"""Does every network of torchvision train? Two steps of each, and the table of docs/zoo.md.

    python -m benchmarks.zoo docs/zoo.md

Networks of 100 million parameters or more are measured without weights, and not trained. Takes some
minutes and 3 GB of memory; exit code 1 if a network does not do what is expected of it.
"""

import argparse
import gc
import math
import sys
import time
from pathlib import Path

import torch
import torchvision
from torch.nn import functional

from models_store import architectures, pretrained, zoo

MOST_PARAMETERS = 100_000_000
CLASSES = 5
HEADING = """\
# torchvision's networks

Every network that `architecture` may name beside danlu's own. Made by `make zoo` with torchvision
{version}, which trained all those under 100 M parameters for two steps; [how to use
them](guide/zoo.md). Parameters and GFLOPs (of one image's forward pass, a multiply-add counting as
two) are for 1000 classes at the native size, which is that of the weights. Sizes are sides in
pixels; smallest is what the network can take at all, not what it is good at.

| name | parameters | GFLOPs | native size | smallest size | weights |
|---|---|---|---|---|---|
"""


def row(name: str) -> str:
    """Of the table."""
    side = zoo.native_size(name)
    planned = architectures.plan(name, channels=3, size=(side, side), classes=1000)
    weights = pretrained.published(name)
    cells = (
        f"`{name}`",
        f"{planned.parameters / 1e6:,.1f} M",
        f"{architectures.flops(planned) / 1e9:,.1f}",
        str(side),
        str(zoo.smallest(name)),
        f"{weights.bytes / 1e6:,.0f} MB" if weights else "none",
    )
    return f"| {' | '.join(cells)} |\n"


def train(name: str) -> None:
    """Two steps at a small size, and a look at the smallest. Raises what it finds wrong.

    Gradients are clipped: those of deep networks, freshly drawn, that normalize over four numbers
    are of any size.
    """
    side = max(32, zoo.smallest(name))
    planned = architectures.plan(name, channels=3, size=(side, side), classes=CLASSES)
    network = architectures.build(planned)
    assert planned.parameters == sum(value.numel() for value in network.parameters())
    head = {key: value for key, value in network.named_parameters() if key in zoo.head(name)}
    assert head, "no head"
    assert all(value.shape[0] == CLASSES for value in head.values())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
    images, labels = torch.rand(4, 3, side, side), torch.tensor([0, 1, 2, 3])
    for _ in range(2):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        assert math.isfinite(loss.item()), f"the loss is {loss.item()}"
        assert all(value.grad is not None and value.grad.any() for value in head.values())
    look(name)


def look(name: str) -> None:
    """A real pass at the size that is said to be the smallest."""
    side = zoo.smallest(name)
    network = zoo.build(name, channels=3, size=(side, side), classes=CLASSES).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, side, side)).shape == (1, CLASSES)


def main() -> int:
    """Writes the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path, help="where the table goes")
    page: Path = parser.parse_args().page
    torch.manual_seed(0)
    rows, failed = [], 0
    for name in zoo.names():
        began = time.perf_counter()
        rows.append(row(name))
        side = zoo.native_size(name)
        planned = architectures.plan(name, channels=3, size=(side, side), classes=1000)
        said = "not trained"
        if planned.parameters < MOST_PARAMETERS:
            try:
                train(name)
                said = "ok"
            except Exception as error:
                failed += 1
                said = f"{type(error).__name__}: {error}"
        gc.collect()
        sys.stdout.write(f"{name:20} {time.perf_counter() - began:6.1f} s  {said}\n")
        sys.stdout.flush()
    version = torchvision.__version__.partition("+")[0]
    page.write_text(HEADING.format(version=version) + "".join(rows), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
