"""`POST /checkpoints/{id}/exports`, and what may be downloaded after it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from database import jobs
from models_store import exports, report
from models_store.exports import Check, Export


def _publish(server: Any, checkpoint_id: str, job_id: str, format_: exports.Format) -> None:
    """What a worker leaves behind."""
    root = server.settings.checkpoints
    record = Export(
        format=format_,
        checkpoint_id=checkpoint_id,
        job_id=job_id,
        file=exports.FILES[format_],
        bytes=4,
        temperature=report.read_temperature(root / checkpoint_id) or 1.0,
        check=Check(
            images=1, of="noise", largest_difference=0.0, largest_logit=1.0, tolerance=1e-4
        ),
        made_with={},
        created_at=datetime.now(UTC),
    )
    with exports.unfinished(root, job_id, 1) as draft:
        made = draft / "made"
        made.write_bytes(b"made")
        exports.publish(root / checkpoint_id, made, record)


def _end(server: Any, job_id: str, state: jobs.State = jobs.State.succeeded) -> None:
    with server.sessions.begin() as session:
        jobs.claim(session, worker_id="w", host="h", device=None, kinds=("export",))
    with server.sessions.begin() as session:
        fence = jobs.fence_of(jobs.get(session, job_id))
        jobs.start(session, fence, pid=1, device=None)
        jobs.finish(session, fence, state=state, stop_reason=None)


@pytest.mark.parametrize(("format_", "ending"), [("onnx", "onnx"), ("bundle", "zip")])
def test_from_request_to_download(
    server: Any,
    train: Callable[..., Any],
    problem: Callable[..., Any],
    format_: exports.Format,
    ending: str,
) -> None:
    made = train(server.settings)
    best = made.best
    address, url = f"/checkpoints/{best}/exports", f"/checkpoints/{best}/download?format={format_}"
    found = problem(server.get(url), 409, "not_exported")
    assert f"URL/checkpoints/{best}/exports" in found["hint"]

    first = server.post(address, json={"format": format_}, headers={"X-Danlu-User": "lin"})
    assert first.status_code == 202
    job = first.json()
    assert first.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["owner"], job["recipe"]) == ("export", "lin", None)
    assert job["name"] == f"{best} as {format_}"
    again = server.post(address, json={"format": format_})
    assert (again.status_code, again.json()["id"]) == (202, job["id"])
    assert (
        "needed by"
        in problem(server.delete(f"/checkpoints/{best}"), 409, "checkpoint_in_use")["detail"]
    )

    assert (
        best in problem(server.delete(f"/jobs/{made.job_id}"), 409, "checkpoint_in_use")["detail"]
    )

    _publish(server, best, job["id"], format_)
    _end(server, job["id"])
    done = server.post(address, json={"format": format_})
    assert (done.status_code, done.json()["id"]) == (200, job["id"])
    assert done.headers["location"] == f"/jobs/{job['id']}"
    file = server.get(url)
    assert file.content == b"made"
    assert f"mnist_net-e2-0.920.{ending}" in file.headers["content-disposition"]
    paths = server.get("/openapi.json").json()["paths"]
    described = paths["/checkpoints/{id}/download"]["get"]["responses"]["200"]["content"]
    assert file.headers["content-type"] in described

    # Who made it is forgotten: the file is there, and asking makes it anew.
    assert server.delete(f"/jobs/{job['id']}").status_code == 204
    assert server.get(url).status_code == 200
    anew = server.post(address, json={"format": format_})
    assert anew.status_code == 202
    assert anew.json()["id"] != job["id"]


def test_one_that_a_failed_job_left_is_made_anew(server: Any, train: Callable[..., Any]) -> None:
    best = train(server.settings).best
    address = f"/checkpoints/{best}/exports"
    bundle = server.post(address, json={"format": "bundle"}).json()["id"]
    _publish(server, best, bundle, "onnx")
    during = server.post(address, json={"format": "onnx"})
    assert (during.status_code, during.json()["id"]) == (200, bundle)
    _end(server, bundle, jobs.State.failed)
    after = server.post(address, json={"format": "onnx"})
    assert (after.status_code, after.json()["state"]) == (202, "queued")


def test_one_of_before_the_judgement_is_not_given(
    server: Any, train: Callable[..., Any], problem: Callable[..., Any]
) -> None:
    made = train(server.settings)
    _publish(server, made.best, "job_x", "onnx")
    assert server.get(f"/checkpoints/{made.best}/download?format=onnx").status_code == 200
    folder = server.settings.checkpoints / made.best
    (folder / report.EVALUATION).write_text('{"calibration": {"temperature": 3.0}}')
    problem(server.get(f"/checkpoints/{made.best}/download?format=onnx"), 409, "not_exported")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"format": "tflite"}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"format": "onnx", "opset": 9}, 422, "unknown_field"),
    ],
)
def test_what_is_wrong_is_said(
    shared: Any, trained: Any, problem: Callable[..., Any], body: Any, status: int, code: str
) -> None:
    problem(shared.post(f"/checkpoints/{trained.best}/exports", json=body), status, code)
    problem(
        shared.post(
            "/checkpoints/ckpt_01K9ZC4B2M8Y6S0FJQ3KXGT7PD/exports", json={"format": "onnx"}
        ),
        404,
        "checkpoint_not_found",
    )
