"""Work for a client that is given up when the client hangs up. Knows nothing of the work."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")

# After which it is looked whether the client is still there.
_PATIENCE_SECONDS = 0.25


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away. That is looked for once
    it takes longer than most: looking costs as much as a small network. The body has to be read
    before. Raises `ClientDisconnect`.
    """
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    watch: asyncio.Task[None] | None = None
    gone = False

    async def notice() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if this is not None:
            this.cancel()

    def look() -> None:
        nonlocal watch
        watch = asyncio.create_task(notice())

    timer = loop.call_later(_PATIENCE_SECONDS, look)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()
