"""HEAD: what GET would say, without its body."""

import pytest


@pytest.mark.parametrize("path", ["/healthz", "/jobs?limit=1", "/datasets/digits", "/docs"])
def test_head_is_get_without_a_body(shared, path):
    got, head = shared.get(path), shared.request("HEAD", path)

    assert head.status_code == got.status_code == 200
    assert head.content == b""
    changing = ("x-request-id", "date")
    assert {k: v for k, v in head.headers.items() if k not in changing} == {
        k: v for k, v in got.headers.items() if k not in changing
    }


def test_head_of_a_streamed_log(shared, trained):
    response = shared.request("HEAD", f"/jobs/{trained.job_id}/logs")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.content == b""


def test_head_of_what_does_not_exist(shared):
    assert shared.request("HEAD", "/nothing").status_code == 404


def test_head_of_an_address_that_only_takes_post(shared):
    response = shared.request("HEAD", "/train")

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
