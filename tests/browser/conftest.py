"""Chromium, kept off every host but this one, and a log of what it complains about."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    expect,
    sync_playwright,
)

# root, as in containers, has no sandbox; what else Chromium would fetch for itself is switched off.
_FLAGS = [
    *("--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

_PATIENCE = 30_000  # milliseconds: everything may be slow beside other tests
expect.set_options(timeout=_PATIENCE)


@dataclass
class Visit:
    """A page, the requests to other hosts that it tried, and the errors in its console."""

    page: Page
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, route: Route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location}")


# For a module, not for the session: while it runs, no other test could start a loop of its own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium in PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[[], Visit]]:
    """Opens pages, each in a profile of its own. At the end nothing outside was even tried."""
    opened: list[tuple[BrowserContext, Visit]] = []

    def open_one() -> Visit:
        context = chromium.new_context(viewport={"width": 1200, "height": 1000})
        context.set_default_timeout(_PATIENCE)
        found = Visit(context.new_page())
        context.route("**/*", found.watch)
        found.page.on("console", found.listen)
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        opened.append((context, found))
        return found

    yield open_one
    for context, found in opened:
        context.close()
        assert found.outside == []
