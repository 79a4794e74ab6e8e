"""Names of data sets: any script, and nothing that is a path, hidden, deceiving or taken."""

import unicodedata

import pytest

from data_store import names
from problems import Problem

LOC = ["body", "name"]


@pytest.mark.parametrize(
    "name", ["pets", "my photos", "花と猫", "猫　写真", "क्षि", "a.b-c_d", "👩‍🚀", "x" * 200]
)
def test_names_of_any_script_are_kept_as_they_are(name):
    assert names.checked(name, loc=LOC) == unicodedata.normalize("NFC", name)


def test_letters_and_their_accents_become_one():
    assert names.checked(unicodedata.normalize("NFD", "müsli"), loc=LOC) == "müsli"


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " pets", "pets ", ".", "..", ".pets", "a/b", "../x", "a\\b", "/etc"),
        *("a\nb", "a\0", "\x7f", "a\u202egnp", "a\u200bb", "\ud800", "x" * 201, "花" * 67),
    ],
)
def test_what_can_be_no_name_is_refused(name):
    with pytest.raises(Problem) as caught:
        names.checked(name, loc=LOC)
    assert (caught.value.code, caught.value.errors[0]["loc"]) == ("invalid_request", LOC)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        *(("mnist", "mnist"), ("CIFAR-10", "cifar10"), ("ｄｉｇｉｔｓ", "digits")),
        *(("cifar-10-batches-py", "cifar10"), ("Mnist", "mnist"), ("train_32x32.mat", "svhn")),
    ],
)
def test_what_a_built_in_set_is_called_or_lies_in_is_taken(name, owner):
    with pytest.raises(Problem, match=owner) as caught:
        names.checked(name, loc=LOC)
    assert caught.value.code == "name_taken"
