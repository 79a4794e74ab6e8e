"""Swagger UI, ReDoc and the pages about error codes, all from installed files: no internet needed.

Also completes the OpenAPI document. Knows no operation.
"""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from app import door
from app.errors import ProblemRead, responses_of_door
from problems import KINDS, Problem

router = APIRouter(include_in_schema=False)

# Relative, as all links of these pages: a proxy may have put a path in front of theirs.
_ASSETS = "docs/assets"
_FILES = Path(fastapi_offline.__file__).parent / "static"
_TITLE = "danlu"
# Whatever the pages' scripts would like to fetch elsewhere, they do not.
_OURS_ONLY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'"
}
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
    return HTMLResponse(page.body, headers=_OURS_ONLY)


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


@router.get("/docs/errors/{code}")
async def error_page(code: str) -> HTMLResponse:
    """What an error code means: the page that `type` of a problem leads to."""
    kind = KINDS.get(code)
    if kind is None:
        raise Problem("not_found", f"There is no error code {code[:80]!r}.")
    hint = f"<p>{html.escape(kind.hint)}</p>" if kind.hint else ""
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{code}</title>"
        "<style>body{font:16px/1.6 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}"
        "code{background:#8882;padding:.1em .3em;border-radius:4px}</style>"
        f"<h1><code>{code}</code></h1><p><strong>{html.escape(kind.title)}</strong> "
        f"(HTTP status {kind.status})</p>{hint}<p><a href=../../docs>All operations</a></p></html>",
        headers=_OURS_ONLY,
    )


class DocumentedApp(FastAPI):
    """FastAPI with these pages; its OpenAPI document also has the schema of problems."""

    def install_documentation(self) -> None:
        """Adds the pages and their files."""
        self.include_router(router)
        self.mount(f"/{_ASSETS}", StaticFiles(directory=_FILES), name="assets")

    def openapi(self) -> dict[str, Any]:
        """Made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            _say_who_may_come_in(document)
            for path in document["paths"].values():
                for operation in path.values():
                    _leave_out_null(operation.get("parameters", ()))
            problem = ProblemRead.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = document["components"]["schemas"]
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
        return super().openapi()


def _leave_out_null(parameters: Iterable[dict[str, Any]]) -> None:
    """A parameter that may be left out is described as `string or null`, but null cannot be sent."""
    for parameter in parameters:
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])


def _say_who_may_come_in(document: dict[str, Any]) -> None:
    """A key may be asked for, everywhere but at the open addresses; and the door's refusals."""
    document["components"]["securitySchemes"] = {"bearer": _BEARER}
    document["security"] = [{}, {"bearer": []}]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            refusals = responses_of_door(
                method, is_open=path in door.OPEN, has_body="requestBody" in operation
            )
            described = {**refusals, **operation["responses"]}
            operation["responses"] = {status: described[status] for status in sorted(described)}
            if path in door.OPEN:
                operation["security"] = []
