"""The main job, end to end: a real server and worker train, save, list and classify over HTTP."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors.torch import load_file

from tests.notes import NET

# One service for all of them: two would train the same digits twice.
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("service")]


def trained(service: Any, recipe: dict[str, Any]) -> dict[str, Any]:
    job = service.client.train(recipe)
    ended = service.client.wait(job["id"], timeout_seconds=200)
    assert ended["state"] == "succeeded", (ended["error"], service.client.logs(job["id"]))
    return dict(ended)


@pytest.fixture(scope="session")
def digits_job(service: Any) -> dict[str, Any]:
    return trained(service, {"dataset": "digits", "seed": 0, "name": "d", "tags": ["e2e"]})


def unseen(service: Any, count: int) -> list[tuple[str, bytes]]:
    page = service.client.dataset_images("digits", split="test", limit=count)
    return [(item["label"], service.client.image(item)) for item in page["items"]]


def named(images: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(f"{number}.png", data) for number, (_, data) in enumerate(images)]


def test_the_job_tells_the_whole_story(service: Any, digits_job: dict[str, Any]) -> None:
    job = service.client.job(digits_job["id"])
    assert job["metrics"]["test_accuracy"] >= 0.95
    assert job["progress"]["epoch"] == job["progress"]["epochs"] == 15
    assert job["progress"]["step"] == job["progress"]["steps"]
    assert job["dataset"]["name"] == "digits"
    assert job["dataset"]["version"]
    assert job["best_checkpoint_id"] in [c["id"] for c in job["checkpoints"]]
    assert job["stop_reason"] == "completed"
    assert (job["name"], job["tags"], job["attempt"]) == ("d", ["e2e"], 1)
    assert job["disk_bytes"] > 0
    history = service.client.history(job["id"])
    assert [e["epoch"] for e in history["epochs"]] == list(range(1, 16))
    assert history["steps"][0]["step"] == 1
    assert "epoch 15/15" in service.client.logs(job["id"])


def test_the_newest_and_the_best_checkpoints_are_kept(
    service: Any, digits_job: dict[str, Any]
) -> None:
    kept = service.client.checkpoints(job=digits_job["id"])["items"]
    epochs = sorted(c["epoch"] for c in kept)
    assert epochs[-5:] == [11, 12, 13, 14, 15]
    assert len(kept) in (5, 6)
    folders = {path.name for path in (service.home / "checkpoints").iterdir()}
    assert {c["id"] for c in kept} <= folders


def test_images_it_has_never_seen_are_classified(service: Any, digits_job: dict[str, Any]) -> None:
    images = unseen(service, 60)
    answer = service.client.predict(*named(images), model=digits_job["id"])
    right = [
        label == prediction["label"]
        for (label, _), prediction in zip(images, answer["predictions"], strict=True)
    ]
    assert sum(right) >= 56
    assert answer["checkpoint_id"] == digits_job["best_checkpoint_id"]


def test_black_on_white_is_inverted_first(service: Any, digits_job: dict[str, Any]) -> None:
    images = named(unseen(service, 40))
    inverted = []
    for name, data in images:
        file = io.BytesIO()
        ImageOps.invert(Image.open(io.BytesIO(data)).convert("L")).save(file, "PNG")
        inverted.append((name, file.getvalue()))
    upright = service.client.predict(*images, model=digits_job["id"])["predictions"]
    turned = service.client.predict(*inverted, model=digits_job["id"])["predictions"]
    assert all("inverted" not in p["warnings"] for p in upright)
    assert all("inverted" in p["warnings"] for p in turned)
    same = [a["label"] == b["label"] for a, b in zip(upright, turned, strict=True)]
    assert sum(same) >= 39


def test_the_notes_own_class_loads_the_download(
    service: Any, digits_job: dict[str, Any], tmp_path: Path
) -> None:
    file = service.client.download(digits_job["best_checkpoint_id"], to=tmp_path)

    NET().load_state_dict(load_file(file))


def test_the_recipe_of_a_job_trains_it_again(service: Any, digits_job: dict[str, Any]) -> None:
    again = service.client.plan(digits_job["recipe"])
    assert again["recipe"] == digits_job["recipe"]


def test_a_folder_of_ones_own_trains(service: Any) -> None:
    chance = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 8)):
        for label, shade in (("黑猫", 40), ("white cat", 210)):
            folder = service.datasets / "my-cats" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                noise = chance.normal(shade, 20, (24, 24, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(folder / f"{number}.jpg")
    broken = service.datasets / "my-cats" / "train" / "黑猫" / "broken.jpg"
    broken.write_bytes(b"no image")
    job = trained(service, {"dataset": "My_Cats", "epochs": 6, "seed": 0})
    assert job["metrics"]["test_accuracy"] == 1
    assert {w["code"] for w in job["warnings"]} == {"validation_tiny", "unreadable_images"}
    page = service.client.dataset_images("my-cats", split="test")
    for item in page["items"][::5]:
        answer = service.client.predict(("cat.jpg", service.client.image(item)), model=job["id"])
        assert answer["predictions"][0]["label"] == item["label"]


def photos(folder: Path) -> None:
    """Two classes that are hard to tell apart; every fifth image is a photo of 4 megapixels."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 30)):
        for label, shade in (("day", 140), ("night", 116)):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                noise = chance.normal(shade, 50, (12, 16, 3)).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(noise)
                if large := number % 5 == 0:
                    image = image.resize((2400, 1800))
                suffix = "jpg" if large or number % 2 else "png"
                image.save(folder / part / label / f"{number}.{suffix}")


def test_served_files_get_the_labels_of_the_trainer_and_an_alias_is_promoted(service: Any) -> None:
    photos(service.datasets / "photos")
    recipe = {"dataset": "photos", "architecture": "cifar10_net", "image_size": 32, "epochs": 2}
    job = trained(service, {**recipe, "seed": 0, "promote": {"alias": "photos"}})
    report = service.client.report(job["best_checkpoint_id"])
    assert report["judged_on"] == "validation"
    assert report["parity"] == {
        "passed": True, "count": 60, "different": 0, "allowed": 1, "largest_margin": None,
    }  # fmt: skip

    items = service.client.dataset_images("photos", split="val", limit=100)["items"]
    files = [(f"{place}", service.client.image(item)) for place, item in enumerate(items)]
    assert max(len(data) for _, data in files) > 100_000
    answer = service.client.predict(*files, model="photos")

    assert answer["checkpoint_id"] == job["best_checkpoint_id"]
    confusion = np.zeros((2, 2), int)
    for item, said in zip(items, answer["predictions"], strict=True):
        confusion[("day", "night").index(item["label"]), said["index"]] += 1
    assert confusion.tolist() == report["confusion"]
    service.client.delete_model("photos")  # others name no model


def test_a_running_job_is_cancelled_within_five_seconds(service: Any) -> None:
    job = service.client.train({"dataset": "digits", "epochs": 10_000})
    deadline = time.monotonic() + 60
    while not service.client.checkpoints(job=job["id"])["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    began = time.monotonic()
    service.client.cancel(job["id"])
    ended = service.client.wait(job["id"], timeout_seconds=30)
    assert ended["state"] == "cancelled"
    assert time.monotonic() - began < 5
    assert service.client.checkpoints(job=job["id"])["items"], "what it had is kept"
    again = httpx.post(f"{service.client.base_url}/jobs/{job['id']}/cancel")
    assert again.status_code == 200


def test_every_process_goes_with_its_parent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-P", "-m", "danlu", "serve", "--port", "0", "--json"]
    serve = subprocess.Popen(
        [*command, "--home", str(home)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert serve.stdout is not None
    try:
        address = json.loads(serve.stdout.readline())["url"]
        pids: set[int] = set()
        deadline = time.monotonic() + 90
        while len(pids) < 3 and time.monotonic() < deadline:
            time.sleep(0.3)
            shown = httpx.get(f"{address}/system", timeout=60).json()["processes"]
            pids = {p["pid"] for p in shown}
            roles = {p["role"] for p in shown}
        assert {"server", "supervisor"} <= roles
    finally:
        serve.kill()  # no chance to clean up
        serve.wait()
        serve.stdout.close()
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
