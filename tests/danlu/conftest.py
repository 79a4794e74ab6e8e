"""A server made of canned answers, and the things it sends."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from danlu import Client

BASE_URL = "http://danlu.test"


@dataclass
class FakeServer:
    """Answers by `"METHOD /path"`: JSON, a response, or a function of the request."""

    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.raw_path.decode().partition("?")[0]
        answer = self.answers.get(f"{request.method} {path}")
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, httpx.Response):
            return answer
        if answer is None:
            return problem("not_found", 404)
        return httpx.Response(200, json=answer)

    def client(self, **changes: Any) -> Client:
        transport = httpx.MockTransport(self.handle)
        return Client(http=httpx.Client(transport=transport, base_url=BASE_URL), **changes)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]

    @property
    def last_json(self) -> Any:
        return json.loads(self.last.content)


def problem(code: str, status: int, **changes: Any) -> httpx.Response:
    body = {"code": code, "detail": f"About {code}.", "hint": "Do this.", "errors": [], **changes}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def make_job(**changes: Any) -> dict[str, Any]:
    unknown = ("phase", "epochs", "steps", "fraction", "images_per_second", "eta_seconds", "bytes")
    measured = ("loss", "accuracy")
    metrics = [f"{part}_{what}" for part in ("train", "val", "test") for what in measured]
    return {
        "id": "job_01K0000000AAAAAAAAAAAAAAAA",
        "kind": "train",
        "name": None,
        "tags": [],
        "owner": "lin",
        "state": "queued",
        "priority": 0,
        "attempt": 1,
        "queue_position": 1,
        "waiting_for": None,
        "device": None,
        "worker": None,
        "dataset": {"name": "digits", "version": None},
        "recipe": {"architecture": "mnist_net"},
        "progress": {"epoch": 0, "step": 0, **dict.fromkeys(unknown)},
        "metrics": dict.fromkeys([*metrics, "best_val_accuracy", "val_count"]),
        "checkpoints": [],
        "best_checkpoint_id": None,
        "warnings": [],
        "stop_reason": None,
        "error": None,
        "disk_bytes": None,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        **changes,
    }


def make_running(epoch: int = 3, **changes: Any) -> dict[str, Any]:
    job = make_job(state="running")
    job["progress"] |= {
        "phase": "training",
        "epoch": epoch,
        "epochs": 15,
        "step": 100,
        "steps": 600,
        "fraction": epoch / 15,
        "images_per_second": 21000.0,
        "eta_seconds": 75.2,
    }
    job["metrics"] |= {
        "train_loss": 0.2134,
        "train_accuracy": 0.934,
        "val_loss": 0.2,
        "val_accuracy": 0.95,
        "best_val_accuracy": 0.951,
        "val_count": 143,
    }
    return {**job, **changes}


def make_epoch(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "attempt": 1,
        "train_loss": 0.5,
        "train_accuracy": 0.8,
        "val_loss": 0.4,
        "val_accuracy": 0.9,
        "test_loss": None,
        "test_accuracy": None,
        "lr": 0.001,
        "images_per_second": 12000.0,
        "seconds": 0.1,
        **changes,
    }


def make_dataset(name: str = "pets", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "origin": "folder",
        "classes": ["cat", "dog"],
        "counts": {"train": 240, "test": 30},
        "height": 480,
        "width": 640,
        "channels": 3,
        "available": True,
        "version": "0123abcd",
        "defaults": {},
        "job_id": "job_01K0000000IMP0RT0000000000",
        "archive_sha256": None,
        "report": None,
        **changes,
    }


@pytest.fixture
def made() -> SimpleNamespace:
    """What tests make: as attributes, since a conftest cannot be imported."""
    return SimpleNamespace(
        job=make_job,
        running=make_running,
        epoch=make_epoch,
        dataset=make_dataset,
        problem=problem,
    )


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Client:
    return server.client(user="lin")
