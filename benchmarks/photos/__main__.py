"""Do 300 photos as they come from phones get the label that their pixels get, saved plainly?

    python -m benchmarks.photos --data DIR      with cifar10-jpeg/train and /test in it

Trains `cifar10_net` on 10,000 images for three epochs (a minute), enlarges test images to 12
megapixels, and saves them as phones do. Exit code 1 if a label differs where the two most probable
classes of the plain file are further apart than 0.01, or more than 1 in 100 differ at all.
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

import images
from benchmarks.photos.phones import Photo, photos
from models_store import architectures, checkpoints
from models_store.classifier import Classified, Classifier
from models_store.manifest import Manifest, Preprocessing

_TIE = 0.01


def trained(data: Path, folder: Path) -> Classifier:
    """A classifier of CIFAR-10, below `folder`."""
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
    return Classifier.load(checkpoints.save(folder, network.state_dict(), described))


def compared(classifier: Classifier, photo: Photo) -> tuple[bool, float, float]:
    """Whether both labels agree, how far apart the two most probable classes of the plain file
    are, and seconds that the photo took.
    """
    began = time.perf_counter()
    [found] = classifier.classify([photo.data])
    seconds = time.perf_counter() - began
    [plain] = classifier.classify([photo.plain])
    if not isinstance(found, Classified) or not isinstance(plain, Classified):
        raise SystemExit(f"{photo.name} cannot be read: {found}, {plain}")
    first, second = np.sort(plain.probabilities)[:-3:-1]
    same = bool(found.probabilities.argmax() == plain.probabilities.argmax())
    return same, float(first - second), seconds


def main() -> int:
    """A row for each kind of file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--megapixels", type=float, default=12)
    given = parser.parse_args()
    data = given.data / "cifar10-jpeg"
    files = sorted((data / "test").rglob("*.jpg"))
    chosen = [Image.open(file).convert("RGB") for file in files[:: len(files) // given.count]]
    rows: dict[str, list[tuple[bool, float, float, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        classifier = trained(data, Path(folder))
        for photo in photos(chosen, given.count, megapixels=given.megapixels):
            kind = photo.name.rpartition(".")[2]
            row = (*compared(classifier, photo), len(photo.data))
            rows.setdefault(kind, []).append(row)
    wrong = [row for of_kind in rows.values() for row in of_kind if not row[0]]
    lines = [
        f"{kind}: {len(of_kind)} photos of {np.mean([row[3] for row in of_kind]) / 1e6:.2f} MB, "
        f"{sum(row[0] for row in of_kind)} same labels, "
        f"{1_000 * np.median([row[2] for row in of_kind]):.0f} ms each"
        for kind, of_kind in rows.items()
    ]
    lines += [f"another label: the plain file's best two are {row[1]:.4f} apart" for row in wrong]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(any(row[1] > _TIE for row in wrong) or len(wrong) > given.count / 100)


if __name__ == "__main__":
    sys.exit(main())
