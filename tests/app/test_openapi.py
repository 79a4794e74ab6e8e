"""The OpenAPI document: complete, tidy, and every operation of it called over HTTP."""

import io
import json
import re
from pathlib import Path
from typing import Any

import torch

from app.main import create_app
from settings import Settings

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def _foreign() -> dict[str, Any]:
    """A form with weights of a network of four numbers."""
    layers = [{"type": "Flatten"}, {"type": "Linear"}]
    file = io.BytesIO()
    torch.save({"model.1.weight": torch.ones(1, 4), "model.1.bias": torch.ones(1)}, file)
    fields = {"architecture": json.dumps({"layers": layers}), "classes": '["a"]', "input": "1x2x2"}
    return {"files": {"file": ("model.pth", file.getvalue())}, "data": fields}


def test_every_operation_is_called(server, train, png):
    """Show 7. The table is what the document lists; each call answers as the document says."""
    made, other = train(server.settings), train(server.settings).best
    queued = server.post("/train", json={"dataset": "digits"}).json()["id"]
    (server.settings.datasets / "own").mkdir(parents=True)
    weights, best, job = made.checkpoint_ids[0], made.best, made.job_id
    calls = [
        ("POST", "/train", "/train", {"json": {"dataset": "digits"}}, 202),
        ("GET", "/jobs", "/jobs?state=queued&limit=1", {}, 200),
        ("GET", "/jobs/{id}", f"/jobs/{job}?wait=1", {}, 200),
        ("GET", "/jobs/{id}/history", f"/jobs/{job}/history", {}, 200),
        ("GET", "/jobs/{id}/logs", f"/jobs/{job}/logs", {}, 200),
        ("GET", "/jobs/{id}/events", f"/jobs/{job}/events", {}, 200),
        ("GET", "/jobs/{id}/plot.png", f"/jobs/{job}/plot.png", {}, 200),
        ("GET", "/jobs/{id}/script", f"/jobs/{queued}/script", {}, 200),
        ("POST", "/jobs/{id}/cancel", f"/jobs/{queued}/cancel", {}, 202),
        ("POST", "/jobs/{id}/resume", f"/jobs/{queued}/resume", {}, 202),
        ("PATCH", "/jobs/{id}", f"/jobs/{queued}", {"json": {"name": "again"}}, 200),
        ("POST", "/predict", "/predict", {"files": {"file": png()}}, 200),
        ("PUT", "/models/{alias}", "/models/default", {"json": {"checkpoint": weights}}, 200),
        ("GET", "/models/{alias}", "/models/default", {}, 200),
        ("GET", "/models", "/models", {}, 200),
        ("DELETE", "/models/{alias}", "/models/default", {}, 204),
        ("GET", "/checkpoints", "/checkpoints", {}, 200),
        ("GET", "/checkpoints/{id}", f"/checkpoints/{weights}", {}, 200),
        ("GET", "/checkpoints/{id}/download", f"/checkpoints/{weights}/download", {}, 200),
        ("GET", "/checkpoints/{id}/report", f"/checkpoints/{best}/report", {}, 200),
        ("GET", "/checkpoints/{id}/confusion.png", f"/checkpoints/{best}/confusion.png", {}, 200),
        ("GET", "/checkpoints/{id}/mistakes.png", f"/checkpoints/{best}/mistakes.png", {}, 200),
        (
            *("POST", "/checkpoints/{id}/exports", f"/checkpoints/{other}/exports"),
            *({"json": {"format": "onnx"}}, 202),
        ),
        ("POST", "/checkpoints", "/checkpoints", _foreign(), 201),
        ("DELETE", "/checkpoints/{id}", f"/checkpoints/{weights}", {}, 204),
        ("DELETE", "/jobs/{id}", f"/jobs/{job}", {}, 204),
        ("GET", "/datasets", "/datasets", {}, 200),
        ("GET", "/datasets/{name}", "/datasets/digits", {}, 200),
        ("GET", "/datasets/{name}/images", "/datasets/digits/images?split=test", {}, 200),
        (
            *("GET", "/datasets/{name}/images/{split}/{index}"),
            *("/datasets/digits/images/test/0", {}, 200),
        ),
        ("POST", "/datasets", "/datasets", {"files": {"file": ("pets.zip", b"PK")}}, 202),
        ("PUT", "/datasets/{name}", "/datasets/cars?merge=true", {"content": b"PK"}, 202),
        ("DELETE", "/datasets/{name}", "/datasets/own", {}, 204),
        ("GET", "/datasets/{name}/samples.png", "/datasets/digits/samples.png", {}, 200),
        ("GET", "/architectures", "/architectures", {}, 200),
        ("GET", "/architectures/{name}", "/architectures/mnist_net", {}, 200),
        ("GET", "/recipes", "/recipes", {}, 200),
        ("GET", "/system", "/system", {}, 200),
        ("GET", "/healthz", "/healthz", {}, 200),
        ("GET", "/metrics", "/metrics", {}, 200),
        ("GET", "/readyz", "/readyz", {}, 200),
    ]
    document = server.get("/openapi.json").json()
    listed = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert {call[:2] for call in calls} == listed
    for method, path, url, content, status in calls:
        response = server.request(method, url, **content)
        assert response.status_code == status, (method, url, response.text)
        described = document["paths"][path][method.lower()]["responses"]
        assert str(status) in described, (method, path)


def test_every_operation_is_described(shared):
    document = shared.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert re.fullmatch(r"[a-z_]+", operation["operationId"]), where
            assert operation["tags"], where
            errors = [r for s, r in operation["responses"].items() if s >= "400"]
            assert errors, where
            assert all("application/problem+json" in error["content"] for error in errors), where


def test_every_body_may_be_refused(shared):
    """As no JSON, too slow, too large, or of another kind."""
    for path, item in shared.get("/openapi.json").json()["paths"].items():
        for method, operation in item.items():
            if "requestBody" in operation:
                refused = {"400", "408", "413", "415", "422"}
                assert refused <= operation["responses"].keys(), (method, path)


def test_a_job_that_was_made_before_has_its_address_too(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    exports = paths["/checkpoints/{id}/exports"]["post"]
    for operation in (paths["/datasets"]["post"], paths["/datasets/{name}"]["put"], exports):
        for status in ("200", "202"):
            assert "Location" in operation["responses"][status]["headers"]


def test_operation_ids_are_unique(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    ids = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_bodies_and_answers_have_examples(shared):
    document = shared.get("/openapi.json").json()
    body = document["paths"]["/train"]["post"]["requestBody"]["content"]["application/json"]
    assert {"digits", "notes"} <= set(body["examples"])
    assert "example" in json.dumps(document["components"]["schemas"]["JobRead"])
    assert "example" in json.dumps(document["components"]["schemas"]["AnswerRead"])


def test_every_answer_has_an_example(shared):
    document = shared.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def has_example(schema: dict) -> bool:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        items = schema.get("properties", {}).get("items", {}).get("items")
        return "examples" in schema or "const" in str(schema) or (items and has_example(items))

    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    shown = "example" in content or "examples" in content
                    if kind == "application/json":
                        assert shown or has_example(content["schema"]), (method, path, status)


def test_the_examples_of_train_are_valid(shared):
    document = shared.get("/openapi.json").json()
    body = document["paths"]["/train"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        response = shared.post("/train?dry_run=true", json=example["value"])
        assert response.status_code == 200, response.text


def test_the_example_of_predict_is_an_image(shared, trained):
    document = shared.get("/openapi.json").json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    response = shared.post("/predict", json=content["application/json"]["example"])
    assert response.status_code == 200, response.text


def test_files_are_binary_so_that_swagger_ui_shows_a_file_picker(shared):
    document = shared.get("/openapi.json").json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    files = content["multipart/form-data"]["schema"]["properties"]["file"]
    assert files["type"] == "array"
    assert files["items"] == {"type": "string", "format": "binary"}


def test_archives_are_binary_too(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    form = paths["/datasets"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"type": "string", "format": "binary"}.items() <= form["properties"]["file"].items()
    raw = paths["/datasets/{name}"]["put"]["requestBody"]["content"]["application/octet-stream"]
    assert raw["schema"] == {"type": "string", "format": "binary"}


def test_every_reference_leads_somewhere(shared):
    document = shared.get("/openapi.json").json()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_committed_copy_is_what_is_served(tmp_path):
    """A change of the wire is seen in review: `make openapi` writes the copy anew."""
    served = create_app(Settings(home=tmp_path)).openapi()
    assert json.loads(COMMITTED.read_text()) == json.loads(json.dumps(served)), "run make openapi"
