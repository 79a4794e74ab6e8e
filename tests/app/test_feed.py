"""Events and long polls: everyone hears everything once, in order, from one reader."""

import asyncio
import time

import pytest

from app.feed import Feed
from database import history, jobs
from database.tables import State


def parse(text: str) -> list[tuple[int, str]]:
    """Number and type of each event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"]))
    return found


def test_waiting_returns_when_the_job_has_ended(server, train):
    job_id = train(server.settings, end=None).job_id
    waiting = server.soon("GET", f"/jobs/{job_id}?wait=55")
    time.sleep(0.3)
    assert not waiting.done()
    server.finish(job_id)
    assert waiting.result(timeout=40).json()["state"] == "succeeded"


def test_waiting_returns_after_the_time_asked_for(server):
    queued = server.post("/train", json={"dataset": "digits"}).json()["id"]
    began = time.monotonic()
    assert server.get(f"/jobs/{queued}?wait=0.3").json()["state"] == "queued"
    assert 0.25 < time.monotonic() - began < 40


def test_waiting_for_an_ended_job_returns_at_once(shared, trained):
    began = time.monotonic()
    assert shared.get(f"/jobs/{trained.job_id}?wait=55").json()["state"] == "succeeded"
    assert time.monotonic() - began < 40


def test_the_events_of_an_ended_job(shared, trained):
    response = shared.get(f"/jobs/{trained.job_id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    heard = parse(response.text)
    assert [kind for _, kind in heard] == [
        *("state", "state", "state", "checkpoint", "checkpoint", "state", "end")
    ]
    assert heard == sorted(heard)


def test_a_reconnect_hears_the_rest_and_then_that_there_is_no_more(shared, trained):
    path = f"/jobs/{trained.job_id}/events"
    heard = parse(shared.get(path).text)
    for place, (number, _) in enumerate(heard[:-1]):
        again = shared.get(path, headers={"Last-Event-ID": str(number)})
        assert parse(again.text) == heard[place + 1 :]
    ended = shared.get(path, headers={"Last-Event-ID": str(heard[-1][0])})
    assert (ended.status_code, ended.content) == (204, b"")


def test_a_number_from_before_a_backup_was_restored(shared, trained):
    path = f"/jobs/{trained.job_id}/events"
    heard = shared.get(path, headers={"Last-Event-ID": "999999999"})
    assert parse(heard.text) == parse(shared.get(path).text)


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "99999999999999999999"])
def test_a_number_that_is_none(shared, trained, problem, last):
    path = f"/jobs/{trained.job_id}/events"
    problem(shared.get(path, headers={"Last-Event-ID": last}), 422, "invalid_request")


def test_many_listeners_hear_all_from_one_reader(server, train):
    job_id = train(server.settings, end=None).job_id
    holder = server.fence(job_id)
    reads = 0

    class Counted(Feed):
        def _news(self, after):
            nonlocal reads
            reads += 1
            return super()._news(after)

    async def listen(feed: Feed) -> list[tuple[int, str]]:
        return parse(b"".join([text async for text in feed.stream(job_id, after=0)]).decode())

    async def all_hear() -> list[list[tuple[int, str]]]:
        feed = Counted(server.sessions)
        listeners = [asyncio.create_task(listen(feed)) for _ in range(50)]
        for epoch in range(1, 21):
            await asyncio.sleep(0.01)
            await asyncio.to_thread(write, epoch)
            listeners.append(asyncio.create_task(listen(feed)))
        await asyncio.to_thread(server.finish, job_id)
        return await asyncio.wait_for(asyncio.gather(*listeners), 30)

    def write(epoch: int) -> None:
        with server.sessions.begin() as session:
            history.add_epoch(session, holder, {"epoch": epoch})

    began = time.monotonic()
    heard = asyncio.run(all_hear())
    assert all(one == heard[0] for one in heard)
    assert [kind for _, kind in heard[0]].count("epoch") == 20
    assert heard[0][-1][1] == "end"
    assert reads <= (time.monotonic() - began) / 0.05 + 2


def test_a_resumed_job_goes_on_telling(server, train):
    job_id = train(server.settings, end=State.failed).job_id
    server.post(f"/jobs/{job_id}/resume")
    stream = server.soon("GET", f"/jobs/{job_id}/events")
    time.sleep(0.2)
    assert not stream.done()
    server.post(f"/jobs/{job_id}/cancel")
    kinds = [kind for _, kind in parse(stream.result(timeout=60).text)]
    assert (kinds.count("end"), kinds[-1]) == (1, "end")


def test_a_deleted_job_lets_go_of_those_who_listen(server):
    """Its `end` is deleted with it, here before anyone could read that."""
    queued = server.post("/train", json={"dataset": "digits"}).json()["id"]

    def delete() -> None:
        with server.sessions.begin() as session:
            jobs.cancel(session, queued)
            jobs.remove(session, queued)

    said: list[bytes] = []

    async def listen(feed: Feed, has_past: asyncio.Event) -> None:
        async for text in feed.stream(queued, after=0):
            said.append(text)
            if parse(text.decode()):
                has_past.set()

    async def both() -> None:
        feed = Feed(server.sessions)
        has_past = asyncio.Event()
        heard = asyncio.create_task(listen(feed, has_past))
        ended = asyncio.create_task(feed.wait_for_end(queued, seconds=50))
        await asyncio.wait_for(has_past.wait(), 60)
        assert not heard.done()
        assert not ended.done()
        await asyncio.to_thread(delete)
        await asyncio.wait_for(asyncio.gather(heard, ended), 30)

    asyncio.run(both())
    assert [kind for _, kind in parse(b"".join(said).decode())] == ["state"]


def test_silence_is_filled_and_closing_lets_everyone_go(server):
    queued = server.post("/train", json={"dataset": "digits"}).json()["id"]

    async def listen() -> bytes:
        feed = Feed(server.sessions)
        got = b""
        async for text in feed.stream(queued, after=0, keepalive_seconds=0.05):
            got += text
            if text.startswith(b":"):
                feed.close()
        await feed.wait_for_end(queued, seconds=30)
        return got

    assert b": ping" in asyncio.run(asyncio.wait_for(listen(), 20))


def test_a_database_that_does_not_answer_is_asked_again(server, train, caplog):
    job_id = train(server.settings, end=None).job_id
    server.finish(job_id)

    class Trouble(Feed):
        asked = 0

        def _newest(self):
            self.asked += 1
            if self.asked == 1:
                raise OSError("gone")
            return super()._newest()

    asyncio.run(Trouble(server.sessions).wait_for_end(job_id, seconds=30))
    assert "gone" in caplog.text
