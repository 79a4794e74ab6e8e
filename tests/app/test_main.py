"""The application as a whole: what surrounds every request, and that it starts without torch."""

import logging
import subprocess
import sys

import pytest


def test_importing_the_app_does_not_load_torch():
    code = "import sys, app.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_response_has_a_request_id(shared):
    ids = {shared.get("/healthz").headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert shared.get("/nothing").headers["x-request-id"]


def test_the_callers_request_id_is_kept(shared):
    sent = {"X-Request-Id": "me-42"}
    assert shared.get("/jobs", headers=sent).headers["x-request-id"] == "me-42"


@pytest.mark.parametrize("hostile", ["x" * 200, "two words", "café"])
def test_a_request_id_that_is_long_or_unprintable_is_replaced(shared, hostile):
    sent = {b"X-Request-Id": hostile.encode()}
    assert shared.get("/jobs", headers=sent).headers["x-request-id"].startswith("req_")


def test_an_address_that_does_not_exist(shared, problem):
    assert "/docs" in problem(shared.get("/trian"), 404, "not_found")["hint"]


def test_a_method_that_an_address_does_not_take(shared, problem):
    response = shared.delete("/train")
    assert "POST" in problem(response, 405, "method_not_allowed")["hint"]
    assert response.headers["allow"] == "POST"


def test_what_nobody_foresaw_is_a_problem_without_a_traceback(server, problem, caplog):
    def fail() -> None:
        raise ZeroDivisionError("the secret of the house")

    server.app.add_api_route("/boom", fail)
    with caplog.at_level(logging.ERROR):
        response = server.get("/boom")
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-request-id"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/system",
        "/jobs",
        "/checkpoints",
        "/datasets",
        "/datasets/digits",
        "/datasets/digits/images",
        "/datasets/digits/images/test/0",
        "/architectures",
        "/architectures/mnist_net",
        "/recipes",
    ],
)
def test_unknown_query_parameters_are_refused_by_name(shared, problem, path):
    document = problem(shared.get(path, params={"colour": "red"}), 422, "unknown_parameter")
    assert "'colour'" in document["detail"]
    assert document["errors"] == [{"loc": ["query", "colour"], "msg": "unknown parameter"}]


@pytest.mark.parametrize("suffix", ["", "/history", "/logs"])
def test_unknown_query_parameters_of_a_job(shared, problem, trained, suffix):
    url = f"/jobs/{trained.job_id}{suffix}?foo=1"
    problem(shared.get(url), 422, "unknown_parameter")


def test_an_unknown_parameter_that_is_nearly_known(shared, problem):
    document = problem(shared.get("/jobs?stat=queued"), 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'state'?"
    document = problem(shared.post("/train?dryrun=true", json={}), 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'dry_run'?"
