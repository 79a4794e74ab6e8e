"""What schemathesis does beyond its own: it waits less, and knows what no schema can say."""

import contextlib
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import EnsureResourceAvailability, RejectedPositiveData

# What the document calls valid and the server may refuse: operation, code, field, and why no
# schema can say more.
REFUSED = {
    ("GET /jobs", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /checkpoints", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /models", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /datasets", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /architectures", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /recipes", "invalid_request", "cursor"): "only the server makes cursors",
    ("GET /architectures/{name}", "network_misfit", "input"): "each network has a size of its own",
    ("GET /architectures/{name}", "network_too_large", "input"): "Linear grows with the image",
    ("POST /train", "network_too_large", "image_size"): "Linear grows with the image",
    ("POST /train", "layers_misfit", "architecture"): "each must take what the one before makes",
    ("POST /train", "network_misfit", "image_size"): "each network has a size of its own",
    ("POST /train", "invalid_request", "dataset"): "the ready-made recipe may name it instead",
    ("POST /train", "lr_twice", "lr"): "optimizer.lr says the same",
    ("POST /train", "unknown_field", "optimizer"): "its name decides which arguments there are",
    ("POST /train", "unknown_field", "scheduler"): "its name decides which arguments there are",
    ("POST /train", "unknown_field", "loss"): "its name decides which arguments there are",
    ("POST /train", "invalid_request", "loss"): "the data set decides which classes there are",
    ("POST /train", "invalid_request", "class_weights"): "a number for each class",
    ("POST /train", "invalid_request", "test"): "the data set may have a test part of its own",
    ("POST /train", "invalid_request", "precision"): "some need a GPU, and device may forbid it",
    ("POST /train", "invalid_request", "optimizer"): "some arguments exclude each other",
    ("POST /train", "invalid_request", "scheduler"): "some arguments exclude each other",
    ("POST /train", "invalid_request", "normalize"): "a number for each channel",
    ("POST /train", "invalid_request", "validation"): "the data set decides which parts there are",
    ("POST /train", "invalid_request", "batch_size"): "drop_last must leave a batch",
    ("POST /train", "invalid_request", "transforms"): "ranges must rise",
    ("POST /train", "transforms_misfit", "transforms"): "each must take what the one before makes",
    ("POST /train", "transforms_misfit", "normalize"): "transforms may have a Normalize too",
    ("POST /train", "network_misfit", "transforms"): "each network has a size of its own",
    ("POST /train", "invalid_request", "pretrained"): "not every network has published weights",
    ("POST /train", "invalid_request", "freeze_backbone"): "it needs pretrained weights",
    ("POST /train", "invalid_request", "head_lr"): "not every network has a head of its own",
    ("POST /train", "idempotency_conflict", None): "the key came with another recipe before",
    ("POST /datasets", "invalid_request", "name"): "no pattern knows all scripts",
    ("POST /datasets", "archive_invalid", None): "no schema knows archives",
    ("POST /datasets", "empty_file", None): "an archive has bytes",
    ("PUT /datasets/{name}", "invalid_request", "name"): "no pattern knows all scripts",
    ("PUT /datasets/{name}", "archive_invalid", None): "no schema knows archives",
    ("PUT /datasets/{name}", "empty_file", None): "an archive has bytes",
    ("DELETE /datasets/{name}", "invalid_request", "name"): "built-in sets stay",
    ("POST /checkpoints", "empty_file", None): "no schema knows weights",
    ("POST /checkpoints", "model_file_invalid", "file"): "no schema knows weights",
    ("POST /checkpoints", "invalid_request", "architecture"): "JSON in a field of a form",
    ("POST /checkpoints", "invalid_request", "classes"): "JSON in a field of a form",
    ("POST /checkpoints", "invalid_request", "input"): "JSON in a field of a form",
    ("POST /predict", "empty_file", None): "no schema knows images",
    ("POST /predict", "not_an_image", None): "no schema knows images",
    ("POST /predict", "truncated_image", None): "no schema knows images",
    ("POST /predict", "unsupported_format", None): "no schema knows images",
    ("POST /predict", "too_many_files", "explain"): "fewer than without it",
}


@schemathesis.hook
def before_load_schema(_context: HookContext, document: dict[str, Any]) -> None:
    """Layers come whole: of those put together by chance hardly any fit each other, and trying
    every argument of each took twice the time. tests/models_store/test_shapes generates them.
    """
    layers = document["components"]["schemas"]["LayerList"]["properties"]["layers"]
    layers["items"] = {"enum": [{"type": "Flatten"}, {"type": "ReLU"}, {"type": "Linear"}]}


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """Long polls of jobs that only queue are cut to a moment; what is refused stays as it is."""
    if case.operation.label == "GET /jobs/{id}" and isinstance(case.query, dict):
        with contextlib.suppress(TypeError, ValueError):
            if 0 < float(case.query.get("wait")) <= 55:
                case.query["wait"] = 0.05


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether a failure is one. Those that are not are few, and each has its reason."""
    label = case.operation.label
    if isinstance(failure, EnsureResourceAvailability):
        # What is accepted is imported by a job, and here is no worker.
        return failure.created_with not in ("POST /datasets", "PUT /datasets/{name}")
    if isinstance(failure, AcceptedNegativeData):
        return (label, response.status_code) != ("POST /predict", 413)
    if isinstance(failure, RejectedPositiveData):
        problem = response.json()
        fields = {error["loc"][1] for error in problem["errors"]} or {None}
        return not {(label, problem["code"], field) for field in fields} <= REFUSED.keys()
    return True
