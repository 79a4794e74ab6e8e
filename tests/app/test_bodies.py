"""Bodies that come at the same time share a bound."""

import pytest

from app.bodies import Bodies
from problems import Problem


def test_all_together_have_no_more_than_so_many_bytes():
    bodies = Bodies(100)
    with bodies.one() as first:
        first.more(60)
        with bodies.one() as second:
            second.more(40)
            with pytest.raises(Problem) as caught:
                second.more(1)
            assert caught.value.code == "overloaded"
        with bodies.one() as third:  # what the second had is free again
            third.more(40)
    assert bodies.held == 0


def test_one_may_be_larger_where_there_is_no_other():
    bodies = Bodies(100)
    with bodies.one() as alone:
        alone.more(90)
        alone.more(90)
        with bodies.one() as other, pytest.raises(Problem):
            other.more(1)
    assert bodies.held == 0
