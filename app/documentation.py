"""Swagger UI, ReDoc and the pages about error codes, all from installed files: no internet needed.

Also completes the OpenAPI document. Knows no operation.
"""

import html
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from app.errors import ProblemRead
from problems import KINDS, Problem

router = APIRouter(include_in_schema=False)

_ASSETS = "/docs/assets"
_FILES = Path(fastapi_offline.__file__).parent / "static"
_TITLE = "danlu"
# Whatever the pages' scripts would like to fetch elsewhere, they do not.
_OURS_ONLY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:"
}


@router.get("/")
async def to_documentation() -> RedirectResponse:
    """The way in."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def swagger_ui() -> HTMLResponse:
    """Every operation, to be tried in the browser."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
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
        openapi_url="/openapi.json",
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
        f"(HTTP status {kind.status})</p>{hint}<p><a href=/docs>All operations</a></p></html>",
        headers=_OURS_ONLY,
    )


class DocumentedApp(FastAPI):
    """FastAPI with these pages; its OpenAPI document also has the schema of problems."""

    def install_documentation(self) -> None:
        """Adds the pages and their files."""
        self.include_router(router)
        self.mount(_ASSETS, StaticFiles(directory=_FILES), name="assets")

    def openapi(self) -> dict[str, Any]:
        """Made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            problem = ProblemRead.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = document["components"]["schemas"]
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
        return super().openapi()
