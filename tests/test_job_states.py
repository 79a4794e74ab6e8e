"""The job API against a model of the state machine, driven at random by Hypothesis.

Requests go over HTTP; the worker's side is played through `database.jobs`, as a supervisor and its
child would write. `DANLU_EXAMPLES` says how many runs; `make faults` makes 1,000.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from database import history, jobs
from database.jobs import Fence, State
from settings import Settings
from tests.app.conftest import Server, serving

EXAMPLES = int(os.environ.get("DANLU_EXAMPLES", "40"))
ENDED = ("succeeded", "failed", "cancelled")
AT_WORK = ("starting", "running", "cancelling")
OWNERS = ("ann", "bo", "cy")


@dataclass
class Model:
    """What a job should be."""

    id: str
    owner: str
    priority: int
    submitted_priority: int
    number: int  # in order of age
    epochs: int = 3
    state: str = "queued"
    attempt: int = 1
    losses: int = 0
    done: int = 0
    interrupted: bool = False
    finishing: bool = False
    fence: Fence | None = None
    told: list[str] = field(default_factory=lambda: ["queued"])

    def to(self, state: str) -> None:
        self.state = state
        self.told = [told for told in self.told if told != "end"]
        self.told.append(state)
        if state in ENDED:
            self.told.append("end")
        if state not in AT_WORK:
            self.fence = None


class _Running:
    """One server for all runs: starting one takes longer than a run."""

    server: Server | None = None
    stack = ExitStack()

    @classmethod
    def get(cls) -> Server:
        if cls.server is None:
            folder = cls.stack.enter_context(tempfile.TemporaryDirectory())
            home = Path(folder) / "home"
            chosen = Settings(home=home, datasets_dir=Path(folder) / "datasets")
            cls.server = cls.stack.enter_context(serving(chosen))
        return cls.server


class JobApi(RuleBasedStateMachine):
    """Rules are what clients, workers and accidents do."""

    known = Bundle("known")
    lost_claims = Bundle("lost_claims")

    def __init__(self) -> None:
        super().__init__()
        self.server = _Running.get()
        self.models: dict[str, Model] = {}
        self.turns: dict[str, int] = {}
        self.turn = self.requests = 0
        self.keys: dict[str, int] = {}

    def teardown(self) -> None:
        for model in self.models.values():
            if model.state in AT_WORK:
                self._write(jobs.finish, model, state=State.cancelled)
            elif model.state == "queued":
                self.server.post(f"/jobs/{model.id}/cancel")
            assert self.server.delete(f"/jobs/{model.id}").status_code == 204
        with self.server.sessions.begin() as session:
            session.connection().exec_driver_sql("DELETE FROM owners")

    # -- clients ---------------------------------------------------------------------------

    @rule(target=known, owner=st.sampled_from(OWNERS), priority=st.sampled_from([0, 0, 5]))
    def submit(self, owner: str, priority: int) -> str:
        answer = self._train(owner, priority, epochs=3)
        assert answer.status_code == 202
        model = Model(answer.json()["id"], owner, priority, priority, self.requests)
        self.models[model.id] = model
        self.keys[model.id] = self.requests
        return model.id

    @rule(job_id=known)
    def submit_again(self, job_id: str) -> None:
        model = self.models[job_id]
        again = self._train(model.owner, model.submitted_priority, epochs=3, key=self.keys[job_id])
        assert again.status_code == 202
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json()["id"] == job_id
        other = self._train(model.owner, model.submitted_priority, epochs=4, key=self.keys[job_id])
        assert other.json()["code"] == "idempotency_conflict"

    def _train(self, owner: str, priority: int, *, epochs: int, key: int | None = None) -> Any:
        if key is None:
            self.requests += 1
            key = self.requests
        headers = {"X-Danlu-User": owner, "Idempotency-Key": f"{id(self)}-{key}"}
        body = {"dataset": "digits", "epochs": epochs, "priority": priority}
        return self.server.post("/train", json=body, headers=headers)

    @rule(job_id=known)
    def cancel(self, job_id: str) -> None:
        model = self.models[job_id]
        answer = self.server.post(f"/jobs/{job_id}/cancel")
        if model.state in ("succeeded", "failed"):
            assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")
        elif model.state == "cancelled":
            assert answer.status_code == 200
        else:
            assert answer.status_code == 202
            if model.state == "queued":
                model.interrupted = False
                model.to("cancelled")
            elif model.state != "cancelling":
                model.interrupted = False
                model.to("cancelling")

    @rule(job_id=known)
    def finish_early(self, job_id: str) -> None:
        model = self.models[job_id]
        answer = self.server.post(f"/jobs/{job_id}/cancel", json={"finish": True})
        assert answer.status_code == (409 if model.state in ENDED else 202)
        model.finishing = model.finishing or model.state not in ENDED

    @rule(job_id=known, epochs=st.sampled_from([None, 1, 3, 5]))
    def resume(self, job_id: str, epochs: int | None) -> None:
        model = self.models[job_id]
        body = {} if epochs is None else {"epochs": epochs}
        answer = self.server.post(f"/jobs/{job_id}/resume", json=body)
        wanted = epochs or model.epochs
        if model.state not in ENDED:
            assert (answer.status_code, answer.json()["code"]) == (409, "job_active")
        elif wanted < model.done or (wanted == model.done and model.state == "succeeded"):
            assert (answer.status_code, answer.json()["code"]) == (409, "job_not_resumable")
        else:
            assert answer.status_code == 202
            model.epochs = wanted
            model.attempt += 1
            model.losses, model.finishing, model.interrupted = 0, False, False
            model.to("queued")

    @rule(job_id=known, priority=st.integers(-2, 9))
    def reprioritize(self, job_id: str, priority: int) -> None:
        changed = self.server.request("PATCH", f"/jobs/{job_id}", json={"priority": priority})
        assert changed.status_code == 200
        self.models[job_id].priority = priority

    @rule(job_id=consumes(known))
    def delete(self, job_id: str) -> Any:
        answer = self.server.delete(f"/jobs/{job_id}")
        if self.models[job_id].state in ENDED:
            assert answer.status_code == 204
            assert self.server.get(f"/jobs/{job_id}").status_code == 404
            del self.models[job_id]
            return
        assert (answer.status_code, answer.json()["code"]) == (409, "job_active")
        # It goes on; the rules that follow leave it alone.

    # -- workers ---------------------------------------------------------------------------

    @rule(target=lost_claims, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, worker: str) -> Any:
        expected = min(
            (m for m in self.models.values() if m.state == "queued"), key=self._place, default=None
        )
        with self.server.sessions.begin() as session:
            job = jobs.claim(session, worker_id=worker, host="here", device="cpu")
            fence = None if job is None else jobs.fence_of(job)
        assert (None if fence is None else fence.job_id) == (expected and expected.id)
        if expected is None or fence is None:
            return multiple()
        self.turn += 1
        self.turns[expected.owner] = self.turn
        expected.interrupted = False
        expected.to("starting")
        expected.fence = fence
        return fence

    @rule(job_id=known)
    def start(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.fence is not None:
            with self.server.sessions.begin() as session:
                began = jobs.start(session, model.fence, pid=1, device="cpu")
            assert began == (model.state == "starting")
            if began:
                model.to("running")

    @rule(job_id=known)
    def epoch(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.fence is not None and model.state == "running" and model.done < model.epochs:
            with self.server.sessions.begin() as session:
                assert history.add_epoch(session, model.fence, {"epoch": model.done + 1})
            model.done += 1
            model.losses = 0

    @rule(job_id=known, state=st.sampled_from(ENDED))
    def end(self, job_id: str, state: str) -> None:
        model = self.models[job_id]
        if model.fence is not None:
            assert self._write(jobs.finish, model, state=State(state))
            model.to(state)

    @rule(job_id=known)
    def release(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.fence is not None:
            assert self._write(jobs.release, model)
            self._put_back(model)

    @rule(job_id=known)
    def lose(self, job_id: str) -> None:
        model = self.models[job_id]
        if model.fence is None:
            return
        assert self._write(jobs.lose, model, reason="it vanished")
        model.losses += 1
        if model.state == "cancelling":
            model.to("cancelled")
        elif model.losses >= 3:
            model.to("failed")
        else:
            model.attempt += 1
            self._put_back(model)

    @rule(fence=lost_claims)
    def write_late(self, fence: Fence) -> None:
        model = self.models.get(fence.job_id)
        mine = model is not None and model.fence == fence
        with self.server.sessions.begin() as session:
            assert (jobs.heartbeat(session, fence) is not None) == mine

    # -- what must hold --------------------------------------------------------------------

    @invariant()
    def every_job_is_as_the_model_says(self) -> None:
        found = self.server.get("/jobs?limit=200").json()["items"]
        assert {job["id"] for job in found} == set(self.models)
        for job in found:
            model = self.models[job["id"]]
            seen = {k: job[k] for k in ("state", "attempt", "priority", "finishing", "owner")}
            assert seen == {k: getattr(model, k) for k in seen}
            assert (job["worker"] is not None) == (model.state in AT_WORK)
            assert (job["queue_position"] is not None) == (model.state == "queued")
            assert (job["finished_at"] is not None) == (model.state in ENDED)
            assert (job["error"] is not None) == (model.state == "failed" and model.losses >= 3)
        queued = [m for m in self.models.values() if m.state == "queued"]
        places = {job["queue_position"]: job["id"] for job in found if job["state"] == "queued"}
        assert sorted(places) == list(range(1, len(queued) + 1))
        if queued:
            assert places[1] == min(queued, key=self._place).id

    @invariant()
    def events_tell_the_same_story(self) -> None:
        for model in list(self.models.values())[-1:]:
            with self.server.sessions() as session:
                assert list(_told(session, model.id)) == model.told

    def _place(self, model: Model) -> tuple[Any, ...]:
        busy = sum(m.owner == model.owner and m.state in AT_WORK for m in self.models.values())
        turn = self.turns.get(model.owner, 0)
        return (-model.priority, not model.interrupted, busy, turn, model.number)

    def _write(self, change: Any, model: Model, **given: Any) -> Any:
        with self.server.sessions.begin() as session:
            return change(session, model.fence, **given)

    def _put_back(self, model: Model) -> None:
        if model.state == "cancelling":
            model.to("cancelled")
        else:
            model.to("queued")
            model.interrupted = True


def _told(session: Any, job_id: str) -> Iterator[str]:
    from database import events

    for event in events.since(session, 0, job_id=job_id, limit=1000):
        if event.type == "state":
            yield event.data["state"]
        elif event.type == "end":
            yield "end"


JobApi.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    report_multiple_bugs=False,
    derandomize=True,
    database=None,
)
TestJobApi = JobApi.TestCase


def teardown_module() -> None:
    _Running.stack.close()
