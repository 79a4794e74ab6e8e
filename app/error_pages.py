"""The pages of docs/errors as HTML: one about each error code, and the list of all.

Knows Markdown; knows nothing of requests.
"""

import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

import problems
from problems import KINDS, Problem

# A wheel carries the pages beside the registry; in a checkout they are where people read them.
_FOLDERS = (
    Path(problems.__file__).parent / "pages",
    Path(__file__).parent.parent / "docs" / "errors",
)
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_PAGE = re.compile(r"(\w+)\.md")
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.6 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
code{background:#8882;padding:.1em .3em;border-radius:4px;font-size:.9em}
pre{background:#8882;padding:.8em 1em;border-radius:6px;overflow-x:auto}
pre code{background:none;padding:0}
table{border-collapse:collapse}td,th{padding:.2em 1em .2em 0;text-align:left}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
"""


@cache
def page(code: str | None = None) -> str:
    """The page about a code as a whole HTML document; without a code that about all of them.

    Its links fit `/docs/errors/<code>`, and `/docs/errors`. Raises `Problem` not_found.
    """
    if code is not None and code not in KINDS:
        raise Problem(
            "not_found",
            f"There is no error code {code[:80]!r}.",
            hint="GET /docs/errors lists them all.",
        )
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    tokens = _MARKDOWN.parse((folder / f"{code or 'README'}.md").read_text(encoding="utf-8"))
    for token in tokens:
        if token.children is not None:
            token.children = _linked(token.children, below="" if code else "errors/")
    text = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    docs = "../../docs" if code else "../docs"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{code or 'Errors'}</title>"
        "<meta name=viewport content='width=device-width'>"
        f"<style>{_STYLE}</style>{text}<hr><p><a href={docs}>All operations</a>"
        f" · <a href={docs}/errors>All error codes</a></p></html>"
    )


def _linked(tokens: list[Token], *, below: str) -> list[Token]:
    """Links to other pages about errors lead there, those to pages that are not served nowhere."""
    kept, served = [], True
    for token in tokens:
        if token.type == "link_open":
            address = str(token.attrs["href"])
            served = "://" in address
            if (found := _PAGE.fullmatch(address)) and found[1] in KINDS:
                token.attrs["href"], served = f"{below}{found[1]}", True
        if served or token.type not in ("link_open", "link_close"):
            kept.append(token)
    return kept
