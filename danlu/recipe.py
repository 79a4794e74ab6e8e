"""From what is typed after `danlu train` to the body of `POST /train`.

Reads `key=value` words and recipe files; knows no field of a recipe, the server judges those.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from danlu import package

FILES = frozenset({".yaml", ".yml", ".json"})


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number, as in JSON; YAML 1.1 makes it a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
# `name: 2024-05-01` is the text that was typed, as in JSON, and no date.
_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}

_TOO_DEEP = "it is nested too deeply"


def local(what: str) -> Path | None:
    """The folder or archive on this disk that is meant; None for anything else.

    A bare word is a data set of the server, though a folder may be called so: `./pets` is that.
    """
    if Path(what).suffix.lower() in FILES or "=" in what:
        return None
    path = what.startswith("~") or "/" in what or what in (".", "..")
    return Path(what).expanduser() if path or package.is_archive(what) else None


def build(words: Sequence[str]) -> dict[str, Any]:
    """The recipe that `WHAT key=value ...` means; WHAT may be missing if a key names it.

    A value is JSON where it is valid JSON, else a string; dots in a key nest. What is typed wins
    over what a file says. Raises ValueError with a message for people.
    """
    what = [word for word in words if "=" not in word]
    if len(what) > 1:
        raise ValueError(f"{what[1]!r} is no setting; settings look like epochs=3")
    recipe = _from_what(what[0]) if what else {}
    settings = [word.partition("=") for word in words if "=" in word]
    # optimizer=Adam before optimizer.lr=0.1, in whichever order they are typed.
    for key, _, text in sorted(settings, key=lambda setting: setting[0].count(".")):
        _put(recipe, key, _value(text))
    if not recipe:
        raise ValueError("say what to train on, for example: danlu train digits")
    _check(recipe)
    return recipe


def _from_what(what: str) -> dict[str, Any]:
    path = Path(what)
    if path.suffix.lower() in FILES:
        return _read(path)
    return {"dataset": what}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        recipe = _json(text) if path.suffix.lower() == ".json" else yaml.load(text, Loader=_Loader)
        if isinstance(recipe, dict):
            _check(recipe)
    except RecursionError:
        raise ValueError(f"{path} cannot be read as a recipe: {_TOO_DEEP}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a recipe: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} holds no recipe: a recipe is a mapping such as dataset: mnist")
    return recipe


def _check(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError for what JSON cannot carry, so that no request would be made of it."""
    for name, value in recipe.items():
        try:
            json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode()
        except RecursionError:
            raise ValueError(f"{name!r} cannot be sent: {_TOO_DEEP}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name!r} has a value that JSON cannot carry: {error}") from None


def _value(text: str) -> Any:
    try:
        return _json(text)
    except RecursionError:
        raise ValueError(f"{text[:20]}... cannot be sent: {_TOO_DEEP}") from None
    except ValueError:
        return text


def _json(text: str) -> Any:
    # NaN and Infinity are no JSON; as strings the server can name the field.
    return json.loads(text, parse_constant=str)


def _put(recipe: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    inner = recipe
    for i, name in enumerate(outer):
        deeper = inner.setdefault(name, {})
        # optimizer=Adam optimizer.lr=0.1: a bare name stands for {"name": ...} on the wire.
        if isinstance(deeper, str):
            deeper = inner[name] = {"name": deeper}
        if not isinstance(deeper, Mapping):
            whole = ".".join(outer[: i + 1])
            raise ValueError(f"{key} cannot be set: {whole} is given as {json.dumps(deeper)}")
        inner = deeper  # type: ignore[assignment]
    if not all([*outer, last]):
        raise ValueError(f"{key}={value} has no name before the =")
    inner[last] = value
