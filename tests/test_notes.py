"""The notes' MNIST script (2.13.1.1), run by danlu, gives the notes' numbers."""

import shutil
from pathlib import Path

import pytest

# Measured with the notes' own loop: fp32, torch.manual_seed(0) before the net, no shuffle,
# SGD 0.01, batch 128.
TRAIN = (0.5434, 0.8751)
TEST = (0.8239, 0.8891)


@pytest.mark.timeout(400)
def test_two_epochs_of_the_notes_mnist_script(real_data: Path, tmp_path: Path, serving) -> None:
    datasets = tmp_path / "dataset"
    shutil.copytree(real_data / "MNIST", datasets / "MNIST")
    with serving(tmp_path / "home", datasets) as service:
        job = service.client.train({"recipe": "notes-mnist", "epochs": 2})
        ended = service.client.wait(job["id"], timeout_seconds=380)
        assert ended["state"] == "succeeded", ended["error"]
        epochs = service.client.history(job["id"])["epochs"]
    assert [e["train_accuracy"] for e in epochs] == pytest.approx(TRAIN, abs=0.002)
    assert [e["test_accuracy"] for e in epochs] == pytest.approx(TEST, abs=0.002)
    assert [w["code"] for w in ended["warnings"]] == ["chosen_on_test"]
