from datetime import UTC, datetime, timedelta

import pytest

from database import ids


def test_ids_sort_in_the_order_they_were_made() -> None:
    made = [ids.new("job") for _ in range(1000)]
    assert made == sorted(set(made))


def test_an_id_says_what_it_is_and_when_it_was_made() -> None:
    identifier = ids.new("ckpt")
    assert identifier.startswith("ckpt_")
    age = datetime.now(UTC) - ids.time_of(identifier)
    assert timedelta(0) <= age < timedelta(seconds=5)


def test_ids_of_ours_are_ids() -> None:
    assert ids.is_job(ids.new("job"))
    assert ids.is_checkpoint(ids.new("ckpt"))
    assert not ids.is_job(ids.new("ckpt"))
    assert not ids.is_checkpoint(f"{ids.new('ckpt')}\n")


@pytest.mark.parametrize("text", ["", "job_", "../etc", "job_01K"])
def test_what_is_no_id_has_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own words
        ids.time_of(text)
