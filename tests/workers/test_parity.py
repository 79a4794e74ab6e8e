"""What is saved serves as it was trained: proven on files, within bounds, and honest when not."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data_store.parts import DataSet, Part
from models_store import architectures, checkpoints, reduced, report
from models_store.classifier import Classifier
from models_store.manifest import Manifest, Preprocessing
from workers import parity
from workers.reporter import Stopped
from workers.steps import Run

LAYERS = {"layers": [{"type": "Flatten"}, {"type": "Linear", "out_features": 3}]}


def run(*, stopped: bool = False) -> Run:
    cpu = torch.device("cpu")
    return Run(device=cpu, precision="fp32", normalize=None, stopped=lambda: stopped)


def images(count: int) -> list[bytes]:
    """Noise, 8 pixels wide and high."""
    found = []
    for pixels in np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8):
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        found.append(file.getvalue())
    return found


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Saves a network whose outputs are `scale` times those of one that is drawn."""

    def save(scale: float = 20.0) -> Path:
        network = architectures.build(
            architectures.plan(LAYERS, channels=1, size=(8, 8), classes=3)
        )
        torch.manual_seed(0)
        state = {k: torch.randn(v.shape) * scale for k, v in network.state_dict().items()}
        manifest = Manifest(
            id=f"ckpt_{scale}",
            job_id="job_1",
            architecture=LAYERS,
            classes=["a", "b", "c"],
            preprocessing=Preprocessing(
                height=8, width=8, channels=1, trained_height=8, trained_width=8
            ),
            recipe={},
            dataset={},
            epoch=1,
            metrics={},
            made_with={},
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return checkpoints.save(tmp_path, state, manifest)

    return save


def labels(folder: Path, files: list[bytes]) -> list[int]:
    """What plain PyTorch makes of the pixels, as somebody would write it down."""
    state = checkpoints.read_state(folder, checkpoints.read_manifest(folder))
    pixels = np.stack([np.asarray(Image.open(BytesIO(file))) for file in files])
    inputs = torch.from_numpy(pixels).reshape(len(files), 64).float() / 255
    outputs = inputs @ state["model.1.weight"].T + state["model.1.bias"]
    return outputs.argmax(1).tolist()


def test_the_same_labels_are_a_proof(save: Callable[..., Path]) -> None:
    folder, files = save(), images(100)
    expected = labels(folder, files)
    assert set(expected) == {0, 1, 2}

    proof = parity.prove(folder, iter(files), expected, run=run()).parity

    assert proof is not None
    assert (proof.passed, proof.count, proof.different, proof.allowed) == (True, 100, 0, 1)
    assert proof.largest_margin is None


def test_a_network_that_cannot_tell_keeps_its_labels_at_a_million_degrees(
    save: Callable[..., Path],
) -> None:
    """In float32 its probabilities would all be the same."""
    folder, files = save(1e-3), images(100)
    expected = labels(folder, files)
    (folder / report.EVALUATION).write_text('{"calibration": {"temperature": 1e6}}')

    proof = parity.prove(folder, iter(files), expected, run=run()).parity

    assert set(expected) == {0, 1, 2}
    assert proof is not None
    assert (proof.passed, proof.different) == (True, 0)


@pytest.mark.parametrize(
    ("scale", "wrong", "passed"), [(0, 1, True), (0, 2, False), (20, 1, False)]
)
def test_one_image_may_differ_if_it_is_undecided(
    save: Callable[..., Path], scale: float, wrong: int, passed: bool
) -> None:
    folder, files = save(scale), images(40)
    expected = labels(folder, files)
    for one in range(wrong):
        expected[one] = (expected[one] + 1) % 3

    proof = parity.prove(folder, iter(files), expected, run=run()).parity

    assert proof is not None
    assert (proof.passed, proof.different) == (passed, wrong)
    assert proof.largest_margin is not None
    assert (proof.largest_margin < 0.01) == (scale == 0)
    assert f"{wrong} of 40" in parity.told(folder.name, proof)


@pytest.mark.parametrize(("native", "wrong"), [(True, 0), (True, 2), (False, 0)])
def test_half_the_bits_are_proved_apart_where_they_are_native(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, native: bool, wrong: int
) -> None:
    """Rounded weights round some labels the other way; then /predict keeps to float32."""
    monkeypatch.setattr(reduced, "is_native", lambda _: native)
    folder, files = save(), images(40)
    expected = labels(folder, files)
    load = Classifier.load

    def rounded(*args: Any, **given: Any) -> Classifier:
        loaded = load(*args, **given)
        if loaded.precision == "bf16" and wrong:  # as on a device that rounds too much
            loaded._network.get_parameter("model.1.bias").add_(torch.tensor([1e4, 0, 0]))
        return loaded

    monkeypatch.setattr(Classifier, "load", rounded)
    found = parity.prove(folder, iter(files), expected, run=run())

    assert found.parity is not None
    assert (found.parity.passed, found.parity.count) == (True, 40)
    assert (found.parity_bf16 is not None) == native
    if found.parity_bf16 is not None:
        assert found.parity_bf16.count == 40
        assert found.parity_bf16.passed == (wrong == 0)
        assert (found.parity_bf16.different > 1) == (wrong > 0)


def test_a_file_that_is_refused_differs_and_one_that_is_gone_says_nothing(
    save: Callable[..., Path],
) -> None:
    folder, files = save(), images(3)
    expected = labels(folder, files)

    proof = parity.prove(folder, iter([files[0], None, b"no image"]), expected, run=run()).parity

    assert proof is not None
    assert (proof.passed, proof.count, proof.different) == (False, 2, 1)
    assert proof.largest_margin == 1
    assert parity.prove(folder, iter([None] * 3), expected, run=run()).parity is None


def test_it_is_done_in_parts_where_there_is_no_room(
    save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, files = save(), images(40)
    expected, plain = labels(folder, files), nn.Linear.forward

    def tight(self: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, inputs)

    monkeypatch.setattr(nn.Linear, "forward", tight)
    proof = parity.prove(folder, iter(files), expected, run=run()).parity

    assert proof is not None
    assert (proof.passed, proof.count) == (True, 40)


def test_time_ends_it_after_a_batch(save: Callable[..., Path]) -> None:
    folder, files = save(), images(100)

    proof = parity.prove(folder, iter(files), labels(folder, files), run=run(), seconds=0).parity

    assert proof is not None
    assert 0 < proof.count < 100


def test_it_stops_when_told_to(save: Callable[..., Path]) -> None:
    folder, files = save(), images(2)
    with pytest.raises(Stopped):
        parity.prove(folder, iter(files), labels(folder, files), run=run(stopped=True))


def test_images_are_evenly_taken_wherever_it_ends() -> None:
    assert sorted(parity.choose(7)) == list(range(7))
    chosen = parity.choose(50_000)
    assert len(set(chosen)) == len(chosen) == parity.IMAGES
    assert (min(chosen), max(chosen)) == (0, 49_999)
    assert np.diff(sorted(chosen)).max() <= 51
    quarters = np.bincount(np.array(chosen[:200]) // 12_500)
    assert quarters.min() > 30


def test_files_are_read_when_their_turn_comes(write_images: Callable[..., Path]) -> None:
    root = write_images("train", count=4)
    pixels, zeros = np.zeros((8, 2, 2, 1), np.uint8), np.zeros(8, np.float32)
    part = Part(pixels, np.zeros(8, np.int64), zeros, zeros)
    data = DataSet("shapes", "v1", ("left", "right"), {"train": part}, ())

    found = parity.files(data, root, "train", [5, 0])

    (root / "shapes/train/left/00.png").unlink()
    assert next(found) == (root / "shapes/train/right/01.png").read_bytes()
