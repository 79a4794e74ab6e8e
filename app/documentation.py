"""Swagger UI, ReDoc and the pages about error codes, all from installed files: no internet needed.

Also completes the OpenAPI document. Knows no operation.
"""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from app import door, error_pages
from app.errors import ProblemRead, responses_of_door
from app.ranges import Ranges
from app.resources import Resources

router = APIRouter(include_in_schema=False)

# Relative, as all links of these pages: a proxy may have put a path in front of theirs.
_ASSETS = "docs/assets"
_FILES = Path(fastapi_offline.__file__).parent / "static"
_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_TITLE = "danlu"
# Whatever the pages' scripts would like to fetch elsewhere, they do not.
_OURS_ONLY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'"
}
# Every operation lists a dozen errors. Their codes and titles are enough there: an example of each
# makes the page many screens long, and says no more than /docs/errors.
_ERRORS_IN_SHORT = (
    b"<style>"
    b".response:is([data-code^='4'],[data-code^='5']) :is(.response-controls,.model-example)"
    b"{display:none}"
    b"</style>"
)
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "If the server has a key: what `danlu serve` printed, or `DANLU_API_KEY`.",
}


@router.get("/")
async def to_documentation() -> RedirectResponse:
    """The way in."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """Every operation, to be tried in the browser."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=_TITLE,
        swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{_ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{_ASSETS}/favicon.png",
        swagger_ui_parameters={"defaultModelsExpandDepth": 0, "tryItOutEnabled": True},
    )
    short = bytes(page.body).replace(b"</head>", _ERRORS_IN_SHORT + b"</head>")
    return HTMLResponse(short, headers=_OURS_ONLY)


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """The same to read."""
    page = get_redoc_html(
        openapi_url="openapi.json",
        title=_TITLE,
        redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
        redoc_favicon_url=f"{_ASSETS}/favicon.png",
        with_google_fonts=False,
    )
    return HTMLResponse(page.body, headers=_OURS_ONLY)


@router.get(f"/{_ASSETS}/redoc.standalone.js")
def redoc_script() -> Response:
    """ReDoc's own, without the logo that it would fetch from its makers."""
    script = (_FILES / "redoc.standalone.js").read_bytes().replace(_REDOC_LOGO, b"data:,")
    headers = {"Cache-Control": "max-age=3600"}
    return Response(script, media_type="text/javascript", headers=headers)


@router.get("/docs/errors")
def error_list() -> HTMLResponse:
    """Every error code."""
    return HTMLResponse(error_pages.page(), headers=_OURS_ONLY)


@router.get("/docs/errors/{code}")
def error_page(code: str) -> HTMLResponse:
    """What an error code means: the page that `type` of a problem leads to."""
    return HTMLResponse(error_pages.page(code), headers=_OURS_ONLY)


class DocumentedApp(FastAPI):
    """FastAPI with these pages; its OpenAPI document also has the schema of problems."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._making = Lock()

    def install_documentation(self) -> None:
        """Adds the pages and their files."""
        self.include_router(router)
        self.mount(f"/{_ASSETS}", Ranges(StaticFiles(directory=_FILES)), name="assets")

    def openapi(self) -> dict[str, Any]:
        """Made once, in most of a second; who asks meanwhile waits."""
        with self._making:
            if self.openapi_schema is None:
                self._complete(super().openapi())
            return super().openapi()

    def _complete(self, document: dict[str, Any]) -> None:
        held: Resources = self.state.resources
        _say_who_may_come_in(document, keyed=held.settings.api_key is not None)
        for path in document["paths"].values():
            for operation in path.values():
                _leave_out_null(operation.get("parameters", ()))
        problem = ProblemRead.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas |= problem.pop("$defs")
        schemas["Problem"] = problem


def _leave_out_null(parameters: Iterable[dict[str, Any]]) -> None:
    """FastAPI describes what may be left out as `string or null`, but nobody can send a null."""
    for parameter in parameters:
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])


def _say_who_may_come_in(document: dict[str, Any], *, keyed: bool) -> None:
    """Where the key is asked for, and the door's refusals. A server without a key takes any."""
    document["components"]["securitySchemes"] = {"bearer": _BEARER}
    document["security"] = [{"bearer": []}] if keyed else [{}, {"bearer": []}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            refusals = responses_of_door(
                method, is_open=path in door.OPEN, has_body="requestBody" in operation
            )
            described = {**refusals, **operation["responses"]}
            operation["responses"] = {status: described[status] for status in sorted(described)}
            if path in door.OPEN:
                operation["security"] = []
