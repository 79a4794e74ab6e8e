"""What schemathesis does beyond its own: it waits less, and knows what no schema can say."""

import contextlib
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response

CURSOR = ("GET /jobs", "GET /checkpoints")
# (operation, code) of refusals of what the document calls valid, and why it cannot say more.
REFUSED = {
    **{(list_, "invalid_request", "cursor"): "only the server makes cursors" for list_ in CURSOR},
}


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
    if isinstance(failure, AcceptedNegativeData):
        return (label, response.status_code) != ("POST /predict", 413)
    return True
