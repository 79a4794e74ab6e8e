"""The pages for people: they exist, and need nothing from the internet."""

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

import pytest

from app.main import create_app
from problems import KINDS


def test_the_way_in_leads_to_the_documentation(shared):
    response = shared.get("/")
    assert response.status_code == 307
    assert response.headers["location"] == "/docs"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_takes_everything_from_this_server(shared, path):
    page = shared.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    fetched = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert fetched
    for address in fetched:
        assert not urlsplit(address).netloc, address
        assert shared.get(urljoin(path, address)).status_code == 200, address


def test_redoc_fetches_no_logo_of_its_makers(shared):
    """A new version of it may have moved the address, which is then to be followed."""
    script = shared.get("/docs/assets/redoc.standalone.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert b"redocly logo" in script.content
    assert b"cdn.redoc" not in script.content


def test_documentation_pages_take_any_query(shared):
    assert shared.get("/docs?deep=link").status_code == 200


@pytest.mark.parametrize("code", sorted(KINDS))
def test_each_error_code_has_a_page(shared, code):
    page = shared.get(f"/docs/errors/{code}")
    assert page.status_code == 200
    assert code in page.text
    assert str(KINDS[code].status) in page.text


def test_the_error_codes_are_listed(shared):
    page = shared.get("/docs/errors")
    assert page.status_code == 200
    links = re.findall(r'href="(errors/\w+)"', page.text)
    assert {urljoin("/docs/errors", link) for link in links} == {
        f"/docs/errors/{code}" for code in KINDS
    }


def test_an_error_code_that_does_not_exist(shared, problem):
    problem(shared.get("/docs/errors/nope"), 404, "not_found")


def test_a_server_that_is_ready_has_its_document(serve, settings):
    """Made in the loop, at the first query, it would hold up everybody for most of a second."""
    elsewhere = settings.model_copy(update={"root_path": "/alone"})  # others share their documents
    with serve(elsewhere) as server:
        assert "Problem" in server.app.openapi_schema["components"]["schemas"]


def test_whoever_asks_meanwhile_gets_the_whole_document(settings):
    app = create_app(settings)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: sorted(app.openapi()["components"]["schemas"]), range(40)))
    assert "Problem" in found[0]
    assert found == [found[0]] * 40
