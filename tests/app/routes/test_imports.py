"""Archives over HTTP: they become import jobs, once, and what is wrong is refused by name."""

import hashlib
import io
import json
import zipfile

import pytest

from database import jobs
from database.tables import State


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name in names or ("cat/1.jpg", "dog/1.jpg"):
            opened.writestr(zipfile.ZipInfo(name), name)
    return file.getvalue()


ZIP, OTHER = archive(), archive("cat/2.jpg", "dog/2.jpg")


def uploads(server) -> list[str]:
    folder = server.settings.uploads
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def request_of(server, job_id: str) -> dict:
    with server.sessions() as session:
        return jobs.get(session, job_id).request


def end(server, job_id: str, state: State = State.succeeded) -> None:
    """As a worker would, leaving nothing behind."""
    with server.sessions.begin() as session:
        row = jobs.claim(session, worker_id="w", host="h", device=None, kinds=("import",))
        assert row.id == job_id
        fence = jobs.fence_of(row)
        jobs.start(session, fence, pid=1, device=None)
        jobs.finish(session, fence, state=state)
    (server.settings.uploads / request_of(server, job_id)["upload"]).unlink()


def imported(server, png) -> str:
    """The data set pets as an import of ZIP leaves it; returns the job's id."""
    job_id = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    end(server, job_id)
    folder = server.settings.datasets / "pets"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(5):
            (folder / label / f"{number}.png").write_bytes(png(number))
    (folder / ".danlu").mkdir()
    size = sum(file.stat().st_size for file in folder.rglob("*.png"))
    report = {"classes": 2, "bytes": size, "parts": [{"part": "train", "images": 10}]}
    (folder / ".danlu" / "report.json").write_text(json.dumps(report))
    origin = {"sha256": hashlib.sha256(ZIP).hexdigest(), "job": job_id, "version": "0123abcd"}
    (folder / ".danlu" / "origin.json").write_text(json.dumps(origin))
    return job_id


def form(*parts: tuple[str, str | None, bytes]) -> dict:
    """A body of these parts, in this order: name, filename, content."""
    lines = []
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'--xXx\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        lines += [head.encode(), content, b"\r\n"]
    body = b"".join([*lines, b"--xXx--\r\n"])
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=xXx"}}


@pytest.mark.parametrize(
    "parts",
    [
        [("file", "x.zip", ZIP), ("name", None, "我的 pets".encode())],
        [("name", None, "我的 pets".encode()), ("file", "x.zip", ZIP)],
        [("file", "我的 pets.tar.gz", ZIP)],
        [("name", None, b""), ("file", "C:\\photos\\我的 pets.zip", ZIP)],
    ],
    ids=["name last", "name first", "name of the file", "empty name"],
)
def test_an_archive_becomes_a_job(server, parts):
    response = server.post("/datasets", **form(*parts))
    job = response.json()
    assert response.status_code == 202, job
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["recipe"]) == ("import", "queued", None)
    assert job["dataset"] == {"name": "我的 pets", "version": None}
    asked = request_of(server, job["id"])
    assert asked == {
        "upload": uploads(server)[0],
        "sha256": hashlib.sha256(ZIP).hexdigest(),
        "merge": False,
    }
    assert (server.settings.uploads / asked["upload"]).read_bytes() == ZIP


def test_a_raw_body_becomes_a_job(server):
    large = ZIP + bytes(range(256)) * 20_000
    headers = {"X-Danlu-User": "lin"}
    response = server.request("PUT", "/datasets/pets?merge=true", content=large, headers=headers)
    job = response.json()
    assert response.status_code == 202, job
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert (job["dataset"]["name"], job["owner"]) == ("pets", "lin")
    assert request_of(server, job["id"])["merge"] is True
    assert request_of(server, job["id"])["sha256"] == hashlib.sha256(large).hexdigest()


def test_jobs_of_this_kind_can_be_listed(server):
    server.post("/train", json={"dataset": "digits"})
    made = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    listed = server.get("/jobs?kind=import").json()["items"]
    assert [(one["id"], one["recipe"]) for one in listed] == [(made, None)]
    assert server.get(f"/jobs/{made}/logs").status_code == 200
    server.post(f"/jobs/{made}/cancel")
    assert "event: end" in server.get(f"/jobs/{made}/events").text


def test_an_import_cannot_be_resumed_nor_written_as_a_script(server, problem):
    job = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    end(server, job, State.failed)
    said = problem(server.post(f"/jobs/{job}/resume"), 409, "job_not_resumable")
    assert said["hint"] == "Ask for the import again."
    problem(server.get(f"/jobs/{job}/script"), 409, "no_script")
    assert server.delete(f"/jobs/{job}").status_code == 204


def test_a_queued_import_that_is_cancelled_leaves_nothing(server):
    job = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    assert server.post(f"/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert uploads(server) == []
    again = server.post("/datasets", files={"file": ("pets.zip", OTHER)})
    assert again.status_code == 202


# The same once more


def test_the_same_archive_makes_no_second_job(server):
    first, second = (server.post("/datasets", files={"file": ("pets.zip", ZIP)}) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["location"] == first.headers["location"]
    assert len(uploads(server)) == 1


def test_an_archive_that_was_imported_leads_to_its_job(server, png):
    made = imported(server, png)
    for _ in range(2):
        again = server.post("/datasets", files={"file": ("PETS.zip", ZIP)})
        assert (again.status_code, again.json()["id"]) == (200, made)
    put = server.request("PUT", "/datasets/Pets", content=ZIP)
    assert (put.status_code, put.json()["id"]) == (200, made)
    assert uploads(server) == []


def test_an_archive_whose_job_is_deleted_is_imported_once_more(server, png):
    made = imported(server, png)
    server.delete(f"/jobs/{made}")
    again = server.post("/datasets", files={"file": ("pets.zip", ZIP)})
    assert again.status_code == 202
    assert again.json()["id"] != made


def test_a_set_that_was_changed_by_hand_is_not_the_archive_any_more(server, png, problem):
    imported(server, png)
    (server.settings.datasets / "pets" / "cat" / "1.png").unlink()
    one = server.get("/datasets/pets").json()
    assert (one["archive_sha256"], one["version"]) == (None, None)
    assert one["report"]["classes"] == 2
    problem(server.post("/datasets", files={"file": ("pets.zip", ZIP)}), 409, "name_taken")
    assert server.request("PUT", "/datasets/pets", content=ZIP).status_code == 202


def test_nothing_is_trained_on_what_is_being_imported(server, png, problem):
    first = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    document = problem(server.post("/train", json={"dataset": "Pets"}), 409, "dataset_in_use")
    assert first in document["detail"]
    assert document["errors"][0]["loc"] == ["body", "dataset"]
    server.post(f"/jobs/{first}/cancel")
    problem(server.post("/train", json={"dataset": "pets"}), 404, "dataset_unknown")


def test_nothing_goes_on_with_what_is_being_imported(server, png, problem):
    imported(server, png)
    job = server.post("/train", json={"dataset": "pets", "batch_size": 2}).json()["id"]
    server.post(f"/jobs/{job}/cancel")
    assert server.request("PUT", "/datasets/pets", content=OTHER).status_code == 202
    problem(server.post(f"/jobs/{job}/resume"), 409, "dataset_in_use")


def test_nothing_goes_on_without_its_images(server, png, problem):
    imported(server, png)
    job = server.post("/train", json={"dataset": "pets", "batch_size": 2}).json()["id"]
    server.post(f"/jobs/{job}/cancel")
    assert server.delete("/datasets/pets").status_code == 204
    problem(server.post(f"/jobs/{job}/resume"), 404, "dataset_unknown")
    shown = server.get(f"/jobs/{job}").json()
    assert (shown["state"], shown["attempt"]) == ("cancelled", 1)


# Names


def test_a_taken_name(server, png, problem):
    imported(server, png)
    response = server.post("/datasets", files={"file": ("Pets.zip", OTHER)})
    document = problem(response, 409, "name_taken")
    assert document["errors"][0]["loc"] == ["body", "name"]
    assert "PUT /datasets" in document["hint"]
    assert uploads(server) == []
    changed = server.request("PUT", "/datasets/Pets", content=OTHER)
    assert changed.status_code == 202
    assert changed.json()["dataset"]["name"] == "pets"


def test_the_name_of_an_import_that_is_not_done(server, problem):
    first = server.post("/datasets", files={"file": ("pets.zip", ZIP)}).json()["id"]
    document = problem(
        server.post("/datasets", files={"file": ("Pets.zip", OTHER)}), 409, "name_taken"
    )
    assert first in document["detail"]
    problem(server.request("PUT", "/datasets/PETS", content=OTHER), 409, "dataset_in_use")
    assert len(uploads(server)) == 1


def test_an_archive_that_is_put_twice_is_one_job(server):
    first = server.request("PUT", "/datasets/pets", content=ZIP)
    again = server.request("PUT", "/datasets/pets", content=ZIP)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert len(uploads(server)) == 1


@pytest.mark.parametrize("name", ["mnist", "Fashion-MNIST", "cifar-10-batches-py"])
def test_a_name_of_a_built_in_set(shared, problem, name):
    problem(
        shared.post("/datasets", files={"file": ("x.zip", ZIP)}, data={"name": name}),
        *(409, "name_taken"),
    )
    document = problem(shared.request("PUT", f"/datasets/{name}", content=ZIP), 409, "name_taken")
    assert document["errors"][0]["loc"] == ["path", "name"]
    assert uploads(shared) == []


@pytest.mark.parametrize(
    "name", [".hidden", "..", "a/b", "a\\b", " ", "x" * 201, "a\x07", "花" * 70]
)
def test_what_can_be_no_name(shared, problem, name):
    response = shared.post(
        "/datasets", **form(("file", "x.zip", ZIP), ("name", None, name.encode()))
    )
    assert problem(response, 422, "invalid_request")["errors"][0]["loc"] == ["body", "name"]
    assert uploads(shared) == []


def test_a_file_without_a_name_that_could_be_the_set_s(shared, problem):
    for filename in ("", "-"):
        response = shared.post("/datasets", **form(("file", filename, ZIP)))
        assert "-F name=" in problem(response, 422, "invalid_request")["hint"]


# Bodies


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([("file", "x.zip", b"")], 400, "empty_file"),
        ([("name", None, b"pets")], 422, "no_file"),
        ([("file", None, ZIP)], 422, "no_file"),
        ([("file", "x.zip", ZIP), ("file", "y.zip", ZIP)], 400, "invalid_multipart"),
        ([("name", None, b"a"), ("name", None, b"b")], 400, "invalid_multipart"),
        ([("name", None, b"x" * 20_000)], 400, "invalid_multipart"),
        ([("file", "x.zip", ZIP), ("merge", None, b"true")], 422, "unknown_parameter"),
        ([("archive", "x.zip", ZIP)], 422, "unknown_parameter"),
    ],
)
def test_forms_that_are_not_right(shared, problem, parts, status, code):
    found = problem(shared.post("/datasets", **form(*parts)), status, code)
    assert "weights" not in found["detail"]
    assert uploads(shared) == []


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("multipart/form-data", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=other", 400, "invalid_multipart"),
        ("application/zip", 415, "unsupported_media_type"),
        ("", 415, "unsupported_media_type"),
    ],
)
def test_bodies_that_are_no_forms(shared, problem, kind, status, code):
    sent = form(("file", "pets.zip", ZIP)) | {"headers": {"Content-Type": kind} if kind else {}}
    problem(shared.post("/datasets", **sent), status, code)
    assert uploads(shared) == []


def test_a_form_that_is_cut_off(shared, problem):
    sent = form(("file", "pets.zip", ZIP))
    sent["content"] = sent["content"][:-20]
    problem(shared.post("/datasets", **sent), 400, "invalid_multipart")
    assert uploads(shared) == []


def test_a_form_where_the_archive_itself_is_wanted(shared, problem):
    response = shared.request("PUT", "/datasets/pets", files={"file": ("pets.zip", ZIP)})
    assert "-T" in problem(response, 415, "unsupported_media_type")["hint"]
    problem(shared.request("PUT", "/datasets/pets", content=b""), 400, "empty_file")
    problem(
        shared.request("PUT", "/datasets/pets?mergee=true", content=b"x"), 422, "unknown_parameter"
    )
    assert uploads(shared) == []


def test_an_archive_that_is_too_large(serve, settings, problem):
    small = settings.model_copy(update={"max_upload_bytes": 200_000})
    large = bytes(400_000)
    with serve(small) as server:
        problem(server.request("PUT", "/datasets/pets", content=large), 413, "body_too_large")
        problem(server.post("/datasets", files={"file": ("x.zip", large)}), 413, "body_too_large")

        async def pieces():
            for _ in range(40):
                yield large[:10_000]

        # Nobody said how large it would be.
        unsaid = server.request("PUT", "/datasets/pets", content=pieces())
        problem(unsaid, 413, "body_too_large")
        assert uploads(server) == []
        # More than any other address takes.
        assert server.request("PUT", "/datasets/pets", content=bytes(200_000)).status_code == 202


@pytest.mark.parametrize(
    "start", [b"Rar!\x1a\x07\x01", b"7z\xbc\xaf\x27\x1c", b"\xff\xd8\xff", b"x"]
)
def test_what_is_no_archive(shared, problem, start):
    content = start + b"x" * 1000
    response = shared.post("/datasets", files={"file": ("pets.zip", content)})
    assert "zip or tar" in problem(response, 400, "archive_invalid")["hint"]
    problem(shared.request("PUT", "/datasets/pets", content=content), 400, "archive_invalid")
    assert uploads(shared) == []


def test_an_archive_that_no_disk_holds(shared, problem):
    headers = {"Content-Length": str(90_000_000_000_000)}
    response = shared.request("PUT", "/datasets/pets", content=b"x", headers=headers)
    assert response.status_code in (413, 507)


def test_too_many_imports_of_one_owner(serve, settings, problem):
    with serve(settings.model_copy(update={"max_queued_per_owner": 1})) as server:
        server.post("/datasets", files={"file": ("pets.zip", ZIP)})
        response = server.post("/datasets", files={"file": ("cars.zip", ZIP)})
        problem(response, 429, "too_many_queued")
        assert len(uploads(server)) == 1


# What an import leaves, and its end


def test_a_data_set_says_where_it_came_from(server, png):
    made = imported(server, png)
    one = server.get("/datasets/pets").json()
    assert one["job_id"] == made
    assert one["archive_sha256"] == hashlib.sha256(ZIP).hexdigest()
    assert one["version"] == "0123abcd"
    assert one["report"]["classes"] == 2
    assert one["classes"] == ["cat", "dog"]
    assert "report" not in server.get("/datasets").json()["items"][-1]
    digits = server.get("/datasets/digits").json()
    assert (digits["job_id"], digits["report"]) == (None, None)


def test_deleting_a_data_set(server, png, problem):
    imported(server, png)
    folder = server.settings.datasets / "pets"
    assert server.delete("/datasets/PETS").status_code == 204
    assert not folder.exists()
    problem(server.delete("/datasets/pets"), 404, "dataset_unknown")
    problem(server.get("/datasets/pets"), 404, "dataset_unknown")


@pytest.mark.parametrize("name", ["digits", "CIFAR-10"])
def test_a_built_in_set_is_not_deleted(shared, problem, name):
    document = problem(shared.delete(f"/datasets/{name}"), 422, "invalid_request")
    assert document["errors"][0]["loc"] == ["path", "name"]


def test_a_data_set_that_a_job_uses(server, png, problem):
    imported(server, png)
    job = server.post("/train", json={"dataset": "pets", "batch_size": 2}).json()["id"]
    assert job in problem(server.delete("/datasets/pets"), 409, "dataset_in_use")["detail"]
    problem(server.request("PUT", "/datasets/pets", content=OTHER), 409, "dataset_in_use")
    server.post(f"/jobs/{job}/cancel")
    assert server.delete("/datasets/pets").status_code == 204
