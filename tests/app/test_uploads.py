"""What a body of images may look like; most of it is in routes/test_predict, over HTTP."""

import time

import pytest

BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}


def test_files_too_large_for_memory_while_they_arrive(shared, trained, png):
    large = png(size=(1500, 1500))
    assert len(large) > 1_500_000
    response = shared.post("/predict", files=[("file", large), ("file", png())])
    assert [one["label"] for one in response.json()["predictions"]]


def test_a_field_of_many_bytes(shared, png, problem):
    sent = {"files": {"file": png()}, "data": {"model": "x" * 20_000}}
    problem(shared.post("/predict", **sent), 400, "invalid_multipart")


def test_a_part_of_another_name_beside_the_file(shared, png, problem):
    files = {"file": png(), "mask": png()}
    document = problem(shared.post("/predict", files=files), 422, "unknown_parameter")
    assert document["errors"][0]["loc"] == ["body", "mask"]


def test_content_types_are_read_without_case(shared, trained, png):
    import base64
    import json

    body = json.dumps({"image_base64": base64.b64encode(png()).decode()})
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert shared.post("/predict", content=body, headers=headers).status_code == 200


def test_thousands_of_parts_are_refused_in_no_time(shared, trained, png, problem):
    files = [("file", (f"{number}.png", b"x")) for number in range(5_000)]
    fields = {f"field{number}": "1" for number in range(5_000)}
    empty = b"".join(b"--x\r\n\r\n\r\n" for _ in range(5_000)) + b"--x--\r\n"
    began = time.perf_counter()
    problem(shared.post("/predict", files=files), 413, "too_many_files")
    sent = {"files": {"file": png()}, "data": fields}
    problem(shared.post("/predict", **sent), 400, "invalid_multipart")
    problem(shared.post("/predict", content=empty, headers=BOUNDARY), 400, "invalid_multipart")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("tenth", range(10))
def test_a_form_that_ends_in_the_middle_is_not_taken_for_a_shorter_one(shared, png, problem, tenth):
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    whole = head + png(1) + b"\r\n" + head + png(2) + b"\r\n--x--\r\n"
    cut = whole[: len(whole) * tenth // 10]
    response = shared.post("/predict", content=cut, headers=BOUNDARY)
    problem(response, response.status_code, response.json()["code"])
    assert response.json()["code"] in ("invalid_multipart", "no_file")
