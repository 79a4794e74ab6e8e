"""Names as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import did_you_mean, match

SETS = ["mnist", "fashion_mnist", "cifar10", "猫と犬", "Straße", "café"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("mnist", "mnist"),
        ("MNIST", "mnist"),
        ("CIFAR-10", "cifar10"),
        ("c_i-f_a-r10", "cifar10"),
        ("FashionMNIST", "fashion_mnist"),
        ("ｍｎｉｓｔ", "mnist"),  # typed with an input method
        ("猫と犬", "猫と犬"),
        ("STRASSE", "Straße"),
        ("CAFE\u0301", "café"),  # as macOS names files
        ("mnist2", None),
        ("", None),
        ("-", None),
        ("cifar 10", None),
    ],
)
def test_match(wanted: str, found: str | None) -> None:
    assert match(wanted, SETS) == found


def test_an_exact_name_wins_over_one_that_looks_alike() -> None:
    alike = ["my-cats", "my_cats", "MyCats"]
    assert [match(name, alike) for name in alike] == alike
    assert match("mycats", alike) == "my-cats"


def test_any_iterable_is_looked_through() -> None:
    assert match("B", iter(["a", "b"])) == "b"
    assert match("a", {}) is None


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("mnst", "Did you mean 'mnist'?"),
        ("MINST", "Did you mean 'mnist'?"),
        ("cifar-100", "Did you mean 'cifar10'?"),
        ("fashonmnist", "Did you mean 'fashion_mnist' or 'mnist'?"),
        ("qqqq", "Known: mnist, fashion_mnist, cifar10, 猫と犬, Straße, café."),
    ],
)
def test_did_you_mean(wanted: str, hint: str) -> None:
    assert did_you_mean(wanted, SETS) == hint


def test_near_misses_are_listed_best_first() -> None:
    assert did_you_mean("kmnis", ["mnist", "kmnist", "svhn"]) == "Did you mean 'kmnist' or 'mnist'?"


def test_a_long_list_is_not_read_out() -> None:
    names = [f"set number {number}" for number in range(21)]
    assert did_you_mean("zzz", names) is None
    assert did_you_mean("zzz", names[:20]) is not None
    assert did_you_mean("zzz", []) is None


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=4))
def test_any_text_can_be_asked_for(wanted: str, known: list[str]) -> None:
    found = match(wanted, known)
    assert found is None or found in known
    assert match(wanted, [*known, wanted]) == wanted
    assert did_you_mean(wanted, known) is None or known
