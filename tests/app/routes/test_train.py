"""`POST /train`: what becomes a job, what is only planned, and what is refused and how."""

import pytest
from sqlalchemy import select

from app import planning
from database import jobs, processes
from database.tables import Job, State


def count_jobs(server) -> int:
    with server.sessions() as session:
        return len(list(session.scalars(select(Job))))


def test_a_data_set_is_enough(server):
    response = server.post("/train", json={"dataset": "digits"})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["dataset"] == {"name": "digits", "version": None}
    assert job["owner"] == "anonymous"
    assert job["queue_position"] == 1
    assert "none is running" in job["waiting_for"]
    assert job["recipe"]["architecture"] == "mnist_net"
    assert job["recipe"]["seed"] is not None
    assert job["progress"]["epochs"] == job["recipe"]["epochs"]
    assert job["checkpoints"] == []
    assert server.get(response.headers["location"]).json() == job


def test_the_job_is_stored_when_the_answer_arrives(server):
    job_id = server.post("/train", json={"dataset": "digits"}).json()["id"]
    with server.sessions() as session:
        assert jobs.get(session, job_id).state is State.queued


def test_the_resolved_recipe_is_taken_back_as_it_is(server):
    first = server.post("/train", json={"dataset": "DIGITS", "architecture": "LeNet-5"}).json()
    again = server.post("/train", json=first["recipe"])
    assert again.status_code == 202
    assert again.json()["recipe"] == first["recipe"]
    assert first["recipe"]["architecture"] == "lenet5"


def test_labels_of_a_job(server):
    body = {"dataset": "digits", "name": "第一次", "tags": ["a", "b"], "priority": 5}
    headers = {b"X-Danlu-User": "林".encode()}
    job = server.post("/train", json=body, headers=headers).json()
    assert (job["name"], job["tags"], job["priority"]) == ("第一次", ["a", "b"], 5)
    assert job["owner"] == "林"


def test_an_owner_in_latin_1_is_taken_too(server):
    headers = {b"X-Danlu-User": "zoë".encode("latin-1")}
    assert (
        server.post("/train", json={"dataset": "digits"}, headers=headers).json()["owner"] == "zoë"
    )


def test_a_dry_run_says_what_would_be_done_and_makes_no_job(server):
    body = {"dataset": "digits", "architecture": "mnist_net", "epochs": 2, "batch_size": 100}
    response = server.post("/train?dry_run=true", json=body)
    assert response.status_code == 200
    plan = response.json()
    assert set(plan) == {"recipe", "layers", "parameters", "flops", "steps", "estimated_seconds"}
    assert [layer["type"] for layer in plan["layers"][:2]] == ["Conv2d", "ReLU"]
    assert plan["layers"][0]["output_shape"] == [10, 24, 24]
    assert plan["layers"][0]["name"] == "model.0"
    assert plan["parameters"] == sum(layer["parameters"] for layer in plan["layers"])
    assert plan["flops"] > plan["parameters"]
    # 1437 training images, a tenth held out, in batches of 100, twice
    assert plan["steps"] == 26
    assert plan["estimated_seconds"] is None
    assert count_jobs(server) == 0


def test_drop_last_leaves_the_last_batch_out_of_the_steps(shared):
    body = {"dataset": "digits", "epochs": 1, "batch_size": 100, "validation": "test"}
    assert shared.post("/train?dry_run=true", json=body).json()["steps"] == 15
    body["data_loader"] = {"drop_last": True}
    assert shared.post("/train?dry_run=true", json=body).json()["steps"] == 14


def test_the_estimate_rests_on_earlier_jobs_of_the_same_network(server, train):
    done = train(server.settings, end=None)
    with server.sessions.begin() as session:
        fence = jobs.fence_of(jobs.get(session, done.job_id))
        jobs.progress(session, fence, progress={"images_per_second": 1000.0})
        jobs.finish(session, fence, state=State.succeeded, stop_reason="completed")
    body = {"dataset": "digits", "epochs": 2, "validation": "test", "architecture": "mnist_net"}
    assert server.post("/train?dry_run=true", json=body).json()["estimated_seconds"] == 2.9
    body["architecture"] = "lenet5"
    assert server.post("/train?dry_run=true", json=body).json()["estimated_seconds"] is None


NAMES = [
    ({"dataset": "mnits"}, 404, "dataset_unknown", "'mnist'"),
    ({"dataset": "Notes-MNIST"}, 404, "dataset_unknown", "danlu train recipe=notes-mnist"),
    ({"dataset": "digits", "architecture": "mnist-ned"}, 404, "architecture_unknown", "mnist_net"),
    ({"recipe": "note-mnist"}, 404, "recipe_unknown", "'notes-mnist'"),
    ({"dataset": "digits", "optimizer": "Addam"}, 422, "optimizer_unknown", "'Adam'"),
    ({"dataset": "digits", "scheduler": "OneCycle"}, 422, "scheduler_unknown", "OneCycleLR"),
    ({"dataset": "digits", "epohcs": 1}, 422, "unknown_field", "'epochs'"),
    ({"dataset": "../../etc"}, 404, "dataset_unknown", "/datasets"),
]


@pytest.mark.parametrize(("body", "status", "code", "hint"), NAMES)
def test_names_that_do_not_exist(shared, problem, body, status, code, hint):
    document = problem(shared.post("/train", json=body), status, code)
    assert hint in document["hint"]


FIELDS = [
    ({"epochs": 0}, "invalid_request", ["body", "epochs"]),
    ({"epochs": 10**9}, "invalid_request", ["body", "epochs"]),
    ({"epochs": 1.5}, "invalid_request", ["body", "epochs"]),
    ({"lr": -0.1}, "invalid_request", ["body", "lr"]),
    ({"optimizer": {"lr": -1}}, "invalid_request", ["body", "optimizer", "lr"]),
    (
        {"optimizer": {"name": "SGD", "momentm": 1}},
        "unknown_field",
        ["body", "optimizer", "momentm"],
    ),
    ({"lr": 0.1, "optimizer": {"lr": 0.1}}, "lr_twice", ["body", "lr"]),
    ({"image_size": 4}, "network_misfit", ["body", "image_size"]),
    ({"image_size": [28]}, "invalid_request", ["body", "image_size"]),
    ({"validation": 1.5}, "invalid_request", ["body", "validation"]),
    (
        {"transforms": {"train": [{"type": "RandomCrop", "paddin": 4}]}},
        *("unknown_field", ["body", "transforms", "train", 0, "paddin"]),
    ),
    (
        {"transforms": {"train": [{"type": "RandomRotation", "degrees": 5, "expand": True}]}},
        *("unknown_field", ["body", "transforms", "train", 0, "expand"]),
    ),
    (
        {"transforms": {"train": [{"type": "RandomCrops"}]}},
        *("transform_unknown", ["body", "transforms", "train", 0, "type"]),
    ),
    (
        {"transforms": {"train": [{"type": "MixUp"}, {"type": "RandAugment"}]}},
        *("transforms_misfit", ["body", "transforms", "train", 1]),
    ),
    (
        {"transforms": {"eval": [{"type": "CenterCrop", "size": [20, "wide"]}]}},
        *("invalid_request", ["body", "transforms", "eval", 0, "size", 1]),
    ),
    (
        {"normalize": {"mean": [0.5], "std": ["wide"]}},
        *("invalid_request", ["body", "normalize", "std", 0]),
    ),
    ({"data_loader": {"shufle": True}}, "unknown_field", ["body", "data_loader", "shufle"]),
]


@pytest.mark.parametrize(("fields", "code", "loc"), FIELDS)
def test_a_wrong_field_is_named(shared, problem, fields, code, loc):
    document = problem(shared.post("/train", json={"dataset": "digits", **fields}), 422, code)
    assert loc in [error["loc"] for error in document["errors"]]
    assert document["hint"]


CONV = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3}
END = [{"type": "Flatten"}, {"type": "Linear"}]


def test_a_network_of_ones_own_is_planned_layer_by_layer(server):
    block = {"type": "Residual", "layers": [CONV | {"padding": 1, "stride": 1}, {"type": "ReLU"}]}
    body = {"dataset": "digits", "architecture": {"layers": [CONV, block, *END]}}
    plan = server.post("/train?dry_run=true", json=body).json()
    assert [(layer["name"], layer["type"], layer["output_shape"]) for layer in plan["layers"]] == [
        ("model.0", "Conv2d", [4, 26, 26]),
        ("model.1", "Residual", [4, 26, 26]),
        ("model.1.layers.0", "Conv2d", [4, 26, 26]),
        ("model.1.layers.1", "ReLU", [4, 26, 26]),
        ("model.2", "Flatten", [2704]),
        ("model.3", "Linear", [10]),
    ]
    assert plan["parameters"] == sum(layer["parameters"] for layer in plan["layers"]) == 27_238
    assert plan["flops"] == 2 * (26 * 26 * 4 * 9 + 26 * 26 * 4 * 36 + 27_040)
    # The shortest form is what is kept.
    assert plan["recipe"]["architecture"]["layers"][1]["layers"][0] == CONV | {"padding": 1}


def test_a_network_of_ones_own_is_taken_back_as_it_is(server):
    body = {"dataset": "digits", "architecture": {"layers": [CONV | {"stride": [2, 1]}, *END]}}
    first = server.post("/train", json=body).json()
    again = server.post("/train", json=first["recipe"]).json()
    assert again["recipe"] == first["recipe"]
    assert again["recipe"]["architecture"] == body["architecture"]
    assert server.get("/jobs").json()["items"][0]["recipe"] == first["recipe"]


def test_the_estimate_of_a_network_of_ones_own_rests_on_jobs_of_the_same_layers(server):
    body = {
        "dataset": "digits",
        "epochs": 2,
        "validation": "test",
        "architecture": {"layers": [CONV, *END]},
    }
    job_id = server.post("/train", json=body).json()["id"]
    with server.sessions.begin() as session:
        jobs.claim(session, worker_id="w", host="h", device="cpu")
    with server.sessions.begin() as session:
        fence = jobs.fence_of(jobs.get(session, job_id))
        jobs.progress(session, fence, progress={"images_per_second": 1000.0})
        jobs.finish(session, fence, state=State.succeeded, stop_reason="completed")
    assert server.post("/train?dry_run=true", json=body).json()["estimated_seconds"] == 2.9
    body["architecture"] = {"layers": [CONV | {"bias": False}, *END]}
    assert server.post("/train?dry_run=true", json=body).json()["estimated_seconds"] is None


LAYERS = [
    ([CONV, CONV | {"kernel_siz": 5}], "unknown_field", [1, "kernel_siz"], "kernel_size"),
    ([{"type": "Linear", "device": "cpu"}], "unknown_field", [0, "device"], "the worker chooses"),
    ([{"type": "Conv3d"}], "invalid_request", [0, "type"], "See errors"),
    ([{"kernel_size": 3}], "invalid_request", [0, "type"], "See errors"),
    ([CONV | {"stride": "x"}], "invalid_request", [0, "stride"], "See errors"),
    ([{"type": "Residual", "layers": [CONV]}, *END], "layers_misfit", [0], "floor((in + 2 padd"),
    (
        [{"type": "Residual", "layers": [CONV | {"kernel_size": 29}]}, *END],
        *("layers_misfit", [0, "layers", 0], "floor((in + 2 padding"),
    ),
    ([CONV | {"in_channels": 3}, *END], "layers_misfit", [0, "in_channels"], "Leave in_channels"),
    ([CONV, {"type": "Linear"}], "layers_misfit", [1], "Flatten"),
    (
        [*END[:1], {"type": "AdaptiveAvgPool2d", "output_size": 1}],
        *("layers_misfit", [1], "Change the layer"),
    ),
]


@pytest.mark.parametrize(("layers", "code", "place", "hint"), LAYERS)
def test_a_layer_that_is_wrong_is_named(shared, problem, layers, code, place, hint):
    body = {"dataset": "digits", "architecture": {"layers": layers}}
    document = problem(shared.post("/train", json=body), 422, code)
    places = [error["loc"] for error in document["errors"]]
    assert ["body", "architecture", "layers", *place] in places
    assert hint in document["hint"]


def test_a_misfit_tells_the_layer_its_arguments_what_reaches_it_and_the_formula(shared, problem):
    layers = [CONV, {"type": "MaxPool2d", "kernel_size": 2}, CONV | {"kernel_size": [14, 1]}, *END]
    body = {"dataset": "digits", "architecture": {"layers": layers}}
    document = problem(shared.post("/train", json=body), 422, "layers_misfit")
    assert document["detail"] == (
        "Layer 2, Conv2d(out_channels=4, kernel_size=(14, 1)), cannot take the 4 x 13 x 13 that "
        "reaches it (channels x height x width): floor((13 + 2*0 - 1*(14 - 1) - 1) / 1 + 1) = 0."
    )


def test_a_network_of_10_to_the_12_parameters(shared, problem):
    wide = {"type": "Linear", "out_features": 1_000_000}
    body = {"dataset": "digits", "architecture": {"layers": [END[0], wide, wide, END[1]]}}
    document = problem(shared.post("/train", json=body), 422, "network_too_large")
    assert "1,000,796,000,010 parameters" in document["detail"]
    assert document["errors"][0]["loc"] == ["body", "architecture"]


def test_a_network_without_anything_to_train(shared, problem):
    pool = {"type": "AdaptiveAvgPool2d", "output_size": [2, 5]}
    body = {"dataset": "digits", "architecture": {"layers": [pool, END[0]]}}
    document = problem(shared.post("/train", json=body), 422, "layers_misfit")
    assert "nothing to train" in document["detail"]


def test_muon_wants_a_weight_of_two_dimensions(shared, problem):
    conv = {"type": "Conv2d", "out_channels": 10, "kernel_size": 3}
    ends = [{"type": "AdaptiveAvgPool2d", "output_size": 1}, {"type": "Flatten"}]
    body = {"dataset": "digits", "optimizer": "Muon", "architecture": {"layers": [conv, *ends]}}
    document = problem(shared.post("/train?dry_run=true", json=body), 422, "invalid_request")
    assert "weights of two dimensions" in document["detail"]
    assert document["errors"][0]["loc"] == ["body", "optimizer", "name"]
    assert shared.post("/train?dry_run=true", json=body | {"optimizer": "AdamW"}).is_success
    body["architecture"]["layers"].append({"type": "Linear"})
    assert shared.post("/train?dry_run=true", json=body).is_success


@pytest.mark.parametrize(
    ("opening", "closing", "depth", "status", "code"),
    [
        ('{"layers":[', "]}", 30, 422, "invalid_request"),
        ('{"layers":[', "]}", 300, 422, "invalid_request"),
        ('{"layers":[', "]}", 50_000, 400, "invalid_json"),
        ("[", "]", 100_000, 400, "invalid_json"),
    ],
)
def test_a_body_that_is_deep(shared, problem, opening, closing, depth, status, code):
    body = f'{{"dataset": "digits", "architecture": {opening * depth}{closing * depth}}}'
    response = shared.post("/train", content=body, headers={"Content-Type": "application/json"})
    assert "deep" in problem(response, status, code)["detail"]


def test_batch_norm_is_not_trained_on_one_image_at_a_time(shared, problem):
    body = {"dataset": "digits", "architecture": "resnet_small", "batch_size": 1}
    document = problem(shared.post("/train", json=body), 422, "invalid_request")
    assert document["errors"][0]["loc"] == ["body", "batch_size"]


def test_a_last_image_alone_is_no_step_of_its_own_with_batch_norm(shared):
    body = {"dataset": "digits", "epochs": 1, "batch_size": 359, "validation": "test"}
    steps = [
        shared.post("/train?dry_run=true", json=body | {"architecture": name}).json()["steps"]
        for name in ("mnist_net", "resnet_small")
    ]
    assert steps == [5, 4]  # of 1437 images


def test_a_learning_rate_of_nan(shared, problem):
    for body in (
        '{"dataset": "digits", "lr": NaN}',
        '{"dataset": "digits", "optimizer": {"lr": NaN}}',
    ):
        response = shared.post("/train", content=body, headers={"Content-Type": "application/json"})
        document = problem(response, 422, "invalid_request")
        assert document["errors"][0]["loc"][-1] == "lr"


def test_an_image_too_small_for_the_network(shared, problem):
    body = {"dataset": "digits", "architecture": "mnist_net", "image_size": 8}
    document = problem(shared.post("/train", json=body), 422, "network_misfit")
    assert "Layer 3" in document["detail"]
    assert "10 x 2 x 2" in document["detail"]
    assert "image_size" in document["hint"]


def test_no_data_set_at_all(shared, problem):
    document = problem(shared.post("/train", json={}), 422, "invalid_request")
    assert "digits" in document["hint"]


@pytest.mark.parametrize(
    "body",
    [
        b"dataset=digits",
        b"{'dataset': 'digits'}",
        b"",
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"dataset": "\xff"}',
    ],
)
def test_a_body_that_is_not_json(shared, problem, body):
    response = shared.post("/train", content=body, headers={"Content-Type": "application/json"})
    assert "curl --json" in problem(response, 400, "invalid_json")["hint"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_json_without_its_content_type(shared, problem, kind):
    headers = {"Content-Type": kind} if kind else {}
    response = shared.post("/train", content=b'{"dataset": "digits"}', headers=headers)
    assert "curl --json" in problem(response, 415, "unsupported_media_type")["hint"]


@pytest.mark.parametrize("body", [b"[]", b'"digits"', b"null", b"17"])
def test_json_that_is_no_object(shared, problem, body):
    response = shared.post("/train", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    problem(response, response.status_code, response.json()["code"])


def test_thousands_of_unknown_fields_are_not_all_listed(shared, problem):
    body = {f"field{number}": 1 for number in range(5000)}
    document = problem(shared.post("/train", json=body), 422, "unknown_field")
    assert len(document["errors"]) == 20


@pytest.mark.parametrize("body", [b'{"\\ud800": 1}', b'{"optimizer": {"\\ud800": 1}}'])
def test_a_field_name_that_utf_8_cannot_say(shared, problem, body):
    response = shared.post("/train", content=body, headers={"Content-Type": "application/json"})
    problem(response, 422, response.json()["code"])


def test_an_owner_that_is_too_long(shared, problem):
    response = shared.post(
        "/train", json={"dataset": "digits"}, headers={"X-Danlu-User": "x" * 300}
    )
    assert problem(response, 422, "invalid_request")["errors"][0]["loc"][0] == "header"


@pytest.fixture
def deleting(monkeypatch):
    """Does something just after the recipe is planned, as another request may."""

    def deleting(delete):
        def plan(*given, real=planning.plan):
            planned = real(*given)
            delete()
            return planned

        monkeypatch.setattr(planning, "plan", plan)

    return deleting


def test_a_data_set_that_is_deleted_meanwhile(server, problem, png, deleting):
    pets = server.settings.datasets / "pets"
    for label in ("cat", "dog"):
        (pets / label).mkdir(parents=True)
        for number in range(10):
            (pets / label / f"{number}.png").write_bytes(png(number))
    assert server.post("/train", json={"dataset": "pets"}).status_code == 202
    deleting(lambda: pets.rename(server.settings.home / "gone"))
    document = problem(server.post("/train", json={"dataset": "pets"}), 404, "dataset_unknown")
    assert document["errors"][0]["loc"] == ["body", "dataset"]
    assert count_jobs(server) == 1


def test_a_checkpoint_that_is_deleted_meanwhile(server, problem, train, deleting):
    start = train(server.settings).checkpoint_ids[0]
    body = {"dataset": "digits", "init_from": start}
    deleting(lambda: server.delete(f"/checkpoints/{start}").raise_for_status())
    document = problem(server.post("/train", json=body), 404, "checkpoint_not_found")
    assert document["errors"][0]["loc"] == ["body", "init_from"]
    assert count_jobs(server) == 1


def test_nothing_refused_leaves_a_job(server):
    for body, *_ in NAMES:
        assert server.post("/train", json=body).is_client_error
    for fields, *_ in FIELDS:
        assert server.post("/train", json={"dataset": "digits", **fields}).is_client_error
    assert count_jobs(server) == 0


def worker_with(server, *devices: str, pid: int = 7, cores: int = 4) -> None:
    told = {"devices": list(devices), "cores": cores}
    with server.sessions.begin() as session:
        processes.seen(session, role="supervisor", pid=pid, host="h", info=told)


@pytest.mark.parametrize("dry_run", [False, True])
def test_more_devices_than_a_worker_has_are_refused(server, problem, dry_run):
    asked = {"dataset": "digits", "devices": 5}
    accepted = 200 if dry_run else 202
    address = f"/train?dry_run={str(dry_run).lower()}"
    assert server.post(address, json=asked).status_code == accepted, "nobody knows"
    worker_with(server, "cpu")
    refused = problem(server.post(address, json=asked), 422, "device_unavailable")
    assert refused["detail"] == "The recipe wants 5 devices, and the worker has 4."
    assert refused["hint"] == "Give devices: 4, or fewer."
    assert refused["errors"] == [{"loc": ["body", "devices"], "msg": refused["detail"]}]
    assert server.post(address, json={**asked, "devices": 4}).status_code == accepted
    worker_with(server, *(f"cuda:{n}" for n in range(8)), pid=8)
    assert server.post(address, json=asked).status_code == accepted
    assert server.post(address, json={**asked, "device": "mps"}).status_code == 422


NO_DEVICE = [
    ({"device": "cuda"}, "device", "The recipe wants cuda, and the worker has cpu, mps."),
    ({"device": "cuda", "devices": 2}, "device", "The recipe wants cuda, and the worker has"),
    ({"device": "cuda", "precision": "fp16"}, "device", "The recipe wants cuda, and the worker"),
    ({"precision": "fp16"}, "precision", "The recipe wants fp16, which needs a CUDA GPU, and the"),
    ({"precision": "tf32"}, "precision", "The recipe wants tf32, which needs a CUDA GPU, and the"),
]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("fields", "field", "detail"), NO_DEVICE)
def test_a_kind_of_device_that_no_worker_has_is_refused(
    server, problem, fields, field, detail, dry_run
):
    asked = {"dataset": "digits", **fields}
    accepted = 200 if dry_run else 202
    address = f"/train?dry_run={str(dry_run).lower()}"
    assert server.post(address, json=asked).status_code == accepted, "nobody knows"
    worker_with(server, "cpu")
    worker_with(server, "mps", pid=8)
    refused = problem(server.post(address, json=asked), 422, "device_unavailable")
    assert refused["detail"].startswith(detail)
    assert refused["hint"] == f'Use {field} "auto".'
    assert refused["errors"] == [{"loc": ["body", field], "msg": refused["detail"]}]
    worker_with(server, "cuda:0", "cuda:1", pid=9)
    assert server.post(address, json=asked).status_code == accepted


def test_what_every_worker_has_is_never_refused(server):
    worker_with(server, "cuda:0")
    for device in ("auto", "cpu", "cuda"):
        asked = {"dataset": "digits", "device": device, "precision": "bf16"}
        assert server.post("/train", json=asked).status_code == 202
