import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from danlu import Client, DanluError
from danlu.wire import DataSetImage

JOB = "job_01K0000000AAAAAAAAAAAAAAAA"


def test_the_address_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANLU_URL", "http://lab:9000")
    with Client() as client:
        assert client.base_url == "http://lab:9000"

    monkeypatch.delenv("DANLU_URL")
    with Client() as client:
        assert client.base_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("variable", "given", "sent"),
    [
        ("", None, None),
        ("hush", None, "Bearer hush"),
        ("hush", "mine", "Bearer mine"),
        ("hush", "", None),
    ],
)
def test_the_key_goes_with_every_request(
    server: Any, monkeypatch: pytest.MonkeyPatch, variable: str, given: str | None, sent: str | None
) -> None:
    monkeypatch.setenv("DANLU_API_KEY", variable)
    server.answers["GET /system"] = {}

    server.client(api_key=given).system()

    assert server.last.headers.get("authorization") == sent


def test_the_printed_address_carries_the_key(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    monkeypatch.setenv("DANLU_URL", "http://lab:9000/?key=a%2Bb")
    server.answers["GET /system"] = {}
    with Client() as client:
        assert client.base_url == "http://lab:9000"

    server.client().system()

    assert server.last.headers["authorization"] == "Bearer a+b"


def test_a_key_that_cannot_be_sent() -> None:
    with pytest.raises(DanluError, match="cannot be sent") as caught:
        Client(api_key="two\nlines")

    assert caught.value.code == "key_unusable"


def test_train_sends_the_recipe_as_the_user(server: Any, client: Client, made: Any) -> None:
    server.answers["POST /train"] = httpx.Response(202, json=made.job())

    assert client.train({"dataset": "digits"})["state"] == "queued"

    assert server.last_json == {"dataset": "digits"}
    assert server.last.headers["x-danlu-user"] == "lin"
    assert server.last.url.query == b""


def test_plan_makes_no_job(server: Any, client: Client) -> None:
    server.answers["POST /train"] = {"layers": [], "parameters": 0}

    assert client.plan({"dataset": "digits"})["parameters"] == 0

    assert server.last.url.query == b"dry_run=true"


def test_jobs_sends_only_what_is_asked(server: Any, client: Client) -> None:
    server.answers["GET /jobs"] = {"items": [], "next_cursor": None}

    assert client.jobs() == {"items": [], "next_cursor": None}
    assert server.last.url.query == b""

    client.jobs(state=["queued", "running"], active=True, owner="林", limit=3)
    assert dict(server.last.url.params) == {
        "state": "queued,running",
        "active": "true",
        "owner": "林",
        "limit": "3",
    }

    client.jobs(state="queued")
    assert dict(server.last.url.params) == {"state": "queued"}


def test_ids_cannot_leave_their_place_in_the_path(server: Any, client: Client) -> None:
    with pytest.raises(DanluError):
        client.job("../checkpoints?x=1")

    assert server.last.url.raw_path == b"/jobs/..%2Fcheckpoints%3Fx%3D1"

    for name, path in ((".", b"/datasets/%2E"), ("..", b"/datasets/%2E%2E")):
        with pytest.raises(DanluError):
            client.dataset(name)
        assert server.last.url.raw_path == path


def test_an_empty_name_is_no_other_address(server: Any, client: Client) -> None:
    with pytest.raises(DanluError, match="The name or id is empty"):
        client.delete_dataset("")
    assert server.requests == []


def test_wait_asks_again_until_the_job_has_ended(server: Any, client: Client, made: Any) -> None:
    states = iter(["running", "running", "succeeded"])
    server.answers[f"GET /jobs/{JOB}"] = lambda _: made.job(state=next(states))

    assert client.wait(JOB)["state"] == "succeeded"

    assert [request.url.query for request in server.requests] == [b"wait=55"] * 3


def test_wait_gives_up_after_its_timeout(server: Any, client: Client, made: Any) -> None:
    server.answers[f"GET /jobs/{JOB}"] = made.running()

    assert client.wait(JOB, timeout_seconds=0)["state"] == "running"


def test_watch_gives_every_look_and_the_end(server: Any, client: Client, made: Any) -> None:
    states = iter(["queued", "running", "failed"])
    server.answers[f"GET /jobs/{JOB}"] = lambda _: made.job(state=next(states))

    seen = [job["state"] for job in client.watch(JOB, interval_seconds=0)]

    assert seen == ["queued", "running", "failed"]


def away_for_none(looks: Iterator[Any]) -> Callable[[httpx.Request], Any]:
    """What a server answers one time after the other, which is away where there is nothing."""

    def look(request: httpx.Request) -> Any:
        found = next(looks)
        if found is None:
            raise httpx.ConnectError("away")
        return found

    return look


def test_watch_outlives_a_restart_of_the_server(server: Any, client: Client, made: Any) -> None:
    looks = iter([made.running(), None, None, made.job(state="succeeded")])

    server.answers[f"GET /jobs/{JOB}"] = away_for_none(looks)

    seen = [job["state"] for job in client.watch(JOB, interval_seconds=0)]

    assert seen == ["running", "succeeded"]


def test_wait_outlives_a_restart_of_the_server(server: Any, client: Client, made: Any) -> None:
    looks = iter([made.running(), None, made.job(state="succeeded")])

    server.answers[f"GET /jobs/{JOB}"] = away_for_none(looks)

    assert client.wait(JOB)["state"] == "succeeded"


@pytest.mark.parametrize("limit", ["timeout_seconds", "patience_seconds"])
def test_wait_loses_patience(server: Any, client: Client, limit: str) -> None:
    def look(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    server.answers[f"GET /jobs/{JOB}"] = look

    with pytest.raises(DanluError, match="No danlu server"):
        client.wait(JOB, **{limit: 0})


def test_a_long_poll_that_breaks_is_no_absence_yet(
    server: Any, client: Client, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    def look(request: httpx.Request) -> Any:
        wait(54)  # longer than the patience: the server was there all the while
        if now < 60:
            raise httpx.ReadError("away")
        return made.job(state="succeeded")

    clock = SimpleNamespace(monotonic=lambda: now, sleep=wait)
    monkeypatch.setattr("danlu.client.time", clock)
    server.answers[f"GET /jobs/{JOB}"] = look

    assert client.wait(JOB)["state"] == "succeeded"


def test_watch_loses_patience(server: Any, client: Client) -> None:
    def look(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    server.answers[f"GET /jobs/{JOB}"] = look

    with pytest.raises(DanluError, match="No danlu server"):
        next(client.watch(JOB, interval_seconds=0, patience_seconds=0))


def test_watch_does_not_wait_for_a_job_that_is_not_there(server: Any, client: Client) -> None:
    with pytest.raises(DanluError, match="not_found"):
        next(client.watch(JOB))

    assert len(server.requests) == 1


def test_history_logs_and_cancel(server: Any, client: Client, made: Any) -> None:
    server.answers[f"GET /jobs/{JOB}/history"] = {"epochs": [], "steps": [], "next": 7}
    server.answers[f"GET /jobs/{JOB}/logs"] = httpx.Response(200, text="epoch 1\n")
    server.answers[f"POST /jobs/{JOB}/cancel"] = httpx.Response(
        202, json=made.job(state="cancelling")
    )

    assert client.history(JOB, since=3, max_points=2)["next"] == 7
    assert dict(server.last.url.params) == {"since": "3", "max_points": "2"}
    assert client.logs(JOB) == "epoch 1\n"
    server.answers[f"GET /jobs/{JOB}/script"] = httpx.Response(200, text="import torch\n")
    assert client.script(JOB) == "import torch\n"
    assert client.cancel(JOB)["state"] == "cancelling"


def test_a_job_is_deleted(server: Any, client: Client) -> None:
    server.answers[f"DELETE /jobs/{JOB}"] = httpx.Response(204)

    client.delete_job(JOB)

    assert server.last.method == "DELETE"


def test_aliases(server: Any, client: Client) -> None:
    server.answers["GET /models"] = {"items": [], "next_cursor": None}
    server.answers["GET /models/cats"] = {"alias": "cats"}
    server.answers["PUT /models/cats"] = {"alias": "cats"}
    server.answers["DELETE /models/cats"] = httpx.Response(204)

    assert client.models(limit=3)["items"] == []
    assert server.last.url.query == b"limit=3"
    assert client.model("cats") == {"alias": "cats"}
    assert client.point("cats", JOB) == {"alias": "cats"}
    assert json.loads(server.last.content) == {"checkpoint": JOB}
    client.delete_model("cats")
    assert server.last.method == "DELETE"


def test_checkpoints(server: Any, client: Client) -> None:
    server.answers["GET /checkpoints"] = {"items": [], "next_cursor": None}
    server.answers["GET /checkpoints/ckpt_1"] = {"classes": ["a"]}
    server.answers["DELETE /checkpoints/ckpt_1"] = httpx.Response(204)

    assert client.checkpoints(job=JOB)["items"] == []
    assert server.last.url.query == f"job={JOB}".encode()
    assert client.checkpoint("ckpt_1") == {"classes": ["a"]}
    client.delete_checkpoint("ckpt_1")
    assert server.last.method == "DELETE"


def test_exports_and_imports(server: Any, client: Client, made: Any, tmp_path: Path) -> None:
    server.answers["POST /checkpoints/ckpt_1/exports"] = made.job(kind="export")
    server.answers["POST /checkpoints"] = {"id": "ckpt_2", "job_id": None}

    assert client.export("ckpt_1", "onnx")["kind"] == "export"
    assert server.last_json == {"format": "onnx"}
    file = tmp_path / "module_9.pth"
    file.write_bytes(b"weights")
    given = {"architecture": {"layers": []}, "classes": ("猫", "b"), "input": "3x32x32"}
    assert client.import_checkpoint(file, **given)["id"] == "ckpt_2"
    for part in (b'filename="module_9.pth"', b"weights", b'{"layers": []}', b"3x32x32"):
        assert part in server.last.content


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="digits-e12-0.964.pt"', "digits-e12-0.964.pt"),
        ("attachment; filename*=UTF-8''%E7%8C%AB.pt", "猫.pt"),
        ('attachment; filename="../../evil"', "evil"),
        ("", "ckpt_1"),
    ],
)
def test_download_takes_the_name_from_the_server_and_the_folder_from_us(
    server: Any, client: Client, tmp_path: Path, disposition: str, name: str
) -> None:
    headers = {"content-disposition": disposition} if disposition else {}
    server.answers["GET /checkpoints/ckpt_1/download"] = httpx.Response(
        200, content=b"weights", headers=headers
    )

    saved = client.download("ckpt_1", to=tmp_path, format="pt")

    assert saved == tmp_path / name
    assert saved.read_bytes() == b"weights"
    assert list(tmp_path.iterdir()) == [saved]
    assert server.last.url.query == b"format=pt"


def test_download_to_a_path(server: Any, client: Client, tmp_path: Path) -> None:
    server.answers["GET /checkpoints/ckpt_1/download"] = httpx.Response(200, content=b"weights")

    saved = client.download("ckpt_1", to=tmp_path / "mine.safetensors")

    assert saved.read_bytes() == b"weights"


def test_a_refused_download_leaves_nothing(
    server: Any, client: Client, made: Any, tmp_path: Path
) -> None:
    server.answers["GET /checkpoints/ckpt_1/download"] = made.problem("not_exported", 409)

    with pytest.raises(DanluError, match="not_exported"):
        client.download("ckpt_1", to=tmp_path)

    assert list(tmp_path.iterdir()) == []


def _predictions(request: httpx.Request) -> dict[str, Any]:
    names = [
        part.partition(b'filename="')[2].partition(b'"')[0].decode()
        for part in request.content.split(b"\r\n")
        if b'name="file"' in part
    ]
    return {
        "checkpoint_id": "ckpt_1",
        "job_id": JOB,
        "model": request.url.params.get("model"),
        "predictions": [{"filename": name, "label": "7"} for name in names],
    }


def test_predict_sends_paths_and_bytes(server: Any, client: Client, tmp_path: Path) -> None:
    server.answers["POST /predict"] = _predictions
    (tmp_path / "a.png").write_bytes(b"A")

    answer = client.predict(tmp_path / "a.png", ("b.png", b"B"), model=JOB, top_k=3, threshold=0.5)

    assert [p["filename"] for p in answer["predictions"]] == ["a.png", "b.png"]
    assert dict(server.last.url.params) == {"model": JOB, "top_k": "3", "threshold": "0.5"}
    assert b"\r\n\r\nA\r\n" in server.last.content


def test_predict_takes_a_file_whose_name_is_no_text(
    server: Any, client: Client, tmp_path: Path
) -> None:
    server.answers["POST /predict"] = _predictions
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"1")

    client.predict(path, (path.name, b"2"))

    assert server.last.content.count(b'filename="caf?.png"') == 2


def test_predict_of_many_images_is_one_answer_of_one_model(server: Any, client: Client) -> None:
    server.answers["POST /predict"] = _predictions
    images = [(f"{i}.png", b"x") for i in range(130)]

    answer = client.predict(*images)

    assert [p["filename"] for p in answer["predictions"]] == [name for name, _ in images]
    assert [len(_predictions(r)["predictions"]) for r in server.requests] == [43, 43, 44]
    assert [r.url.params.get("model") for r in server.requests] == [None, "ckpt_1", "ckpt_1"]


def test_predict_wants_an_image(client: Client) -> None:
    with pytest.raises(DanluError, match="no image"):
        client.predict()


def test_data_sets_and_their_images(server: Any, client: Client) -> None:
    item = {"index": 12, "label": "7", "url": "/datasets/my%20set/images/test/12"}
    server.answers["GET /datasets"] = {"items": [], "next_cursor": None}
    server.answers["GET /datasets/my%20set"] = {"name": "my set"}
    server.answers["GET /datasets/my%20set/images"] = {"items": [item], "next_cursor": None}
    server.answers["GET /datasets/my%20set/images/test/12"] = httpx.Response(200, content=b"PNG")

    assert client.datasets()["items"] == []
    assert client.dataset("my set")["name"] == "my set"
    page = client.dataset_images("my set", split="test", label="7")
    assert dict(server.last.url.params) == {"split": "test", "class": "7"}
    assert client.image(page["items"][0]) == b"PNG"


@pytest.mark.parametrize("told", ["/lab", ""], ids=["the server knows", "only the proxy does"])
def test_an_image_of_a_server_below_a_path(server: Any, told: str) -> None:
    path = "/datasets/mnist/images/test/12"
    image: DataSetImage = {"index": 12, "label": "7", "url": f"{told}{path}"}
    server.answers[f"GET /lab{path}"] = httpx.Response(200, content=b"PNG")
    transport = httpx.MockTransport(server.handle)

    with Client(http=httpx.Client(transport=transport, base_url="http://www/lab")) as client:
        assert client.image(image) == b"PNG"


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/architectures", Client.architectures),
        ("/recipes", Client.recipes),
        ("/system", Client.system),
        ("/readyz", Client.ready),
    ],
)
def test_what_there_is(server: Any, client: Client, path: str, call: Any) -> None:
    server.answers[f"GET {path}"] = {"path": path}

    assert call(client) == {"path": path}


def test_new_fields_of_a_newer_server_are_kept(server: Any, client: Client, made: Any) -> None:
    server.answers[f"GET /jobs/{JOB}"] = made.job(mood="sunny")

    assert json.loads(json.dumps(client.job(JOB)))["mood"] == "sunny"


def test_a_name_and_fields_are_a_recipe(server: Any, client: Client, made: Any) -> None:
    server.answers["POST /train"] = made.job()

    client.train("digits", epochs=3, name="short")

    body = json.loads(server.last.content)
    assert body == {"dataset": "digits", "epochs": 3, "name": "short"}


def test_reports_and_pictures(server: Any, client: Client) -> None:
    server.answers["GET /checkpoints/ckpt_1/report"] = {"accuracy": 0.9}
    pictures = {
        f"GET /jobs/{JOB}/plot.png": lambda: client.plot(JOB),
        "GET /checkpoints/ckpt_1/confusion.png": lambda: client.confusion("ckpt_1"),
        "GET /checkpoints/ckpt_1/mistakes.png": lambda: client.mistakes("ckpt_1"),
    }
    server.answers |= {path: httpx.Response(200, content=path.encode()) for path in pictures}

    assert client.report("ckpt_1")["accuracy"] == 0.9
    for path, call in pictures.items():
        assert call() == path.encode()
