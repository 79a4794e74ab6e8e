"""Who may come in: the server's names, proxies, pages of other origins, and the key.

Plain ASGI, for requests and websockets alike. Knows no endpoint but the two that are always open.
"""

import hashlib
import hmac
import html
import ipaddress
import logging
import secrets
import socket
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import root_path
from app.errors import ProblemResponse
from problems import Problem
from settings import Settings

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no key: who watches over the server asks there."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": "80", "https": "443"}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)


class Door:
    """Lets a request in, or answers it with the problem that keeps it out."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self._names = _names(settings)
        self._suffixes = tuple(name for name in self._names if name.startswith("."))
        self._origins = frozenset(settings.cors_origins)
        key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        self._key = key
        # Not the key itself: what a browser keeps opens this door and no other.
        self._cookie = hmac.digest(key, b"danlu cookie", hashlib.sha256).hex() if key else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            if root_path.rest(scope) not in OPEN:
                self._check_proxy(headers)
                self._check_origin(scope, headers)
                if response := self._check_key(scope, headers):
                    await response(scope, receive, send)
                    return
        except Problem as problem:
            await _refuse(problem, scope, receive, send)
            return
        await self.app(scope, receive, send)

    # -- the server's names ----------------------------------------------------------------

    def _check_host(self, headers: Headers) -> None:
        """A page may lead a name of its own to this machine's address, to read what it may not.
        Under that name the browser sends it here; addresses cannot be led elsewhere.
        """
        hosts = headers.getlist("host")
        if "*" in self._names or (len(hosts) == 1 and self._is_ours(_split_host(hosts[0])[0])):
            return
        if len(hosts) != 1 or not hosts[0]:
            raise Problem("host_refused", "The request does not name one host.")
        name = _printable(hosts[0])
        hint = f"If the name is right: DANLU_ALLOWED_HOSTS={_printable(_split_host(hosts[0])[0])}"
        raise Problem("host_refused", f"This server is not known as {name}.", hint=hint)

    def _is_ours(self, name: str) -> bool:
        return name in self._names or name.endswith((".localhost", *self._suffixes)) or _is_ip(name)

    # -- proxies ---------------------------------------------------------------------------

    def _check_proxy(self, headers: Headers) -> None:
        if self._key is None and ("forwarded" in headers or "x-forwarded-for" in headers):
            raise Problem(
                "proxy_without_key", "The request came through a proxy, and there is no key."
            )

    # -- pages of other origins ------------------------------------------------------------

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """What changes something is for the server's own pages, for those that the settings name,
        and for programs, which send neither header. Reading is prevented by browsers themselves.
        """
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None and site != "cross-site":
            return
        # No page can forge what the browser says of it, and it knows the address before a proxy.
        if site == "same-origin" or (origin is not None and self._is_welcome(origin, headers)):
            return
        said = _printable(origin) if origin else "another site"
        raise Problem("origin_refused", f"A page of {said} may not do this.")

    def _is_welcome(self, origin: str, headers: Headers) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        # A proxy may speak https to the browser and http to us: schemes are not compared.
        scheme, _, place = origin.lower().partition("://")
        default = _PORTS.get(scheme, "")
        theirs, port = _split_host(place)
        name, our_port = _split_host(headers.get("host", ""))
        return bool(name) and (theirs, port or default) == (name, our_port or default)

    # -- the key ---------------------------------------------------------------------------

    def _check_key(self, scope: Scope, headers: Headers) -> Response | None:
        """Raises `Problem` key_missing or key_wrong. A page that is asked for with the right key
        in its address is answered here: with a cookie, and the address without the key.
        """
        if self._key is None:
            return None
        if _wants_page(scope, headers) and (given := _query(scope).get("key")) is not None:
            if not _same(given, self._key):
                raise _wrong(scope)
            return self._welcome(scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if not secrets.compare_digest(token.strip().encode("latin-1"), self._key):
                raise _wrong(scope)
            return None
        cookie = cookie_parser(headers.get("cookie", "")).get(_cookie_name(scope))
        if cookie is None:
            raise Problem("key_missing", "This server asks for a key.")
        if not _same(cookie, self._cookie.encode()):
            raise _wrong(scope)
        return None

    def _welcome(self, scope: Scope) -> Response:
        rest = [(name, value) for name, value in _query_fields(scope) if name != "key"]
        # Two slashes in front would lead to another server.
        path = quote("/" + scope["path"].lstrip("/"), safe="/:@!$&'()*+,;=~")
        response = RedirectResponse(path + (f"?{urlencode(rest)}" if rest else ""), 303)
        response.set_cookie(
            _cookie_name(scope),
            self._cookie,
            path=root_path.of(scope) or "/",
            secure=scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )
        response.headers["Cache-Control"] = "no-store"
        return response


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
    elif problem.status == 401 and _wants_page(scope, Headers(scope=scope)):
        await _key_page(problem)(scope, receive, send)
    else:
        await ProblemResponse(problem)(scope, receive, send)


def _key_page(problem: Problem) -> Response:
    """For people with a browser: what is missing, and a field to put it in."""
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>danlu</title>"
        "<meta name=viewport content='width=device-width'>"
        "<style>body{font:16px/1.6 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}"
        "input,button{font:inherit;padding:.3em .6em}</style>"
        f"<h1>danlu</h1><p><strong>{html.escape(problem.detail)}</strong></p>"
        "<p>Open the address that <code>danlu serve</code> printed, or give the key here:</p>"
        "<form><input name=key type=password aria-label=Key autocomplete=current-password required "
        "autofocus> <button>Open</button></form>"
        # A browser keeps the cookie back from where a link of another site led, not from our own.
        "<p>If a link with the key brought you here, <a href=''>go on</a>.</p>"
        f"<p><small>{problem.code}</small></p></html>"
    )
    headers = {"Content-Security-Policy": _PAGE_POLICY, "WWW-Authenticate": "Bearer"}
    return HTMLResponse(page, 401, headers={**headers, "Cache-Control": "no-store"})


def _wrong(scope: Scope) -> Problem:
    client = scope.get("client")
    log.info("a wrong key from %s", client[0] if client else "somewhere")
    return Problem("key_wrong", "The key is not the one of this server.")


def _same(given: str, wanted: bytes) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), wanted)


def _cookie_name(scope: Scope) -> str:
    """Browsers send cookies to every port of a host: two servers there must not share a name."""
    server = scope.get("server")
    return f"danlu-key-{server[1] if server else 0}"


def _wants_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and "text/html" in headers.get("accept", "")
    )


def _query_fields(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _query(scope: Scope) -> dict[str, str]:
    return dict(_query_fields(scope)) if scope["query_string"] else {}


def _names(settings: Settings) -> frozenset[str]:
    """Names that this server answers to, beside every IP address."""
    machine = socket.gethostname().lower()
    short = machine.partition(".")[0]
    names = ("localhost", machine, short, f"{short}.local", settings.host, *settings.allowed_hosts)
    return frozenset(name.lower() for name in names if name)


def _split_host(host: str) -> tuple[str, str]:
    """Name and port of `name:port`, either maybe empty; brackets of IPv6 are taken off."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or "]" in port:
        name, port = host.lower(), ""
    return name.removeprefix("[").removesuffix("]").removesuffix("."), port


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _printable(text: str) -> str:
    """A header's value for people to read: short, and nothing but ASCII."""
    return repr(text[:100].encode("latin-1", "replace").decode("ascii", "replace"))[1:-1]
