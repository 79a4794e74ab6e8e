"""Does an energy score tell images that are none of the classes better than the answer itself does?

    python -m benchmarks.strangers --data DIR      with MNIST/raw and cifar10-jpeg/test in it

Trains `mnist_net` on MNIST (a minute), and holds MNIST's test images against what is no digit. Exit
code 1 if the energy score tells every kind of stranger better: then danlu should answer with it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

import images
from models_store import architectures, evaluation

STRANGERS = 2_000
SEEDS = (0, 1, 2)


def trained(pixels: torch.Tensor, labels: torch.Tensor, seed: int) -> nn.Module:
    """The network after two epochs."""
    torch.manual_seed(seed)
    plan = architectures.plan("mnist_net", channels=1, size=(28, 28), classes=10)
    network = architectures.build(plan).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for _ in range(2):
        for batch in torch.randperm(len(pixels)).split(128):
            optimizer.zero_grad()
            functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


def strangers(digits: torch.Tensor, photos: Path) -> dict[str, torch.Tensor]:
    """(N, 1, 28, 28) of each kind, 0 to 1."""
    files = sorted(photos.rglob("*.jpg"))[:: max(1, len(list(photos.rglob("*.jpg"))) // STRANGERS)]
    grey = [images.decode(file.read_bytes(), size=(28, 28), channels=1).pixels for file in files]
    generator = torch.Generator().manual_seed(0)
    shuffled = digits[:STRANGERS].flatten(2)[..., torch.randperm(784, generator=generator)]
    return {
        "photos in grey (CIFAR-10)": torch.from_numpy(np.stack(grey)).permute(0, 3, 1, 2) / 255,
        "noise": torch.rand(STRANGERS, 1, 28, 28, generator=generator),
        "digits inverted": 1 - digits[:STRANGERS],
        "digits, pixels shuffled": shuffled.view(-1, 1, 28, 28),
    }


def scores(
    network: nn.Module, given: torch.Tensor, temperature: float
) -> list[NDArray[np.float32]]:
    """Greater for what the network knows: the answered probability, and minus the energy of Liu et
    al., "Energy-based Out-of-distribution Detection", NeurIPS 2020, equation 4 with T = 1.
    """
    with torch.inference_mode():
        logits = torch.cat([network(part) for part in given.split(1_000)])
    known = (logits / temperature).softmax(1).amax(1)
    return [known.numpy(), logits.logsumexp(1).numpy()]


def told(ours: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[float, float]:
    """AUROC, and the share of strangers that pass where 95 % of the known do."""
    truth = np.concatenate([np.ones(len(ours)), np.zeros(len(others))])
    passed = float((others >= np.quantile(ours, 0.05)).mean())
    return float(roc_auc_score(truth, np.concatenate([ours, others]))), passed


def mnist(raw: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 28, 28), 0 to 1, and labels (N,) of a part."""
    pixels = np.fromfile(raw / f"{part}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
    labels = np.fromfile(raw / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
    return torch.from_numpy(pixels) / 255, torch.from_numpy(labels.astype(np.int64))


def main() -> int:
    """The table: means over the seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data: Path = parser.parse_args().data
    pixels, labels = mnist(data / "MNIST" / "raw", "train")
    digits, _ = mnist(data / "MNIST" / "raw", "t10k")
    kinds = strangers(digits, data / "cifar10-jpeg" / "test")
    rows: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for seed in SEEDS:
        network = trained(pixels[6_000:], labels[6_000:], seed)
        with torch.inference_mode():
            held_out = network(pixels[:6_000]).numpy()
        temperature = evaluation.fit_temperature(held_out, labels[:6_000].numpy()) or 1.0
        known = scores(network, digits, temperature)
        for kind, given in kinds.items():
            pairs = zip(known, scores(network, given, temperature), strict=True)
            rows[kind].append([figure for pair in pairs for figure in told(*pair)])
    lines = [
        "| strangers | probability: AUROC | pass | energy: AUROC | pass |",
        "|---|---|---|---|---|",
    ]
    better = []
    for kind, figures in rows.items():
        a, b, c, d = np.mean(figures, axis=0)
        better.append(c > a and d < b)
        lines.append(f"| {kind} | {a:.3f} | {b:.1%} | {c:.3f} | {d:.1%} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return int(all(better))


if __name__ == "__main__":
    sys.exit(main())
