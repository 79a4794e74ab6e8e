"""The application as a whole: it starts without torch, and no address takes unknown words."""

import subprocess
import sys

import pytest


def test_importing_the_app_does_not_load_torch():
    code = "import sys, app.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
