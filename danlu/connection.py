"""One connection to a server: requests out, answers or `DanluError` back.

Knows what all of the API has in common, errors and owners, and none of its endpoints.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from danlu.environment import DEFAULT_URL
from danlu.errors import NO_SERVER, DanluError

_KEY_HINT = "Set DANLU_API_KEY to the key of the server: what `danlu serve` printed there."


class Connection:
    """Requests to one server, each as `user` and with `api_key`. Parameters that are None are left
    out.
    """

    def __init__(self, http: httpx.Client, *, user: str | None, api_key: str | None = None) -> None:
        self._http = http
        # Owners may be of any script; httpx would insist on ASCII in a str.
        self._headers = {b"X-Danlu-User": user.strip().encode()} if user else {}
        if api_key:
            self._headers[b"Authorization"] = f"Bearer {api_key}".encode()

    @property
    def base_url(self) -> str:
        """Address of the server, without a slash at the end."""
        return str(self._http.base_url).rstrip("/")

    def close(self) -> None:
        """Close it; it cannot be used after that."""
        self._http.close()

    def json(self, method: str, path: str, **request: Any) -> Any:
        """The JSON that answers a request; like `send` otherwise."""
        response = self.send(method, path, **request)
        try:
            return response.json()
        except ValueError:
            raise _stranger(response) from None

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
        **content: Any,
    ) -> httpx.Response:
        """The answer to a request, read whole. Raises `DanluError`."""
        # httpx tells None (no timeout) from the client's own; we have no use for no timeout.
        extra: dict[str, Any] = {"timeout": timeout} if timeout else {}
        with self._answering():
            response = self._http.request(
                method,
                path,
                params=_given(params or {}),
                headers=[*self._headers.items(), *_encoded(headers)],
                **extra,
                **content,
            )
        return _checked(response)

    def upload(
        self,
        method: str,
        path: str,
        pieces: Iterable[bytes],
        *,
        size: int,
        kind: str = "application/octet-stream",
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON that answers a body of `size` bytes, sent by pieces. Raises `DanluError`."""
        headers = {"Content-Type": kind, "Content-Length": str(size)}
        # Writing to disk what has come may take the server a while, at the end above all.
        timeout = httpx.Timeout(300.0, connect=5.0)
        return self.json(
            method, path, content=pieces, headers=headers, params=params, timeout=timeout
        )

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a request, to be read bit by bit. Raises `DanluError`."""
        extra: dict[str, Any] = {"timeout": timeout} if timeout else {}
        with (
            self._answering(),
            self._http.stream(
                method,
                path,
                params=_given(params or {}),
                headers=[*self._headers.items(), *_encoded(headers)],
                **extra,
            ) as response,
        ):
            if not response.is_success:
                response.read()
            yield _checked(response)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            detail = f"The server at {self.base_url} did not answer in time."
            raise DanluError(NO_SERVER, detail, hint="See what `danlu serve` prints.") from None
        except httpx.TransportError as error:
            detail = f"No danlu server answers at {self.base_url} ({error})."
            hint = "Start one with `danlu serve`, or set DANLU_URL to the address of one."
            raise DanluError(NO_SERVER, detail, hint=hint) from None
        except UnicodeEncodeError as error:
            raise _no_utf8(error) from None


def path_of(*parts: str) -> str:
    """An address in which each name stays one, `..` too. Raises `DanluError` for an empty one, and
    for what is no UTF-8.
    """
    if not all(parts):
        hint = "Is it a variable that is not set?"
        raise DanluError("invalid_request", "The name or id is empty.", hint=hint)
    try:
        quoted = [quote(part, safe="") for part in parts]
    except UnicodeEncodeError as error:
        raise _no_utf8(error) from None
    return "".join(
        f"/{part.replace('.', '%2E') if part in ('.', '..') else part}" for part in quoted
    )


def connect(base_url: str) -> httpx.Client:
    """Connections to a server, made when needed. Raises `DanluError` for what is no address."""
    address = base_url if "://" in base_url else f"http://{base_url}"
    try:
        return httpx.Client(
            base_url=address,
            timeout=httpx.Timeout(60.0, connect=5.0),
            # Servers close idle connections after 5 s; to use one at that moment would fail.
            limits=httpx.Limits(keepalive_expiry=2.0),
            # A proxy for the internet must not be asked for this machine's own server.
            trust_env=urlsplit(address).hostname not in {"127.0.0.1", "localhost", "::1"},
        )
    except (httpx.InvalidURL, ValueError) as error:
        detail = f"{base_url!r} is no address of a server ({error})."
        hint = f"An address looks like {DEFAULT_URL}."
        raise DanluError(NO_SERVER, detail, hint=hint) from None


def label(text: str) -> str:
    """A text that only names something, with `?` for what UTF-8 cannot say: bytes that a system
    took for the name of a file or of a person.
    """
    return text.encode("utf-8", "replace").decode()


def _no_utf8(error: UnicodeEncodeError) -> DanluError:
    around = error.object[max(error.start - 20, 0) : error.end + 20]
    detail = f"{around!r} is no UTF-8, in which danlu has all names."
    return DanluError("invalid_request", detail, hint="Is the terminal's encoding another?")


def _encoded(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in (headers or {}).items()]


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _checked(response: httpx.Response) -> httpx.Response:
    """The response if it is a success; raises what the server says otherwise."""
    if response.is_success:
        return response
    try:
        problem = response.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        raise _stranger(response) from None
    raise DanluError(
        code,
        detail,
        status=response.status_code,
        hint=_KEY_HINT if response.status_code == 401 else problem.get("hint"),
        errors=problem.get("errors") or (),
    )


def _stranger(response: httpx.Response) -> DanluError:
    where = f"{response.request.method} {response.request.url}"
    detail = f"{where} was answered with {response.status_code}, but not by danlu."
    return DanluError(NO_SERVER, detail, hint="Is DANLU_URL the address of a danlu server?")
