"""The registry of codes: each is a word that stays, a status that means failure, a title."""

import re
from http import HTTPStatus

import pytest

from problems import KINDS


@pytest.mark.parametrize("code", KINDS)
def test_is_well_formed(code: str) -> None:
    kind = KINDS[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert HTTPStatus(kind.status) >= HTTPStatus.BAD_REQUEST
    assert kind.title[0].isupper()
    assert not kind.title.endswith(".")
    assert len(kind.title) < 60
    if kind.hint is not None:
        assert kind.hint[0].isupper() or kind.hint.startswith("GET ")


def test_titles_tell_codes_apart() -> None:
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_json", 400), ("not_an_image", 400), ("truncated_image", 400),
        ("unsupported_format", 400), ("dataset_unknown", 404), ("job_not_found", 404),
        ("no_model_yet", 404), ("job_ended", 409), ("not_exported", 409), ("image_too_large", 413),
        ("unsupported_media_type", 415), ("unknown_field", 422), ("network_misfit", 422),
        ("overloaded", 429), ("not_ready", 503), ("too_slow", 504),
    ],
)  # fmt: skip
def test_statuses_are_the_contracts(code: str, status: int) -> None:
    assert KINDS[code].status == status


def test_a_kind_does_not_change() -> None:
    with pytest.raises(AttributeError):
        KINDS["internal"].status = 200  # type: ignore[misc]
