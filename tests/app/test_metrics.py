"""What Prometheus is told, read as Prometheus reads it."""

import dataclasses
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from app import metrics
from app.figures import Serving
from app.predictor import Asked, Bounds, Predictor
from database import processes
from problems import Problem

GUIDE = (Path(__file__).parents[2] / "docs/guide/monitoring.md").read_text()
OPEN = {"Accept": "application/openmetrics-text; version=1.0.0"}


def families(server, **headers) -> dict[str, Metric]:
    text = server.get("/metrics", headers=headers).text
    return {family.name: family for family in parse_plain(text)}


def value(server, sample: str, **labels: str) -> float:
    """The sample's value; 0 for one that is not told."""
    found = [
        one.value
        for family in families(server).values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    return sum(found)


def table() -> Iterator[tuple[str, str, set[str]]]:
    """Name, kind and labels of the metrics in the guide."""
    for row in re.findall(r"^\| `(danlu_\w+)` \| (\w+) \| (.*?) ?\| .* \|$", GUIDE, re.MULTILINE):
        yield row[0], row[1], set(re.findall(r"`(\w+)`", row[2]))


def test_it_is_text_that_prometheus_reads(shared):
    response = shared.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families(shared)["process_resident_memory_bytes"].samples[0].value > 1e6
    assert "python_info" in families(shared)


def test_it_is_open_metrics_for_who_asks(shared):
    response = shared.get("/metrics", headers=OPEN)
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1")
    found = {family.name: family for family in parse_open(response.text)}  # a strict reader
    assert found["danlu"].type == "info"  # the text above knows none, and makes it a gauge
    assert found["danlu_http_requests"].type == "counter"


@pytest.mark.parametrize("accept", ["", "*/*", "image/png", "text/plain; version=banana", "é;;=,"])
def test_other_wishes_get_the_text(shared, accept):
    response = shared.get("/metrics", headers={"Accept": accept.encode()})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_names_are_as_prometheus_wants_them(shared):
    shared.get("/healthz")
    for name, family in families(shared).items():
        assert family.documentation, name
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
        assert not re.search(r"_(milliseconds|ms|minutes|kb|mb|percent|gauge|counter)\b", name)
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name == f"{name}_total"
            elif family.type == "gauge":
                assert sample.name == name
                assert not name.endswith(("_total", "_count", "_sum", "_bucket"))


def test_the_guide_tells_of_each(shared, png, trained):
    shared.post(f"/predict?model={trained.best}", content=png())
    told = {
        f"{name}_total" if family.type == "counter" else name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for name, family in families(shared).items()
        if name.startswith("danlu_")
    }

    assert {name: (kind, labels) for name, kind, labels in table()} == told
    bases = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"danlu_\w+", GUIDE)}
    assert bases - {"danlu_model_", "danlu_predict_"} == set(told)


def test_the_guides_files_are_yaml():
    scrape, rules = (yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", GUIDE, re.S))
    [job] = scrape["scrape_configs"]
    assert job["authorization"].keys() == {"credentials_file"}
    assert len(rules["groups"][0]["rules"]) == 3


# Requests


def test_requests_are_counted_by_their_route(server):
    for method, path in [
        *(("GET", "/jobs/job_1"), ("HEAD", "/jobs/job_2"), ("PATCH", "/jobs/job_3?nope=1")),
        *(("GET", "/nothing/here"), ("BREW", "/jobs"), ("GET", "/docs/errors/internal")),
    ]:
        server.request(method, path)

    counted = families(server)["danlu_http_requests"].samples

    assert {tuple(one.labels.values()): one.value for one in counted} == {
        ("GET", "/jobs/{id}", "404"): 2,
        ("PATCH", "/jobs/{id}", "422"): 1,
        ("GET", "other", "404"): 1,
        ("other", "/jobs", "405"): 1,
        ("GET", "/docs/errors/{code}", "200"): 1,
    }


def test_buckets_hold_what_those_before_them_hold(server):
    for path in ("/jobs", "/jobs", "/jobs?wait=30"):
        server.get(path)
    told = families(server)["danlu_http_request_duration_seconds"].samples
    told = [one for one in told if one.labels["route"] == "/jobs"]

    buckets = [one for one in told if one.name.endswith("_bucket")]
    [count] = [one.value for one in told if one.name.endswith("_count")]
    [seconds] = [one.value for one in told if one.name.endswith("_sum")]

    bounds = [float(one.labels["le"]) for one in buckets]
    values = [one.value for one in buckets]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    assert values == sorted(values)
    assert values[-1] == count == 2  # the one that asked to wait is left out
    assert 0 < seconds < 60


def test_it_needs_the_key_and_counts_who_came_without(keyed, key, problem):
    problem(keyed.get("/metrics"), 401, "key_missing")
    response = keyed.get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert 'method="GET",route="other",status="401"' in response.text


def test_it_takes_no_parameters(shared, problem):
    problem(shared.get("/metrics?name=danlu_jobs"), 422, "unknown_parameter")


# Predictions


def test_predictions_batches_and_the_model_that_is_warm(shared, png, trained):
    address = f"/predict?model={trained.best}"
    of_model = {"checkpoint": trained.best}
    shared.post(address, content=png())  # loads it, where no other test has

    def read() -> list[float]:
        return [
            value(shared, "danlu_predict_requests_total", result="answered"),
            value(shared, "danlu_predict_batch_images_sum"),
            value(shared, "danlu_predict_batch_images_count"),
            value(shared, "danlu_predict_batch_duration_seconds_count"),
            value(shared, "danlu_model_images_total", **of_model),
            value(shared, "danlu_model_requests_total", **of_model),
            value(
                shared, "danlu_http_requests_total", route="/predict", method="POST", status="200"
            ),
        ]

    before = read()
    files = [("file", (f"{seed}.png", png(seed))) for seed in range(3)]
    assert shared.post(address, files=files).status_code == 200

    assert [now - then for now, then in zip(read(), before, strict=True)] == [1, 3, 1, 1, 3, 1, 1]
    assert value(shared, "danlu_warm_models") >= 1
    assert value(shared, "danlu_model_processes", **of_model) >= 1
    memory = value(shared, "danlu_model_memory_bytes", **of_model)
    assert 100_000 < memory <= value(shared, "danlu_warm_models_memory_bytes")
    assert value(shared, "danlu_model_compute_seconds_total", **of_model) > 0
    assert value(shared, "danlu_predict_processes", device="cpu") >= 1
    assert value(shared, "danlu_predict_queue_requests") == 0
    limit = shared.settings.predict_queue
    assert value(shared, "danlu_predict_queue_limit_requests") == limit


def test_what_is_dropped_and_what_fails(shared, png, trained):
    predictor: Predictor = shared.app.state.resources.predictor

    async def ask_and_go() -> None:
        with anyio.move_on_after(0):
            await predictor.classify(asked(trained.best, png()))

    before = [
        value(shared, "danlu_predict_requests_total", result=result)
        for result in ("dropped", "truncated_image")
    ]
    shared.portal.call(ask_and_go)
    shared.post(f"/predict?model={trained.best}", content=png()[:200])

    assert value(shared, "danlu_predict_requests_total", result="dropped") == before[0] + 1
    assert value(shared, "danlu_predict_requests_total", result="truncated_image") == before[1] + 1


def asked(checkpoint_id: str, image: bytes) -> Asked:
    return Asked(checkpoint_id, [None], [image], top_k=1, threshold=0.0, explain=None)


def test_what_is_refused(shared, png):
    pool = SimpleNamespace()  # which nobody comes to
    predictor = Predictor(
        pool, Bounds(0, request_bytes=0, seconds=1, processes=1, processes_beside=1)
    )
    with pytest.raises(Problem, match="wait"):
        shared.portal.call(predictor.classify, asked("ckpt_1", png()))
    assert predictor.tally.results == {"overloaded": 1}


def test_a_process_that_is_lost(shared, png, trained):
    shared.post(f"/predict?model={trained.best}", content=png())
    before = value(shared, "danlu_predict_processes_lost_total")
    [pid, _], *_ = shared.app.state.resources.predictor.pool.pids()
    os.kill(pid, 9)
    deadline = time.monotonic() + 20
    while value(shared, "danlu_predict_processes_lost_total") == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert shared.post(f"/predict?model={trained.best}", content=png()).status_code == 200


def test_no_more_than_a_hundred_models_are_told_of_one_by_one(shared):
    held = shared.app.state.resources
    warm = [Serving(f"ckpt_{n}", 1, "cpu", "fp32", 1000, n, n, 0.1 * n, {1: n}) for n in range(150)]
    idle = Serving("ckpt_idle", 0, None, None, 0, 10_000, 10_000, 1.0, {1: 10_000})
    predictor = SimpleNamespace(
        serving=lambda: [*warm, idle],
        tally=held.predictor.tally,
        pool=held.predictor.pool,
        requests=0,
    )
    text, _ = metrics.page(dataclasses.replace(held, predictor=predictor), "")
    found = {family.name: family.samples for family in parse_plain(text.decode())}
    told = {one.labels["checkpoint"] for one in found["danlu_model_images"]}
    assert told == {f"ckpt_{n}" for n in range(50, 150)}
    assert found["danlu_warm_models"][0].value == 150
    assert found["danlu_warm_models_memory_bytes"][0].value == 150_000


# Jobs


def test_jobs_by_state_and_workers(server):
    assert value(server, "danlu_jobs", state="queued") == 0
    assert value(server, "danlu_workers") == 0
    server.post("/train", json={"dataset": "digits"})
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=7, host="atlas")
    assert value(server, "danlu_jobs", state="queued") == 1
    assert value(server, "danlu_jobs") == 1
    assert value(server, "danlu_workers") == 1


def test_the_rest_is_told_without_a_database(server):
    home = server.settings.home
    home.rename(home.with_name("gone"))
    server.app.state.resources.database.dispose()
    try:
        found = families(server)
        assert found["danlu_database_up"].samples[0].value == 0
        assert "danlu_jobs" not in found
        assert "danlu_predict_requests" in found
    finally:
        home.with_name("gone").rename(home)
