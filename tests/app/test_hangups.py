"""Work that goes on while its client is there, and no longer."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect, Request

from app.hangups import while_connected


def request(*, leaves_after: float | None = None) -> Request:
    """Of a client that waits, or leaves after so many seconds."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        if (message := next(messages, None)) is None:
            await asyncio.sleep(60 if leaves_after is None else leaves_after)
            message = {"type": "http.disconnect"}
        return message

    return Request({"type": "http"}, receive)


async def takes(seconds: float, ended: list[str]) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise
    return "done"


def test_who_stays_gets_the_result():
    ended: list[str] = []
    assert asyncio.run(while_connected(request(), takes(0.3, ended))) == "done"
    assert ended == []


def test_who_hangs_up_is_not_worked_for():
    ended: list[str] = []
    with pytest.raises(ClientDisconnect):
        asyncio.run(while_connected(request(leaves_after=0.05), takes(30, ended)))
    assert ended == ["cancelled"]


def test_who_is_cancelled_has_not_hung_up():
    ended: list[str] = []

    async def cancelled() -> None:
        task = asyncio.create_task(while_connected(request(), takes(30, ended)))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert ended == ["cancelled"]
