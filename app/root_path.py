"""Serves the application below a path, as a proxy shows it beside other sites: `/danlu/jobs`.

A proxy may leave the path on or cut it off: both lead to the same operation. Knows no operation.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def of(scope: Scope) -> str:
    """The path that everything lies below, without a slash at its end; empty where there is none.

    In a mounted application too, which has a longer one of its own.
    """
    return str(scope.get("app_root_path", scope.get("root_path", "")))


def rest(scope: Scope) -> str:
    """The request's path below it."""
    root, path = of(scope), str(scope["path"])
    return path[len(root) :] if path.startswith(f"{root}/") else path


class RootPath:
    """Puts the path into the scope, in front of `path`, and in front of each `Location` of ours."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self.app = app
        self._root = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if not self._root or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_below(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/"):
                    headers["location"] = self._below(location)
            await send(message)

        # uvicorn's own setting takes every path for one that was cut.
        path = self._below(scope["path"])
        cut = len(path) - len(scope["path"])
        raw_path = path[:cut].encode() + scope.get("raw_path", b"")
        await self.app(
            {**scope, "root_path": self._root, "path": path, "raw_path": raw_path},
            receive,
            send_below,
        )

    def _below(self, address: str) -> str:
        path = address.partition("?")[0]
        return address if f"{path}/".startswith(f"{self._root}/") else self._root + address
