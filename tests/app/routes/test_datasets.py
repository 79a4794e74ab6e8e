"""Data sets over HTTP: what there is, what is known, and single images."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pets(server, png):
    """A folder per class in the server's folder of data sets."""
    folder = server.settings.datasets / "我的 pets"
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                (folder / split / name / f"{number}.png").write_bytes(png(number))
    return folder


def test_a_list_of_built_in_sets_and_folders(server, pets):
    page = server.get("/datasets").json()
    names = [one["name"] for one in page["items"]]
    assert names[0] == "digits"
    assert names[-1] == "我的 pets"
    assert {"mnist", "cifar10"} <= set(names)
    assert page["next_cursor"] is None
    assert [one["origin"] for one in page["items"]][-2:] == ["built_in", "folder"]


def test_one_data_set(server, pets):
    one = server.get("/datasets/我的 PETS").json()
    assert set(one) == {
        *("name", "origin", "classes", "counts", "height", "width", "channels", "available"),
        *("version", "defaults", "job_id", "archive_sha256", "report"),
    }
    assert one["classes"] == ["cat", "dog"]
    assert one["counts"] == {"train": 6, "test": 4}
    assert (one["height"], one["width"], one["channels"]) == (28, 28, 1)


@pytest.mark.parametrize("suffix", ["", "/images", "/images/train/0"])
def test_a_data_set_that_does_not_exist(shared, problem, suffix):
    document = problem(shared.get(f"/datasets/digitz{suffix}"), 404, "dataset_unknown")
    assert "'digits'" in document["hint"]


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fetc", "%00"])
def test_a_name_that_is_a_path(shared, problem, name):
    response = shared.get(f"/datasets/{name}/images")
    problem(response, 404, response.json()["code"])


def test_images_in_pages(shared):
    first = shared.get("/datasets/digits/images?split=test&limit=3").json()
    assert [one["index"] for one in first["items"]] == [0, 1, 2]
    assert set(first["items"][0]) == {"index", "label", "url"}
    url = f"/datasets/digits/images?split=test&limit=3&cursor={first['next_cursor']}"
    assert [one["index"] for one in shared.get(url).json()["items"]] == [3, 4, 5]
    last = shared.get("/datasets/digits/images?split=test&cursor=350").json()
    assert (len(last["items"]), last["next_cursor"]) == (10, None)


def test_images_of_one_class(shared):
    page = shared.get("/datasets/digits/images?split=test&class=7&limit=200").json()
    assert page["items"]
    assert {one["label"] for one in page["items"]} == {"7"}
    assert page["next_cursor"] is None


def test_training_images_are_the_default(shared):
    url = shared.get("/datasets/digits/images?limit=1").json()["items"][0]["url"]
    assert url == "/datasets/digits/images/train/0"


def test_an_image_of_a_built_in_set_is_a_png(shared):
    response = shared.get("/datasets/digits/images/test/0")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert np.asarray(Image.open(io.BytesIO(response.content))).shape == (8, 8)


def test_an_image_of_a_folder_is_its_file(server, pets, png):
    page = server.get("/datasets/我的 pets/images?split=test&class=dog").json()
    assert [one["label"] for one in page["items"]] == ["dog", "dog"]
    response = server.get(page["items"][1]["url"])
    assert response.content == png(1)
    assert response.headers["content-type"] == "image/png"


def test_what_is_no_image_is_never_sent_as_a_page(server, pets):
    (pets / "test" / "cat" / "0.png").write_bytes(b"<script>alert(1)</script>")
    response = server.get("/datasets/我的 pets/images/test/0")
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("place", ["test/360", "val/0", "nope/0", "test/99999999999"])
def test_an_image_that_does_not_exist(shared, problem, place):
    problem(shared.get(f"/datasets/digits/images/{place}"), 404, "not_found")


def test_a_number_that_no_list_can_hold(shared, problem):
    response = shared.get("/datasets/digits/images/train/15777694885957861376")
    assert problem(response, 422, "invalid_request")["errors"][0]["loc"] == ["path", "index"]


@pytest.mark.parametrize("place", ["test/-1", "test/first"])
def test_an_index_that_is_none(shared, problem, place):
    problem(shared.get(f"/datasets/digits/images/{place}"), 422, "invalid_request")


def test_a_part_that_a_data_set_lacks(shared, problem):
    document = problem(shared.get("/datasets/digits/images?split=val"), 404, "not_found")
    assert document["hint"] == "It has train, test."


def test_a_class_that_a_data_set_lacks(shared, problem):
    response = shared.get("/datasets/digits/images?class=seven")
    assert problem(response, 404, "not_found")["errors"][0]["loc"] == ["query", "class"]


@pytest.mark.parametrize("suffix", ["/images", "/images/test/0"])
def test_a_built_in_set_that_is_not_here_yet(shared, problem, suffix):
    document = problem(shared.get(f"/datasets/mnist{suffix}"), 409, "dataset_not_downloaded")
    assert "POST /train" in document["hint"]
    assert shared.get("/datasets/mnist").json()["available"] is False


def test_a_folder_that_cannot_be_trained_on(server, pets, problem):
    shutil.rmtree(pets / "train" / "cat")
    problem(server.get("/datasets/我的 pets"), 422, "dataset_invalid")
    assert "我的 pets" not in server.get("/datasets").text
    problem(server.post("/train", json={"dataset": "我的 pets"}), 422, "dataset_invalid")


def test_the_list_comes_in_pages(comes_in_pages):
    comes_in_pages("/datasets")
