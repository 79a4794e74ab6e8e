"""Checkpoints over HTTP: lists, manifests, downloads that load elsewhere, deletion."""

import io

import pytest
import torch
from PIL import Image
from safetensors.torch import load as load_safetensors

from models_store import architectures, report


def test_a_list_newest_first(shared, trained):
    page = shared.get("/checkpoints").json()
    assert [one["id"] for one in page["items"]] == trained.checkpoint_ids[::-1]
    assert [one["best"] for one in page["items"]] == [True, False]
    assert set(page["items"][0]) == {
        *("id", "job_id", "epoch", "val_accuracy", "val_loss", "best", "disk_bytes", "created_at"),
    }


def test_a_list_of_one_job_in_pages(shared, trained):
    query = f"/checkpoints?job={trained.job_id}&limit=1"
    first = shared.get(query).json()
    rest = shared.get(f"{query}&cursor={first['next_cursor']}").json()
    assert [p["items"][0]["epoch"] for p in (first, rest)] == [2, 1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("job", ["job_01K00000000000000000000000", "../etc"])
def test_a_list_of_a_job_that_does_not_exist(shared, problem, job):
    problem(shared.get("/checkpoints", params={"job": job}), 404, "job_not_found")


def test_a_manifest(shared, trained):
    manifest = shared.get(f"/checkpoints/{trained.best}").json()
    assert manifest["id"] == trained.best
    assert manifest["job_id"] == trained.job_id
    assert manifest["classes"] == [str(digit) for digit in range(10)]
    assert manifest["preprocessing"]["height"] == 28
    assert set(manifest["files"]) == {"model.safetensors"}


MISSING = ["ckpt_01K00000000000000000000000", "nope", "%2e%2e", "..%2f..%2fetc", "job_01K0"]


@pytest.mark.parametrize("checkpoint_id", MISSING)
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/download"), ("DELETE", "")])
def test_a_checkpoint_that_does_not_exist(shared, problem, checkpoint_id, method, suffix):
    response = shared.request(method, f"/checkpoints/{checkpoint_id}{suffix}")
    assert problem(response, 404, response.json()["code"])["code"] in (
        *("checkpoint_not_found", "not_found"),
    )


@pytest.mark.parametrize("format_", ["safetensors", "pt"])
def test_downloaded_weights_load_into_the_plain_network(shared, trained, format_):
    response = shared.get(f"/checkpoints/{trained.best}/download?format={format_}")
    assert response.status_code == 200
    name = f"Try-1-mnist_net-e2-0.920.{format_}"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    if format_ == "pt":
        state = torch.load(io.BytesIO(response.content), weights_only=True)
    else:
        state = load_safetensors(response.content)
    plan = architectures.plan("mnist_net", channels=1, size=(28, 28), classes=10)
    network = architectures.build(plan)
    network.load_state_dict(state)
    if format_ == "pt":  # in the network's own order, as whoever saved it would have it
        assert list(state) == list(network.state_dict())


def test_weights_of_a_network_of_ones_own_are_named_so(server, train):
    trained = train(server.settings)
    file = server.settings.checkpoints / trained.best / "manifest.json"
    named, own = '"architecture": "mnist_net"', '"architecture": {"layers": []}'
    assert named in file.read_text()
    file.write_text(file.read_text().replace(named, own, 1))
    response = server.get(f"/checkpoints/{trained.best}/download")
    assert 'filename="Try-1-own-e2-0.920.safetensors"' in response.headers["content-disposition"]


def test_safetensors_is_the_default_format(shared, trained):
    response = shared.get(f"/checkpoints/{trained.best}/download")
    assert response.headers["content-disposition"].endswith('.safetensors"')


def test_a_download_in_parts(shared, trained):
    url = f"/checkpoints/{trained.best}/download"
    whole = shared.get(url).content
    response = shared.get(url, headers={"Range": "bytes=8-"})
    assert (response.status_code, response.content) == (206, whole[8:])
    several = shared.get(url, headers={"Range": "bytes=0-1,8-9"})
    assert several.status_code == 206
    paths = shared.get("/openapi.json").json()["paths"]
    described = paths["/checkpoints/{id}/download"]["get"]["responses"]["206"]["content"]
    kinds = [each.headers["content-type"].partition(";")[0] for each in (response, several)]
    assert set(kinds) <= described.keys()


@pytest.mark.parametrize("asked", ["items=0-1", "bytes=abc", "bytes=", "bytes=5-2", "bytes=0-0,x"])
def test_a_range_that_is_none_is_ignored(shared, trained, asked):
    url = f"/checkpoints/{trained.best}/download"
    response = shared.get(url, headers={"Range": asked})
    assert (response.status_code, response.content) == (200, shared.get(url).content)


def test_a_range_past_the_end(shared, trained, problem):
    url = f"/checkpoints/{trained.best}/download"
    response = shared.get(url, headers={"Range": "bytes=999999999-"})
    problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{len(shared.get(url).content)}"


@pytest.mark.parametrize("format_", ["safetensors", "pt"])
def test_weights_that_are_not_there(server, train, problem, format_):
    made = train(server.settings)
    (server.settings.checkpoints / made.best / "model.safetensors").unlink()
    url = f"/checkpoints/{made.best}/download?format={format_}"
    assert "is missing" in problem(server.get(url), 500, "checkpoint_damaged")["detail"]


@pytest.mark.parametrize("format_", ["onnx", "bundle"])
def test_formats_that_must_be_exported_first(shared, trained, problem, format_):
    url = f"/checkpoints/{trained.best}/download?format={format_}"
    assert "/exports" in problem(shared.get(url), 409, "not_exported")["hint"]


def test_a_format_that_does_not_exist(shared, trained, problem):
    url = f"/checkpoints/{trained.best}/download?format=pickle"
    problem(shared.get(url), 422, "invalid_request")


def test_deleting_frees_row_files_and_memory(server, train, png, problem):
    made = train(server.settings)
    assert server.post("/predict", files={"file": png()}).status_code == 200
    assert server.get("/system").json()["warm_models"] == [made.best]
    response = server.delete(f"/checkpoints/{made.best}")
    assert (response.status_code, response.content) == (204, b"")
    assert not (server.settings.checkpoints / made.best).exists()
    problem(server.get(f"/checkpoints/{made.best}"), 404, "checkpoint_not_found")
    problem(server.delete(f"/checkpoints/{made.best}"), 404, "checkpoint_not_found")
    assert server.get("/system").json()["warm_models"] == []
    # the next best takes its place
    assert server.get(f"/jobs/{made.job_id}").json()["best_checkpoint_id"] == made.checkpoint_ids[0]
    answer = server.post("/predict", files={"file": png()}).json()
    assert answer["checkpoint_id"] == made.checkpoint_ids[0]


def test_the_best_checkpoint_of_a_running_job_stays(server, train, problem):
    made = train(server.settings, end=None)
    problem(server.delete(f"/checkpoints/{made.best}"), 409, "checkpoint_in_use")
    assert (server.settings.checkpoints / made.best).exists()
    assert server.delete(f"/checkpoints/{made.checkpoint_ids[0]}").status_code == 204


@pytest.mark.parametrize("format_", ["safetensors", "pt"])
def test_damaged_files_are_told(server, train, problem, format_):
    made = train(server.settings)
    weights = server.settings.checkpoints / made.best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    url = f"/checkpoints/{made.best}/download?format={format_}"
    assert "not what was saved" in problem(server.get(url), 500, "checkpoint_damaged")["detail"]
    (server.settings.checkpoints / made.best / "manifest.json").write_text("{")
    problem(server.get(f"/checkpoints/{made.best}"), 500, "checkpoint_damaged")


def test_the_report_is_what_the_worker_left(shared, trained, judged):
    response = shared.get(f"/checkpoints/{trained.best}/report")
    assert response.status_code == 200
    assert response.json() == judged(trained.best).model_dump(mode="json")
    assert response.json()["parity"] is None


@pytest.mark.parametrize("picture", ["confusion.png", "mistakes.png"])
def test_pictures_of_a_report(shared, trained, picture):
    response = shared.get(f"/checkpoints/{trained.best}/{picture}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size > (300, 300)


@pytest.mark.parametrize("what", ["report", "confusion.png", "mistakes.png"])
def test_only_the_best_at_the_end_of_a_job_is_judged(shared, trained, problem, what):
    other = trained.checkpoint_ids[0]
    said = problem(shared.get(f"/checkpoints/{other}/{what}"), 409, "not_evaluated")
    assert "best checkpoint" in said["hint"]
    missing = "ckpt_01K00000000000000000000000"
    problem(shared.get(f"/checkpoints/{missing}/{what}"), 404, "checkpoint_not_found")
    problem(shared.get(f"/checkpoints/..%2F/{what}"), 404, "not_found")


def test_mistakes_in_a_data_set_that_is_not_there(server, train, judged, problem):
    made = train(server.settings)
    gone = judged(made.best, dataset={"name": "gone", "version": None})
    report.write(server.settings.checkpoints / made.best, gone)
    problem(server.get(f"/checkpoints/{made.best}/mistakes.png"), 404, "dataset_unknown")
    assert server.get(f"/checkpoints/{made.best}/confusion.png").status_code == 200
