"""What an import leaves beside the images, and what is taken for it that is not."""

import json

import pytest

from data_store import origin, staging


def test_what_an_import_left(tmp_path):
    hidden = tmp_path / staging.HIDDEN
    hidden.mkdir()
    (hidden / "origin.json").write_text(json.dumps({"sha256": "ab", "job": "job_1", "more": 1}))
    (hidden / "report.json").write_text('{"classes": []}')
    found = origin.read(tmp_path)
    assert (found.sha256, found.job, found.version) == ("ab", "job_1", None)
    assert origin.report(tmp_path) == {"classes": []}


@pytest.mark.parametrize("text", [None, "", "[]", "null", "\udcff"])
def test_none_or_somebody_else_s(tmp_path, text):
    (tmp_path / staging.HIDDEN).mkdir()
    for name in ("origin.json", "report.json"):
        if text is not None:
            file = tmp_path / staging.HIDDEN / name
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert origin.read(tmp_path) is None
    assert origin.report(tmp_path) is None
