import json
from pathlib import Path
from typing import Any

import pytest

from danlu import recipe


@pytest.mark.parametrize(
    ("words", "built"),
    [
        ("mnist", {"dataset": "mnist"}),
        ("mnist optimizer.lr=0.1", {"dataset": "mnist", "optimizer": {"lr": 0.1}}),
        ("recipe=notes-mnist epochs=2", {"recipe": "notes-mnist", "epochs": 2}),
        ("mnist invert=never name=07b", {"dataset": "mnist", "invert": "never", "name": "07b"}),
        ("mnist lr=1e-3 test=false", {"dataset": "mnist", "lr": 0.001, "test": False}),
        ("mnist seed=null", {"dataset": "mnist", "seed": None}),
        ("mnist lr=NaN", {"dataset": "mnist", "lr": "NaN"}),
        ("mnist lr=-Infinity", {"dataset": "mnist", "lr": "-Infinity"}),
        ('mnist tags=["a","b"]', {"dataset": "mnist", "tags": ["a", "b"]}),
        ("mnist name=a=b", {"dataset": "mnist", "name": "a=b"}),
        ("mnist name=", {"dataset": "mnist", "name": ""}),
        ("mnist epochs=2 epochs=3", {"dataset": "mnist", "epochs": 3}),
        ("optimizer.lr=1 optimizer=SGD", {"optimizer": {"name": "SGD", "lr": 1}}),
        ("猫", {"dataset": "猫"}),
    ],
)
def test_words_become_a_recipe(words: str, built: dict[str, Any]) -> None:
    assert recipe.build(words.split()) == built


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "what to train on"),
        ("mnist epochs", "'epochs' is no setting"),
        ("mnist =3", "no name before the ="),
        ("mnist optimizer.=3", "no name before the ="),
        ("mnist epochs=3 epochs.x=1", "epochs is given as 3"),
        ("missing.yaml", "cannot be read as a recipe"),
    ],
)
def test_what_cannot_be_meant_is_said(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.build(words.split())


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_a_file_is_a_recipe_and_what_is_typed_wins(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"recipe{suffix}"
    file.write_text(json.dumps({"dataset": "猫", "optimizer": {"name": "SGD", "lr": 1e-05}}))

    built = recipe.build([str(file), "optimizer.lr=0.1", "epochs=2"])

    assert built == {"dataset": "猫", "optimizer": {"name": "SGD", "lr": 0.1}, "epochs": 2}


def test_numbers_in_yaml_are_those_of_json(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("dataset: mnist\nlr: 1e-3\nname: '1e-3'\nepochs: 3\nmomentum: .5\n")

    built = recipe.build([str(file)])

    assert built == {"dataset": "mnist", "lr": 0.001, "name": "1e-3", "epochs": 3, "momentum": 0.5}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", "[1]"),
        ("broken.json", "{"),
        ("broken.yaml", "a: [1"),
        ("code.yaml", "a: !!python/object/apply:os.getcwd []"),
        ("empty.yaml", ""),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match="recipe"):
        recipe.build([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("what", "local"),
    [
        *(
            ("./pets", "./pets"),
            ("pets/", "pets"),
            (".", "."),
            ("..", ".."),
            ("/data/猫", "/data/猫"),
        ),
        *(("pets.zip", "pets.zip"), ("pets.TAR.gz", "pets.TAR.gz"), ("pets.rar", "pets.rar")),
        *(("pets", None), ("my-recipes/pets.yaml", None), ("recipe.json", None), ("a/b=1", None)),
    ],
)
def test_what_is_on_this_disk(what: str, local: str | None) -> None:
    assert recipe.local(what) == (None if local is None else Path(local))


def test_a_folder_of_the_home() -> None:
    assert recipe.local("~/pets") == Path.home() / "pets"
