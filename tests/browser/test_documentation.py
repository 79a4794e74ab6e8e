"""Swagger UI, ReDoc and the pages about errors as people use them: in a browser, offline."""

import io
import json
import os
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

# It shares the service of the end-to-end tests.
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("service")]


def opened(page: Page, address: str, operation: str) -> Locator:
    """The block of an operation in Swagger UI, unfolded and ready to be tried."""
    page.goto(f"{address}/docs")
    block = page.locator(f"[id='operations-{operation}']")
    block.locator(".opblock-summary-control").click()
    expect(block.locator(".execute")).to_be_visible()
    return block


def executed(block: Locator) -> tuple[int, Any]:
    """What the page shows after a click on Execute: the status and the body."""
    block.locator(".execute").click()
    live = block.locator(".live-responses-table")
    status = live.locator("tbody .response-col_status").first
    expect(status).to_have_text(re.compile(r"\d{3}"))
    shown = live.locator(".highlight-code code").first.inner_text()
    return int(status.inner_text()[:3]), json.loads(shown)


def png(brightness: int) -> bytes:
    file = io.BytesIO()
    pixels = np.full((8, 8), brightness, dtype=np.uint8)
    pixels[2:6, 3:5] = 255
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def picked(name: str, data: bytes) -> Any:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def test_train_and_predict_from_the_page(service: Any, visit: Any) -> None:
    """The first example trains; the images that are then picked are classified by it."""
    seen = visit()
    address = service.client.base_url
    block = opened(seen.page, address, "Training-train")

    assert json.loads(block.locator("textarea.body-param__text").input_value()) == {
        "dataset": "digits"
    }
    status, job = executed(block)
    assert (status, job["state"]) == (202, "queued")
    ended = service.client.wait(job["id"], timeout_seconds=200)
    assert ended["state"] == "succeeded", ended["error"]

    [item] = service.client.dataset_images("digits", split="test", limit=1)["items"]
    image = service.client.image(item)
    block = opened(seen.page, address, "Prediction-predict")
    block.locator("input[type=file]").set_input_files(picked("seven.png", image))
    status, answer = executed(block)
    assert status == 200
    [prediction] = answer["predictions"]
    assert prediction["filename"] == "seven.png"
    assert prediction["label"] in [str(digit) for digit in range(10)]
    # The answer is read, not only sent: the label stands in the page.
    expect(block.locator(".live-responses-table")).to_contain_text(f'"{prediction["label"]}"')

    block.get_by_role("button", name="Add string item").click()
    pickers = block.locator("input[type=file]")
    expect(pickers).to_have_count(2)
    pickers.nth(1).set_input_files(picked("eight.png", png(0)))
    block.locator(".btn-clear").click()
    status, answer = executed(block)
    assert status == 200
    assert [one["filename"] for one in answer["predictions"]] == ["seven.png", "eight.png"]
    assert seen.complaints == []


def test_another_example_is_taken_over(service: Any, visit: Any) -> None:
    seen = visit()
    block = opened(seen.page, service.client.base_url, "Training-train")
    block.locator(".examples-select select").first.select_option("own")
    text = block.locator("textarea.body-param__text")
    expect(text).to_have_value(re.compile("SGD"))
    block.locator("[data-param-name=dry_run] select").select_option("true")

    status, plan = executed(block)

    assert status == 200
    assert plan["recipe"]["optimizer"]["momentum"] == 0.9
    assert plan["parameters"] > 0
    assert seen.complaints == []


def test_an_error_leads_to_its_page(service: Any, visit: Any) -> None:
    seen = visit()
    address = service.client.base_url
    block = opened(seen.page, address, "Training-train")
    block.locator("textarea.body-param__text").fill('{"dataset": "mnits"}')

    status, problem = executed(block)
    assert (status, problem["code"]) == (404, "dataset_unknown")

    seen.page.goto(f"{address}{problem['type']}")
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("dataset_unknown")
    expect(seen.page.locator("body")).to_contain_text("What to do.")
    seen.page.get_by_role("link", name="All error codes").click()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Errors")
    seen.page.get_by_role("link", name="lr_twice").click()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("lr_twice")
    seen.page.get_by_role("link", name="All operations").click()
    expect(seen.page.locator(".opblock").first).to_be_visible()
    # A browser reports the 404 itself; there is nothing else to report.
    assert all("404" in complaint for complaint in seen.complaints)


def test_errors_are_listed_in_short(service: Any, visit: Any) -> None:
    """A line for each status, whose codes lead to their pages, and no example of every one."""
    seen = visit()
    block = opened(seen.page, service.client.base_url, "Training-train")
    row = block.locator(".response[data-code='404']")

    expect(row.locator(".response-col_description__inner")).to_contain_text(
        "dataset_unknown: No data set of that name"
    )
    expect(row.locator(".model-example")).to_be_hidden()
    expect(block.locator(".response[data-code='202'] .model-example")).to_be_visible()
    link = row.get_by_role("link", name="dataset_unknown")
    assert link.evaluate("link => link.href").endswith("/docs/errors/dataset_unknown")
    assert seen.complaints == []


def test_operations_can_be_opened(service: Any, visit: Any) -> None:
    """Every one in `make wire`; the first of each tag otherwise, Swagger UI takes its time."""
    seen = visit()
    seen.page.goto(f"{service.client.base_url}/docs")
    each = "" if "DANLU_EXAMPLES" in os.environ else ":first-child"
    controls = seen.page.locator(f".operation-tag-content > span{each} .opblock-summary-control")
    expect(controls.first).to_be_visible()
    for number in range(controls.count()):
        controls.nth(number).click()
        expect(seen.page.locator(".execute")).to_have_count(1)
        controls.nth(number).click()  # many open ones at once make the page slow
        expect(seen.page.locator(".execute")).to_have_count(0)
    expect(seen.page.locator(".errors-wrapper")).to_have_count(0)
    assert seen.complaints == []


def test_redoc_renders(service: Any, visit: Any) -> None:
    seen = visit()
    seen.page.goto(f"{service.client.base_url}/redoc")
    expect(seen.page.get_by_role("heading", name="Train a network").first).to_be_visible()
    expect(
        seen.page.get_by_text("A few things said, the rest left to the defaults")
    ).to_be_attached()
    assert seen.complaints == []


def test_with_a_key(tmp_path: Any, server_alone: Any, visit: Any) -> None:
    """The address with the key opens the page for good; programs' way in works from it too."""
    with server_alone(tmp_path / "home", DANLU_API_KEY="plum-7") as address:
        shut = visit()
        assert shut.page.goto(f"{address}/docs").status == 401
        shut.page.get_by_label("Key").fill("plum-7")
        shut.page.get_by_role("button", name="Open").click()
        expect(shut.page.locator(".opblock").first).to_be_visible()

        seen = visit()
        seen.page.goto(f"{address}/?key=plum-7")
        expect(seen.page.locator(".opblock").first).to_be_visible()
        assert "plum-7" not in seen.page.url
        status, job = executed(opened(seen.page, address, "Training-train"))
        assert (status, job["state"]) == (202, "queued")
        assert seen.complaints == []

        authorize(seen.page, "plum-8")
        block = seen.page.locator("[id='operations-Jobs-list_jobs']")
        block.locator(".opblock-summary-control").click()
        status, problem = executed(block)
        assert (status, problem["code"]) == (401, "key_wrong")
        authorize(seen.page, "plum-7")
        block.locator(".btn-clear").click()
        status, page = executed(block)
        assert (status, len(page["items"])) == (200, 1)


def authorize(page: Page, key: str) -> None:
    """Gives the key in Swagger UI's dialog, in place of one that it has already."""
    page.locator(".auth-wrapper .authorize").click()
    dialog = page.locator(".dialog-ux")
    expect(dialog.locator(".btn-done")).to_be_visible()
    if (logout := dialog.get_by_role("button", name="Remove authorization")).is_visible():
        logout.click()
    dialog.locator("input").fill(key)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.locator(".btn-done").click()


def test_archives_are_picked_in_the_page(service: Any, visit: Any) -> None:
    """As a form, whose name is that of the file, and as the body itself."""
    seen = visit()
    archive = {"name": "page pets.zip", "mimeType": "application/zip", "buffer": b"PK, no archive"}
    block = opened(seen.page, service.client.base_url, "Data_sets-add_dataset")
    block.locator("input[type=file]").set_input_files(archive)
    status, job = executed(block)
    assert (status, job["kind"], job["dataset"]["name"]) == (202, "import", "page pets")
    assert service.client.wait(job["id"], timeout_seconds=60)["error"]["code"] == "archive_invalid"

    block = opened(seen.page, service.client.base_url, "Data_sets-put_dataset")
    block.locator("tr[data-param-name=name] input").fill("page pets")
    block.locator("input[type=file]").set_input_files(archive)
    status, job = executed(block)
    assert (status, job["dataset"]["name"]) == (202, "page pets")
    assert service.client.wait(job["id"], timeout_seconds=60)["state"] == "failed"
    assert seen.complaints == []
