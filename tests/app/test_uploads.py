"""What a body of images may look like; most of it is in routes/test_predict, over HTTP."""


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
