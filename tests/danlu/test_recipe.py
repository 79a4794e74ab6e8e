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


def test_a_date_in_yaml_is_the_text_that_was_typed(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("dataset: mnist\nname: 2024-05-01\ntags: [2024-05-01 10:00:00]\n")

    built = recipe.build([str(file)])

    assert built == {"dataset": "mnist", "name": "2024-05-01", "tags": ["2024-05-01 10:00:00"]}


def test_nan_in_json_is_for_the_server_to_name(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"dataset": "mnist", "lr": NaN}')

    assert recipe.build([str(file)]) == {"dataset": "mnist", "lr": "NaN"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("inf.yaml", "dataset: mnist\nlr: .inf", "'lr' has a value that JSON cannot carry"),
        ("inf.json", '{"dataset": "mnist", "lr": 1e999}', "'lr' has a value"),
        ("date.yaml", "optimizer: {lr: !!timestamp 2024-05-01}", "'optimizer' has a value"),
        ("circle.yaml", "tags: &a [*a]", "'tags' has a value"),
        ("deep.yaml", f"tags: {'[' * 2000}{']' * 2000}", "nested too deeply"),
        ("deep.json", f'{{"tags": {"[" * 99999}{"]" * 99999}}}', "nested too deeply"),
    ],
)
def test_a_file_with_what_json_cannot_carry(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=f"{name} cannot be read as a recipe: .*{message}"):
        recipe.build([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer.lr=1e999", "'optimizer' has a value that JSON cannot carry"),
        ("name=caf\udce9", "'name' has a value that JSON cannot carry"),
        (f"tags={'[' * 99999}", "nested too deeply"),
    ],
)
def test_a_word_with_what_json_cannot_carry(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.build(["mnist", word])


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
