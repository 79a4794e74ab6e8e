import ast
from typing import Any

import pytest

from models_store.script.code import WIDTH, Raw, call, differing, flat, indented, statement


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (call("f"), "f()"),
        (call("f", 1, Raw("x"), name="a", sizes=(1, 2)), 'f(1, x, name="a", sizes=(1, 2))'),
        ((1,), "(1,)"),
        ([{"params": Raw("p"), "lr": 0.1}], '[{"params": p, "lr": 0.1}]'),
        (1e-05, "1e-05"),
        (None, "None"),
        ('say "炉"', '"say \\"炉\\""'),
    ],
)
def test_values_on_one_line(value: Any, written: str) -> None:
    assert flat(value) == written


@pytest.mark.parametrize("text", ["\n", "\x00", '"""', "\\", "\u2028", "it's", "猫", "\udc80"])
def test_no_text_gets_out_of_its_quotes(text: str) -> None:
    written = flat(text)

    assert ast.literal_eval(written) == text
    assert written.isprintable()


def test_a_long_value_gets_a_line_for_each_part() -> None:
    inner = call("inner", *range(40))

    lines = statement("x = ", call("outer", inner, name=[]), depth=1)

    assert lines[:3] == ["    x = outer(", "        inner(", "            0,"]
    assert lines[-3:] == ["        ),", "        name=[],", "    )"]
    assert max(map(len, lines)) <= WIDTH


def test_arguments_that_must_be_said() -> None:
    given = {"lr": 0.1, "betas": [0.8, 0.9], "eps": 1e-8}

    assert differing(given, {"lr": 0.1, "betas": [0.9, 0.9], "eps": 1e-8}, always=["lr"]) == {
        "lr": 0.1,
        "betas": (0.8, 0.9),
    }
    assert differing({"gamma": 1}, {}) == {"gamma": 1}


def test_empty_lines_stay_empty() -> None:
    assert indented(["a", "", "b"], 2) == ["        a", "", "        b"]
