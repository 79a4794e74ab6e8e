"""Do 300 photos as they come from phones get the label that their pixels get, saved plainly?

    python -m benchmarks.photos --data DIR      with cifar10-jpeg/train and /test in it

Trains `cifar10_net` on 10,000 images for three epochs (a minute), enlarges test images to 12
megapixels, and saves them as phones do. Exit code 1 if a label differs where the two most probable
classes of the plain file are further apart than 0.01, or more than 1 in 100 differ at all.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from torch.nn import functional

import images
from benchmarks.listeners import say
from benchmarks.photos import seeing
from models_store import architectures, checkpoints
from models_store.manifest import Manifest, Preprocessing

_TIE = 0.01
_TELL = 20  # photos


def trained(data: Path, folder: Path) -> Path:
    """The checkpoint of a classifier of CIFAR-10, below `folder`."""
    classes = sorted(path.name for path in (data / "train").iterdir())
    files = [sorted((data / "train" / name).iterdir())[:1_000] for name in classes]
    pixels = np.stack(
        [
            images.decode(file.read_bytes(), size=(32, 32), channels=3).pixels
            for of_class in files
            for file in of_class
        ]
    )
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    labels = torch.arange(len(classes)).repeat_interleave(len(files[0]))
    torch.manual_seed(0)
    plan = architectures.plan("cifar10_net", channels=3, size=(32, 32), classes=len(classes))
    network = architectures.build(plan)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    for _ in range(3):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    pre = Preprocessing(height=32, width=32, channels=3, trained_height=32, trained_width=32)
    described = Manifest(
        id="ckpt_1", job_id=None, architecture="cifar10_net", classes=classes, preprocessing=pre,
        recipe={}, dataset={}, epoch=3, metrics={}, made_with={}, created_at=datetime.now(UTC),
    )  # fmt: skip
    return checkpoints.save(folder, network.state_dict(), described)


def main() -> int:
    """A row for each kind of file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--megapixels", type=float, default=12)
    given = parser.parse_args()
    data = given.data / "cifar10-jpeg"
    files = sorted((data / "test").rglob("*.jpg"))
    chosen = files[:: len(files) // given.count][: given.count]
    with tempfile.TemporaryDirectory() as folder:
        trained_at = trained(data, Path(folder))
        say("trained; photos are made and classified")
        begin = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), mp_context=begin) as pool:
            asked = [
                pool.submit(seeing.seen, number, file, given.megapixels, trained_at)
                for number, file in enumerate(chosen)
            ]
            for count, _ in enumerate(as_completed(asked), 1):
                if count % _TELL == 0:
                    say(f"{count}/{len(asked)}")
            seen = [one.result() for one in asked]
    for kind in sorted({one.kind for one in seen}):
        of_kind = [one for one in seen if one.kind == kind]
        say(
            f"{kind}: {len(of_kind)} photos of {mean(one.size for one in of_kind) / 1e6:.2f} MB, "
            f"{sum(one.same for one in of_kind)} same labels, "
            f"{1_000 * median(one.seconds for one in of_kind):.0f} ms each"
        )
    wrong = [one for one in seen if not one.same]
    for each in wrong:
        say(f"another label: the plain file's best two are {each.apart:.4f} apart")
    return int(any(each.apart > _TIE for each in wrong) or len(wrong) > len(seen) / 100)


if __name__ == "__main__":
    sys.exit(main())
