"""`POST /predict`: the three kinds of body, many files, and everything that can be wrong."""

import base64
import contextlib
import io
import os
import signal
import time
import zlib
from concurrent.futures import wait as wait_for

import numpy as np
import pytest
from PIL import Image
from starlette.requests import ClientDisconnect

from app import upkeep
from models_store.classifier import Classifier
from settings import Settings
from tests import heic

PREDICTION = {
    *("filename", "label", "index", "probability", "unknown", "top", "warnings", "explanation"),
}


def test_an_image_as_a_file(shared, trained, png):
    response = shared.post("/predict", files={"file": ("7.png", png(), "image/png")})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"checkpoint_id", "job_id", "model", "predictions"}
    assert (answer["checkpoint_id"], answer["job_id"]) == (trained.best, trained.job_id)
    assert answer["model"] is None
    [one] = answer["predictions"]
    assert set(one) == PREDICTION
    assert one["filename"] == "7.png"
    assert one["explanation"] is None
    assert one["unknown"] is False
    assert one["top"][0] == {k: one[k] for k in ("label", "index", "probability")}
    assert len(one["top"]) == 5
    assert "predict;dur=" in response.headers["server-timing"]


def test_probabilities_are_those_of_the_checkpoint(shared, trained, png):
    answer = shared.post("/predict?top_k=10", files={"file": png(3)}).json()
    top = answer["predictions"][0]["top"]
    expected = Classifier.load(shared.settings.checkpoints / trained.best).classify([png(3)])
    by_index = {guess["index"]: guess["probability"] for guess in top}
    for index, probability in enumerate(expected[0].probabilities):
        assert by_index[index] == pytest.approx(float(probability), abs=1e-3)
    assert [g["probability"] for g in top] == sorted(by_index.values(), reverse=True)
    assert sum(by_index.values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", [None, "image/png", "application/octet-stream", "text/html"])
def test_an_image_as_it_is_whatever_its_content_type(shared, trained, png, kind):
    headers = {"Content-Type": kind} if kind else {}
    raw = shared.post("/predict", content=png(), headers=headers)
    assert raw.status_code == 200, raw.text
    as_file = shared.post("/predict", files={"file": png()})
    assert raw.json()["predictions"][0]["top"] == as_file.json()["predictions"][0]["top"]
    assert raw.json()["predictions"][0]["filename"] is None


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("finish", [lambda t: t, lambda t: t.rstrip("="), lambda t: t + "\n"])
def test_an_image_in_json(shared, trained, png, prefix, finish):
    text = finish(prefix + base64.b64encode(png()).decode())
    response = shared.post("/predict", json={"image_base64": text})
    assert response.status_code == 200, response.text
    as_file = shared.post("/predict", files={"file": png()})
    assert response.json()["predictions"][0]["top"] == as_file.json()["predictions"][0]["top"]


def test_many_files_in_order_with_an_error_for_each_bad_one(shared, trained, png):
    files = [
        ("file", ("a.png", png(1))),
        ("file", ("b.txt", b"hello")),
        ("file", ("c.png", png(2))),
        ("file", ("d.png", b"")),
        ("file", ("e.png", png(3)[:200])),
    ]
    response = shared.post("/predict", files=files)
    assert response.status_code == 200
    found = response.json()["predictions"]
    assert [one["filename"] for one in found] == ["a.png", "b.txt", "c.png", "d.png", "e.png"]
    codes = [one["error"]["code"] if "error" in one else None for one in found]
    assert codes == [None, "not_an_image", None, "empty_file", "truncated_image"]
    assert set(found[1]) == {"filename", "error"}
    assert set(found[1]["error"]) == {"code", "message", "hint"}


def test_a_batch_and_its_images_one_by_one_agree(shared, trained, png):
    images = [png(seed) for seed in range(9)]
    together = shared.post("/predict?top_k=10", files=[("file", data) for data in images])
    for data, one in zip(images, together.json()["predictions"], strict=True):
        alone = shared.post("/predict?top_k=10", files={"file": data}).json()["predictions"][0]
        assert alone["label"] == one["label"]
        for left, right in zip(alone["top"], one["top"], strict=True):
            assert left["probability"] == pytest.approx(right["probability"], abs=1e-3)


@pytest.mark.parametrize("where", ["query", "form"])
def test_options_in_the_query_or_in_the_form(shared, trained, png, where):
    options = {"model": trained.checkpoint_ids[0], "top_k": "2", "threshold": "1"}
    sent = {"params": options} if where == "query" else {"data": options}
    answer = shared.post("/predict", files={"file": png()}, **sent).json()
    assert answer["checkpoint_id"] == answer["model"] == trained.checkpoint_ids[0]
    assert len(answer["predictions"][0]["top"]) == 2
    assert answer["predictions"][0]["unknown"] is True
    assert answer["predictions"][0]["label"]


def test_empty_form_fields_are_as_good_as_none(shared, trained, png):
    data = {"model": "", "top_k": "", "explain": ""}
    assert shared.post("/predict", files={"file": png()}, data=data).status_code == 200


def test_a_job_as_the_model(shared, trained, png):
    answer = shared.post(f"/predict?model={trained.job_id}", files={"file": png()}).json()
    assert answer["checkpoint_id"] == trained.best
    assert answer["model"] == trained.job_id


def test_warnings(server, train, png):
    train(server.settings, invert_from_border=0.0)
    data = [png(border=255), png(size=(14, 14)), png(size=(120, 30)), _animated()]
    found = server.post("/predict", files=[("file", one) for one in data]).json()["predictions"]
    assert [one["warnings"] for one in found] == [
        ["inverted"],
        ["upscaled"],
        ["extreme_aspect_ratio"],
        ["first_frame_only"],
    ]


def test_odd_but_valid_images_are_classified(shared, trained):
    for data in _odd_images():
        response = shared.post("/predict", content=data)
        assert response.status_code == 200, response.text


def test_no_model_yet(server, png, problem):
    document = problem(server.post("/predict", files={"file": png()}), 404, "no_model_yet")
    assert "POST /train" in document["hint"]


@pytest.mark.parametrize(
    "model",
    ["cats", "../etc", "ckpt_01K00000000000000000000000", "job_01K00000000000000000000000"],
)
def test_a_model_that_does_not_exist(shared, png, problem, model):
    response = shared.post("/predict", params={"model": model}, files={"file": png()})
    problem(response, 404, "model_not_found")


def test_a_job_without_a_checkpoint_is_no_model_yet(server, png, problem):
    job_id = server.post("/train", json={"dataset": "digits"}).json()["id"]
    response = server.post(f"/predict?model={job_id}", files={"file": png()})
    assert "queued" in problem(response, 404, "model_not_found")["detail"]


BAD_BYTES = [
    (b"", "empty_file"),
    (b"hello", "not_an_image"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
    (b"%PDF-1.7 ", "unsupported_format"),
]


@pytest.mark.parametrize(("data", "code"), BAD_BYTES)
def test_of_one_file_the_error_is_the_status(shared, trained, problem, data, code):
    problem(shared.post("/predict", files={"file": ("x", data)}), 400, code)


def test_a_truncated_image(shared, trained, png, problem):
    document = problem(shared.post("/predict", content=png()[:300]), 400, "truncated_image")
    assert document["hint"]


def test_an_image_of_200_megapixels_in_a_few_kilobytes(shared, trained, problem):
    rows = zlib.compress(b"\0" * 200_000, 9)
    bomb = _png_header(20_000, 10_000) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    assert len(bomb) < 10_000
    document = problem(shared.post("/predict", content=bomb), 413, "image_too_large")
    assert document["hint"]


def test_what_curl_d_makes_of_an_image(shared, trained, png, problem):
    sent = png().replace(b"\r", b"").replace(b"\n", b"")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = shared.post("/predict", content=sent, headers=headers)
    assert "--data-binary" in problem(response, 400, response.json()["code"])["hint"]


@pytest.mark.parametrize(
    ("parts", "hint"),
    [
        ({"files": {"image": ("a.png", b"x")}}, "'image'"),
        ({"files": {"file": (None, "a.png")}}, "@"),
        ({"files": {"model": (None, "")}}, "curl -F"),
        ({}, "curl -F"),
    ],
)
def test_no_part_named_file(shared, problem, parts, hint):
    assert hint in problem(shared.post("/predict", **parts), 422, "no_file")["hint"]


def test_an_empty_body_that_says_to_be_an_image(shared, trained, problem):
    response = shared.post("/predict", content=b"", headers={"Content-Type": "image/png"})
    problem(response, 400, "empty_file")


def test_unknown_form_fields_are_refused_by_name(shared, png, problem):
    sent = {"files": {"file": png()}, "data": {"top": "3"}}
    document = problem(shared.post("/predict", **sent), 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'top_k'?"
    assert document["errors"][0]["loc"] == ["body", "top"]


@pytest.mark.parametrize("query", ["top_k=0", "top_k=many", "threshold=2", "threshold=nan"])
@pytest.mark.parametrize("where", ["query", "form"])
def test_wrong_options(shared, png, problem, query, where):
    name, value = query.split("=")
    sent = {"params": {name: value}} if where == "query" else {"data": {name: value}}
    document = problem(
        shared.post("/predict", files={"file": png()}, **sent), 422, "invalid_request"
    )
    assert document["errors"][0]["loc"] == ["query" if where == "query" else "body", name]


def test_an_unknown_query_parameter(shared, png, problem):
    response = shared.post("/predict?modle=x", files={"file": png()})
    document = problem(response, 422, "unknown_parameter")
    assert document["hint"] == "Did you mean 'model'?"


def test_an_option_given_twice(shared, png, problem):
    response = shared.post("/predict?top_k=1", files={"file": png()}, data={"top_k": "2"})
    assert "twice" in problem(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[1]", 422, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'{"a": [' + b"{}," * 5000 + b"{}]}", 400, "invalid_json"),
        (b"{}", 422, "no_file"),
        (b'{"image_base64": 7}', 422, "invalid_request"),
        (b'{"image_base64": "https://example.org/cat.jpg"}', 422, "invalid_request"),
        (b'{"image_base64": "caf\xc3\xa9"}', 422, "invalid_request"),
        (b'{"image_base64": ""}', 400, "empty_file"),
        (b'{"image": "x"}', 422, "unknown_field"),
        (b'{"image_base64": "eA==", "top_k": 3}', 422, "unknown_field"),
    ],
)
def test_json_that_carries_no_image(shared, trained, problem, body, status, code):
    response = shared.post("/predict", content=body, headers={"Content-Type": "application/json"})
    problem(response, status, code)


def test_base64_of_the_other_alphabet_is_told_which_one_is_read(shared, trained, problem):
    text = base64.urlsafe_b64encode(b"\xff\xd8\xff\xe0").decode()
    document = problem(shared.post("/predict", json={"image_base64": text}), 422, "invalid_request")
    assert "with + and /" in document["hint"]


def test_an_option_in_json_is_told_where_to_go(shared, problem):
    response = shared.post("/predict", json={"image_base64": "eA==", "top_k": 3})
    assert "/predict?top_k=" in problem(response, 422, "unknown_field")["hint"]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_multipart_body_that_cannot_be_read(shared, problem, kind):
    response = shared.post("/predict", content=b"nonsense", headers={"Content-Type": kind})
    problem(response, response.status_code, response.json()["code"])
    assert response.json()["code"] in ("invalid_multipart", "no_file")


def test_a_body_of_another_multipart_kind(shared, problem):
    headers = {"Content-Type": "multipart/related; boundary=x"}
    problem(shared.post("/predict", content=b"--x", headers=headers), 415, "unsupported_media_type")


def test_too_many_files(shared, png, problem):
    files = [("file", png())] * 65
    assert "64" in problem(shared.post("/predict", files=files), 413, "too_many_files")["hint"]


@pytest.fixture
def settings(tmp_path):
    """Small limits, so that tests need no large bodies."""
    return Settings(home=tmp_path / "home", max_image_bytes=20_000)


def test_an_image_of_too_many_bytes(server, train, png, problem):
    train(server.settings)
    large = png(size=(200, 200))
    assert len(large) > 20_000
    text = base64.b64encode(large).decode()
    problem(server.post("/predict", files={"file": large}), 413, "image_too_large")
    problem(server.post("/predict", content=large), 413, "image_too_large")
    problem(server.post("/predict", json={"image_base64": text}), 413, "image_too_large")
    several = server.post("/predict", files=[("file", large), ("file", png())])
    assert several.status_code == 200
    first, second = several.json()["predictions"]
    assert first["error"]["code"] == "image_too_large"
    assert "label" in second


def test_a_body_larger_than_all_images_may_be(server, problem):
    response = server.post("/predict", files={"file": b"x" * 300_000})
    problem(response, 413, "body_too_large")


def test_many_at_once(server, train, png):
    made = train(server.settings)
    sent = [server.soon("POST", "/predict", files={"file": png(seed)}) for seed in range(30)]
    wait_for(sent, timeout=30)
    assert {one.result().status_code for one in sent} == {200}
    assert server.get("/system").json()["warm_models"] == [made.best]


def test_a_model_that_is_deleted_while_it_is_used(server, train, png):
    made = train(server.settings)
    [gone] = [one for one in made.checkpoint_ids if one != made.best]
    sent = []
    for seed in range(30):
        sent.append(server.soon("POST", f"/predict?model={gone}", files={"file": png(seed)}))
        if seed == 10:
            deleted = server.soon("DELETE", f"/checkpoints/{gone}")
    wait_for([*sent, deleted], timeout=30)
    assert deleted.result().status_code == 204
    answers = {(one.result().status_code, one.result().json().get("code")) for one in sent}
    allowed = {(200, None), (404, "model_not_found"), (404, "checkpoint_not_found")}
    assert answers <= allowed
    assert server.post(f"/predict?model={gone}", files={"file": png()}).status_code == 404
    assert gone not in server.get("/system").json()["warm_models"]


def test_the_name_of_a_file_says_nothing(shared, trained, png):
    picture = Image.open(io.BytesIO(png()))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=95)
    files = {"a.heic": png(), "b.png": jpeg.getvalue(), "c.txt": heic.encoded(picture)}
    sent = [("file", (name, data, "text/html")) for name, data in files.items()]
    labels = [one["label"] for one in shared.post("/predict", files=sent).json()["predictions"]]
    plain = shared.post("/predict", files={"file": png()}).json()["predictions"][0]["label"]
    assert labels == [plain] * 3


def test_a_prediction_that_takes_too_long(tmp_path, train, png, problem, serve):
    settings = Settings(home=tmp_path / "slow", predict_timeout_seconds=1e-6)
    train(settings)
    with serve(settings) as server:
        problem(server.post("/predict", files={"file": png()}), 504, "too_slow")


@pytest.fixture
def stopped(suspend):
    """Stops the processes that predict, as if that took long; they go on at the end."""
    held = []

    def stop(server):
        for pid, _ in server.app.state.resources.predictor.pool.pids():
            suspend(pid)
            held.append(pid)

    yield stop
    for pid in held:
        with contextlib.suppress(ProcessLookupError):  # its server has ended
            os.kill(pid, signal.SIGCONT)


def test_more_than_may_wait(tmp_path, train, png, problem, serve, stopped):
    settings = Settings(home=tmp_path / "full", predict_queue=2)
    train(settings)
    with serve(settings) as server:
        server.post("/predict", content=png())
        stopped(server)
        sent = [server.soon("POST", "/predict", content=png()) for _ in range(2)]
        predictor = server.app.state.resources.predictor
        deadline = time.monotonic() + 60
        while predictor.requests < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = server.post("/predict", content=png())
        problem(refused, 429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert server.get("/healthz").status_code == 200
        for pid, _ in predictor.pool.pids():
            os.kill(pid, signal.SIGCONT)
        assert {one.result(60).status_code for one in sent} == {200}


@pytest.mark.parametrize("query", [b"", b"top_k=7"])
def test_a_client_that_went_away_is_not_computed_for(server, train, png, stopped, query):
    """Without a query the request goes past FastAPI's routing, with a new one through it."""
    train(server.settings)
    server.post("/predict", content=png())
    predictor = server.app.state.resources.predictor
    before = predictor.serving()[0].images
    stopped(server)
    sent = []
    with contextlib.suppress(ClientDisconnect):
        server.hang_up_on("POST", "/predict", query=query, body=png(), sent=sent)
    assert predictor.requests == 0
    assert server.get("/healthz").status_code == 200  # what was to be said is said by then
    for pid, _ in predictor.pool.pids():
        os.kill(pid, signal.SIGCONT)
    assert server.post("/predict", content=png()).status_code == 200
    assert predictor.serving()[0].images == before + 1
    assert not [one for one in sent if one.get("status") == 200]


def test_process_and_model_are_told_of(server, train, png):
    made = train(server.settings)
    server.request("PUT", "/models/production", json={"checkpoint": made.best})
    server.post("/predict?model=production", files=[("file", png(n)) for n in range(3)])
    [model] = server.get("/models").json()["items"]
    told = model["serving"]
    assert (told["requests"], told["images"], told["batches"]) == (1, 3, {"3": 1})
    assert told["seconds"] > 0
    upkeep._once(server.app.state.resources, NoWatch())
    [one] = [p for p in server.get("/system").json()["processes"] if p["role"] == "predictor"]
    pids = [pid for pid, _ in server.app.state.resources.predictor.pool.pids()]
    assert [one["pid"]] == pids
    assert one["device"] == "cpu"


class NoWatch:
    def give_up_silent(self):
        return []


def _animated() -> bytes:
    frames = [Image.new("L", (28, 28), shade) for shade in (0, 200)]
    frames[0].putpixel((5, 5), 255)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def _odd_images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    grey = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    made = []
    for image, format_, options in (
        (grey.convert("CMYK"), "JPEG", {}),
        (Image.fromarray(pixels.astype(np.uint16) * 257), "PNG", {}),
        (grey.convert("P"), "PNG", {"transparency": b"\0\x80\xff"}),
        (grey.convert("RGB"), "JPEG", {"exif": turned}),
        (grey.convert("LA"), "PNG", {}),
        (grey.convert("1"), "BMP", {}),
    ):
        file = io.BytesIO()
        image.save(file, format_, **options)
        made.append(file.getvalue())
    return [*made, _animated()]


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


def _png_header(width: int, height: int) -> bytes:
    fields = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", fields)
