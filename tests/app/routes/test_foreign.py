"""`POST /checkpoints`: what others trained comes in, and is used like what was trained here."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from database import jobs
from models_store import architectures, checkpoints, foreign, quarantine
from models_store.classifier import network_of
from models_store.manifest import Manifest
from tests.notes import Module

DIGITS = {"architecture": "lenet5", "classes": json.dumps(list("0123456789")), "input": "1x28x28"}


def lenet(classes: int = 10) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plan = architectures.plan("lenet5", channels=1, size=(28, 28), classes=classes)
        return architectures.build(plan).eval()


def saved(held: Any) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process: the one that is thrown away has tests of its own."""

    def receive(file: Path, manifest: Manifest, root: Path) -> quarantine.Arrived:
        folder, left_out = foreign.arrive(file, manifest, root)
        return quarantine.Arrived(checkpoints.disk_bytes(folder), left_out)

    monkeypatch.setattr(quarantine, "receive", receive)


@pytest.fixture(scope="session")
def weights() -> bytes:
    return saved(lenet().state_dict())


def send(server: Any, file: bytes, **fields: str | None) -> Any:
    data = {key: value for key, value in {**DIGITS, **fields}.items() if value is not None}
    return server.post("/checkpoints", files={"file": ("module_9.pth", file)}, data=data)


def left(server: Any) -> list[str]:
    """Files of uploads and of checkpoints."""
    folders = (server.settings.uploads, server.settings.checkpoints)
    return [path.name for folder in folders for path in folder.glob("*")]


def test_imported_weights_are_a_checkpoint_like_any_other(
    server: Any, weights: bytes, png: Callable[..., bytes], problem: Callable[..., Any]
) -> None:
    seen = {"channels": 1, "image_size": [28, 28], "normalize": {"mean": [0.1], "std": [0.3]}}
    response = send(server, weights, input=json.dumps(seen))
    assert response.status_code == 201, response.text
    item = response.json()
    assert response.headers["location"] == f"/checkpoints/{item['id']}"
    assert (item["job_id"], item["epoch"], item["best"]) == (None, 0, False)
    assert item["disk_bytes"] > 100_000
    assert server.get("/checkpoints").json()["items"] == [item]
    assert left(server) == [item["id"]]

    manifest = server.get(f"/checkpoints/{item['id']}").json()
    assert manifest["made_with"]["imported_from"] == "module_9.pth"
    assert manifest["preprocessing"]["normalize"] == seen["normalize"]
    folder = server.settings.checkpoints / item["id"]
    network = network_of(folder, checkpoints.read_manifest(folder))
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(network(images), lenet()(images), atol=1e-6, rtol=0)

    answer = server.post(f"/predict?model={item['id']}", files={"file": png()}).json()
    assert (answer["checkpoint_id"], answer["job_id"]) == (item["id"], None)
    for format_ in ("safetensors", "pt"):
        file = server.get(f"/checkpoints/{item['id']}/download?format={format_}")
        wanted = f'filename="module_9-imported-lenet5.{format_}"'
        assert wanted in file.headers["content-disposition"]
    problem(server.get(f"/checkpoints/{item['id']}/report"), 409, "not_evaluated")
    assert (
        server.post(f"/checkpoints/{item['id']}/exports", json={"format": "onnx"}).status_code
        == 202
    )
    with server.sessions.begin() as session:
        for job in jobs.find(session).items:
            jobs.cancel(session, job.id)
    assert server.delete(f"/checkpoints/{item['id']}").status_code == 204
    assert left(server) == []


def _as_the_notes_do(file: bytes) -> torch.Tensor:
    """2.13.2: open, convert, Resize, ToTensor."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    return torch.reshape(transform(image), (1, 3, 32, 32))


def test_a_module_9_of_the_notes_predicts_what_the_notes_predict(server: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Module().eval()
    classes = ["airplane", "automobile", "bird", "cat", "deer"]
    classes += ["dog", "frog", "horse", "ship", "truck"]
    fields = {"architecture": "cifar10_net", "classes": json.dumps(classes), "input": "3x32x32"}
    imported = send(server, saved(model.state_dict()), **fields).json()
    chance = np.random.default_rng(0)
    files = []
    for _ in range(20):
        small = Image.fromarray(chance.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((61, 47), Image.Resampling.BICUBIC).save(file, "PNG")
        files.append(file.getvalue())
    parts = [("file", (f"{number}.png", file)) for number, file in enumerate(files)]
    answer = server.post(f"/predict?model={imported['id']}&top_k=10", files=parts).json()
    for file_bytes, each in zip(files, answer["predictions"], strict=True):
        with torch.no_grad():
            output = model(_as_the_notes_do(file_bytes))
        assert each["top"][0]["label"] == classes[output.argmax(1)]
        told = {one["label"]: one["probability"] for one in each["top"]}
        expected = output.softmax(1)[0].tolist()
        assert [told[name] for name in classes] == pytest.approx(expected, abs=1e-5)


def test_a_network_starts_from_a_checkpoint(
    server: Any, train: Callable[..., Any], problem: Callable[..., Any]
) -> None:
    made = train(server.settings)
    first = made.best
    asked = {"dataset": "digits", "init_from": first, "freeze_backbone": True, "head_lr": 0.1}
    job = server.post("/train", json=asked).json()
    assert job["recipe"]["init_from"] == first
    assert job["recipe"]["architecture"] == "mnist_net"
    again = server.post("/train", json=job["recipe"])
    assert again.status_code == 202, again.text

    # A job needs it now.
    found = problem(server.delete(f"/checkpoints/{first}"), 409, "checkpoint_in_use")
    assert "which has not ended" in found["detail"]

    refused = server.post("/train", json={**asked, "architecture": "lenet5"})
    found = problem(refused, 422, "weights_misfit")
    assert found["errors"][0]["loc"][:2] == ["body", "init_from"]
    of_job = server.post("/train", json={**asked, "init_from": made.job_id})
    found = problem(of_job, 404, "checkpoint_not_found")
    assert found["errors"][0]["loc"] == ["body", "init_from"]
    assert found["detail"].endswith("is a job, not a checkpoint.")
    assert found["hint"] == f"Its best one: {first}."
    of_job = server.post("/train", json={**asked, "init_from": job["id"]})
    assert "It has none so far" in problem(of_job, 404, "checkpoint_not_found")["hint"]

    unknown = "ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD"
    for name in (unknown, unknown.replace("ckpt", "job"), "ckpt_../../etc", "nonsense"):
        refused = server.post("/train", json={**asked, "init_from": name})
        assert problem(refused, 404, "checkpoint_not_found")["errors"][0]["loc"] == [
            "body",
            "init_from",
        ]


@pytest.mark.parametrize(
    ("fields", "code", "loc"),
    [
        ({"architecture": None}, "invalid_request", ["body", "architecture"]),
        ({"classes": None}, "invalid_request", ["body", "classes"]),
        ({"input": None}, "invalid_request", ["body", "input"]),
        ({"architecture": "lenet6"}, "architecture_unknown", ["body", "architecture"]),
        ({"architecture": "{"}, "invalid_request", ["body", "architecture"]),
        (
            {"architecture": '{"layers": [{"type": "Conv3d"}]}'},
            "invalid_request",
            ["body", "architecture", "layers", 0],
        ),
        ({"classes": "cat,dog"}, "invalid_request", ["body", "classes"]),
        ({"classes": '["a", "a"]'}, "invalid_request", ["body", "classes"]),
        ({"classes": json.dumps(["a" * 90] * 900)}, "invalid_request", ["body", "classes"]),
        ({"classes": "[]"}, "invalid_request", ["body", "classes"]),
        ({"classes": '["a", 7]'}, "invalid_request", ["body", "classes", 1]),
        ({"input": "28x28"}, "invalid_request", ["body", "input"]),
        ({"input": "2x28x28"}, "invalid_request", ["body", "input"]),
        ({"input": "28x30x1"}, "invalid_request", ["body", "input"]),
        ({"input": "1x5x5"}, "network_misfit", ["body", "input"]),
        (
            {"input": '{"channels": 1, "image_size": 28, "size": 3}'},
            "unknown_field",
            ["body", "input", "size"],
        ),
        (
            {"input": '{"channels": 1, "image_size": 9, "normalize": {"mean": [1], "std": []}}'},
            "invalid_request",
            ["body", "input"],
        ),
        ({"name": "x"}, "unknown_parameter", ["body", "name"]),
    ],
)
def test_what_is_wrong_with_the_form_is_said(
    shared: Any, fields: dict[str, str | None], code: str, loc: list[Any]
) -> None:
    response = send(shared, b"never looked at", **fields)
    found = response.json()
    assert found["code"] == code, found
    assert found["errors"][0]["loc"][: len(loc)] == loc, found
    assert response.status_code < 500
    assert list(shared.settings.uploads.glob("*")) == []


def test_channels_that_come_last_are_told_as_such(shared: Any) -> None:
    found = send(shared, b"never looked at", input="28x30x1").json()
    assert found["detail"] == "input: The channels come first: write 1x28x30."
    assert found["hint"] == "-F input=1x28x30"


def test_a_file_that_is_refused_leaves_nothing(server: Any, problem: Callable[..., Any]) -> None:
    found = problem(send(server, saved(lenet())), 400, "model_file_invalid")
    assert "torch.save(model.state_dict()" in found["hint"]
    found = problem(send(server, saved(lenet(7).state_dict())), 422, "weights_misfit")
    assert "classes" in found["hint"]
    assert found["errors"][0] == {
        "loc": ["body", "file", "11.weight"],
        "msg": "7x84 there, 10x84 in this network",
    }
    found = problem(send(server, pickle.dumps(lenet())), 400, "model_file_invalid")
    assert "pickle.dump wrote, not torch.save" in found["detail"]
    assert "held.state_dict()" in found["hint"]
    assert "file of weights has no bytes" in problem(send(server, b""), 400, "empty_file")["detail"]
    problem(server.post("/checkpoints", data=DIGITS), 415, "unsupported_media_type")
    fields = {name: (None, text) for name, text in DIGITS.items()}  # a form without a file
    found = problem(server.post("/checkpoints", files=fields), 422, "no_file")
    assert found["title"] == "No file was sent"
    assert "which is to hold the file of weights" in found["detail"]
    assert found["hint"] == "curl -F file=@model.pth URL"
    assert left(server) == []
    assert server.get("/checkpoints").json()["items"] == []


def test_one_that_is_too_large_is_refused(serve: Any, settings: Any, problem: Any) -> None:
    small = settings.model_copy(update={"max_model_bytes": 1000})
    with serve(small) as server:
        problem(send(server, b"x" * 1001), 413, "body_too_large")
        problem(send(server, b"x" * 5_000_000), 413, "body_too_large")
        assert left(server) == []
