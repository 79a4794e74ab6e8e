"""Photos as they come from phones get the labels that the same pixels get when saved plainly.

`python -m benchmarks.photos` does it with 300 of 12 megapixels and a network that was trained.
"""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from benchmarks.photos.phones import photos
from models_store import architectures, checkpoints
from models_store.classifier import Classified, Classifier
from models_store.manifest import Manifest, Preprocessing

CLASSES = [*"0123456789", "china", "flower"]
SIDE = 32
NEAREST = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}


def examples() -> tuple[list[Image.Image], list[int]]:
    """Real images: a handwritten digit of each kind, and eight pieces of each photo."""
    digits = load_digits()
    chosen = [int(np.flatnonzero(digits.target == digit)[3]) for digit in range(10)]
    made = [
        Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).convert("RGB")
        for index in chosen
    ]
    labels = list(range(10))
    for label, photo in enumerate(load_sample_images().images, 10):
        for left in (0, 80, 160, 240):
            for top in (0, 107):
                made.append(Image.fromarray(photo[top : top + 320, left : left + 400]))
                labels.append(label)
    return made, labels


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The class whose mean is nearest: |x - m|^2 is linear but for what all classes share."""
    made, labels = examples()
    small = [np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in made]
    values = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).flatten(1) / 255
    means = torch.stack([values[torch.tensor(labels) == n].mean(0) for n in range(len(CLASSES))])
    state = {"model.1.weight": means, "model.1.bias": -means.square().sum(1) / 2}
    plan = architectures.plan(NEAREST, channels=3, size=(SIDE, SIDE), classes=len(CLASSES))
    pre = Preprocessing(
        height=SIDE, width=SIDE, channels=3, trained_height=SIDE, trained_width=SIDE
    )
    described = Manifest(
        id="ckpt_1", job_id=None, architecture=plan.architecture, classes=CLASSES,
        preprocessing=pre, recipe={}, dataset={}, epoch=1, metrics={}, made_with={},
        created_at=datetime.now(UTC),
    )  # fmt: skip
    return Classifier.load(checkpoints.save(tmp_path_factory.mktemp("photos"), state, described))


def label(classifier: Classifier, data: bytes) -> tuple[str, np.ndarray]:
    [found] = classifier.classify([data])
    assert isinstance(found, Classified), found
    return CLASSES[found.probabilities.argmax()], found.probabilities


def test_photos_from_phones_get_the_label_of_their_pixels(classifier: Classifier) -> None:
    made, labels = examples()
    found = list(photos(made, len(made), megapixels=0.3))
    assert {photo.name.rpartition(".")[2] for photo in found} == {"JPG", "HEIC", "PNG"}
    right = 0
    for photo, expected in zip(found, labels, strict=True):
        name, probabilities = label(classifier, photo.data)
        plain, of_plain = label(classifier, photo.plain)
        assert name == plain, photo.name
        np.testing.assert_allclose(probabilities, of_plain, atol=0.02)
        right += name == CLASSES[expected]
    assert right >= 24
