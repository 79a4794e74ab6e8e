"""Models leave and come in: the notes' own classes, ONNX and the bundle agree with danlu."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from danlu.errors import DanluError
from tests.notes import NET

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("service")]


@pytest.fixture(scope="module")
def trained(service: Any) -> dict[str, Any]:
    """A short job on real digits."""
    job = service.client.train({"dataset": "digits", "epochs": 1, "seed": 0})
    ended = service.client.wait(job["id"], timeout_seconds=120)
    assert ended["state"] == "succeeded", ended["error"]
    return dict(ended)


@pytest.fixture(scope="module")
def images(service: Any) -> list[bytes]:
    """A hundred real images that no training has seen."""
    page = service.client.dataset_images("digits", split="test", limit=100)
    return [service.client.image(item) for item in page["items"]]


def _exported(service: Any, checkpoint: str, format_: str, folder: Path) -> Path:
    job = service.client.export(checkpoint, format_)
    ended = service.client.wait(job["id"], timeout_seconds=120)
    assert ended["state"] == "succeeded", ended["error"]
    found: Path = service.client.download(checkpoint, to=folder, format=format_)
    return found


def _probabilities(service: Any, model: str, files: list[bytes]) -> list[dict[str, float]]:
    named = [(f"{number}.png", file) for number, file in enumerate(files)]
    answers = service.client.predict(*named, model=model, top_k=10)["predictions"]
    return [{one["label"]: one["probability"] for one in each["top"]} for each in answers]


def test_the_notes_class_loads_what_danlu_trained_and_danlu_takes_it_back(
    service: Any, trained: dict[str, Any], images: list[bytes], tmp_path: Path
) -> None:
    best = trained["best_checkpoint_id"]
    model = NET()
    file = service.client.download(best, to=tmp_path, format="pt")
    model.load_state_dict(torch.load(file))
    torch.save(model.state_dict(), tmp_path / "model_10.pth")
    classes, seen = [str(n) for n in range(10)], service.client.checkpoint(best)["preprocessing"]
    back = service.client.import_checkpoint(
        tmp_path / "model_10.pth",
        architecture="mnist_net",
        classes=classes,
        input={
            "channels": 1,
            "image_size": 28,
            "normalize": seen["normalize"],
            "invert_from_border": seen["invert_from_border"],
        },
    )
    again = torch.load(service.client.download(back["id"], to=tmp_path, format="pt"))
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    # The imported one has no temperature: what it says is the softmax of the class's own logits.
    model.eval()
    some = images[:20]
    for file_bytes, told in zip(some, _probabilities(service, back["id"], some), strict=True):
        with torch.no_grad():
            logits = model(_as_the_notes_do(file_bytes))
        expected = logits.softmax(1)[0]
        assert [told[name] for name in classes] == pytest.approx(expected.tolist(), abs=1e-5)


def _as_the_notes_do(file: bytes) -> torch.Tensor:
    """2.13.2: open, convert, Resize, ToTensor."""
    from torchvision import transforms

    image = Image.open(io.BytesIO(file)).convert("L")
    transform = transforms.Compose([transforms.Resize((28, 28)), transforms.ToTensor()])
    return torch.reshape(transform(image), (1, 1, 28, 28))


def test_onnx_and_the_bundle_say_what_danlu_says(
    service: Any, trained: dict[str, Any], images: list[bytes], tmp_path: Path
) -> None:
    best = trained["best_checkpoint_id"]
    with pytest.raises(DanluError) as caught:
        service.client.download(best, to=tmp_path, format="onnx")
    assert caught.value.code == "not_exported"
    told = _probabilities(service, best, images)

    with zipfile.ZipFile(_exported(service, best, "bundle", tmp_path)) as opened:
        opened.extractall(tmp_path / "bundle")
    for number, file in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(file)
    command = [sys.executable, "-I", "predict.py", *(f"../{n}.png" for n in range(len(images)))]
    done = subprocess.run(
        command, cwd=tmp_path / "bundle", capture_output=True, text=True, check=True
    )
    for line, expected in zip(done.stdout.splitlines(), told, strict=True):
        label, probability = line.split(": ")[1].split()
        assert label == max(expected, key=lambda name: expected[name])
        assert float(probability) == pytest.approx(expected[label], abs=1e-3)

    # It was made for the bundle: asking makes no other job.
    model = NET()
    model.load_state_dict(torch.load(service.client.download(best, to=tmp_path, format="pt")))
    session = onnxruntime.InferenceSession(_exported(service, best, "onnx", tmp_path))
    pixels = [
        np.asarray(Image.open(io.BytesIO(one)).resize((28, 28), Image.Resampling.BILINEAR))
        for one in images
    ]
    (logits,) = session.run(["logits"], {"image": np.stack(pixels)[..., None]})
    normalize = service.client.checkpoint(best)["preprocessing"]["normalize"]
    inputs = torch.from_numpy(np.stack(pixels))[:, None].float() / 255
    if normalize is not None:
        inputs = (inputs - normalize["mean"][0]) / normalize["std"][0]
    with torch.no_grad():
        expected_logits = model.eval()(inputs).numpy()
    scale = np.abs(expected_logits).max()
    assert np.abs(logits - expected_logits).max() <= 1e-4 * scale


def test_a_job_starts_from_another_ones_checkpoint(service: Any, trained: dict[str, Any]) -> None:
    asked = {
        "dataset": "digits",
        "init_from": trained["best_checkpoint_id"],
        "epochs": 1,
        "lr": 1e-5,
    }
    job = service.client.train({**asked, "scheduler": None, "seed": 0})
    ended = service.client.wait(job["id"], timeout_seconds=120)
    assert ended["state"] == "succeeded", ended["error"]
    assert ended["metrics"]["val_accuracy"] >= trained["metrics"]["best_val_accuracy"] - 0.02
