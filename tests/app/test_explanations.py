"""Pictures that go with answers, over HTTP; how they are computed is models_store's."""

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from models_store import architectures, checkpoints

FLAT = {"layers": [{"type": "Flatten"}, {"type": "Linear"}]}


@pytest.mark.parametrize("where", ["params", "data"])
@pytest.mark.parametrize("method", ["input", "gradcam"])
def test_explanations(shared, trained, png, where, method):
    files = [("file", png(1)), ("file", b"hello"), ("file", png(2))]
    sent = {"files": files, where: {"explain": method}}
    first, bad, last = shared.post("/predict", **sent).json()["predictions"]
    assert "explanation" not in bad
    plain = shared.post("/predict", files=files).json()["predictions"]
    for one, without, seed in ((first, plain[0], 1), (last, plain[2], 2)):
        assert {**one, "explanation": None} == without
        assert one["explanation"]["method"] == method
        picture = _picture(one)
        seen = np.asarray(Image.open(io.BytesIO(png(seed))).convert("L"))
        if method == "input":
            np.testing.assert_array_equal(picture, seen)
        else:
            assert picture.shape == (28, 28, 3)


def test_nothing_to_explain(shared, trained, problem):
    sent = {"files": [("file", b"hello"), ("file", b"")], "params": {"explain": "gradcam"}}
    predictions = shared.post("/predict", **sent).json()["predictions"]
    assert ["error" in one for one in predictions] == [True, True]
    problem(shared.post("/predict?explain=input", content=b"hello"), 400, "not_an_image")


def test_what_the_network_saw_is_inverted_when_the_image_was(server, train, png):
    train(server.settings, invert_from_border=0.0)
    response = server.post("/predict?explain=input", files={"file": png(border=255)})
    [one] = response.json()["predictions"]
    assert one["warnings"] == ["inverted"]
    assert _picture(one)[0].max() == 0


def test_explanations_of_many_files(shared, png, problem):
    sent = {"files": [("file", png())] * 9, "params": {"explain": "input"}}
    assert "8" in problem(shared.post("/predict", **sent), 413, "too_many_files")["hint"]


def test_an_explanation_of_a_kind_that_does_not_exist(shared, png, problem):
    response = shared.post("/predict?explain=lime", files={"file": png()})
    document = problem(response, 422, "invalid_request")
    assert document["errors"][0]["loc"] == ["query", "explain"]


def test_a_network_without_a_map_of_the_image(server, train, png, problem):
    made = train(server.settings)
    folder = server.settings.checkpoints / made.best
    manifest = checkpoints.read_manifest(folder).model_copy(update={"architecture": FLAT})
    shutil.rmtree(folder)
    plan = architectures.plan(FLAT, channels=1, size=(28, 28), classes=10)
    checkpoints.save(folder.parent, architectures.build(plan).state_dict(), manifest)
    assert server.post("/predict?explain=input", files={"file": png()}).status_code == 200
    response = server.post("/predict?explain=gradcam", files={"file": png()})
    assert "explain=input" in problem(response, 422, "no_feature_map")["hint"]


def _picture(prediction) -> np.ndarray:
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(prediction["explanation"]["png_base64"])))
    )
