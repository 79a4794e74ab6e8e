"""The pages about error codes: all there, whole, and linked with each other."""

import html
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app import error_pages
from problems import KINDS, Problem

HOUSE = Path(__file__).parents[2]


@pytest.mark.parametrize("code", KINDS)
def test_a_page_says_what_docs_errors_says(code):
    page = error_pages.page(code)
    assert f"<h1>{code}</h1>" in page
    assert f"<em>{KINDS[code].status} · " in page
    assert KINDS[code].title in html.unescape(page)
    assert "](" not in page


def test_the_list_leads_to_every_page():
    links = re.findall(r'href="errors/(\w+)"', error_pages.page())
    assert sorted(links) == sorted(KINDS)


def test_links_to_what_is_not_served_are_text():
    page = error_pages.page("invalid_request") + error_pages.page("image_too_large")
    assert ".md" not in page
    assert "settings" in page


@pytest.mark.parametrize("code", ["nope", "README", "../settings", ""])
def test_a_code_that_does_not_exist(code):
    with pytest.raises(Problem, match="There is no error code"):
        error_pages.page(code)


def test_a_wheel_carries_the_pages(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=HOUSE, check=True, capture_output=True, timeout=60)

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    pages = {page.name for page in (HOUSE / "docs/errors").glob("*.md")}
    assert {f"problems/pages/{name}" for name in pages} <= packed
