"""What a data set of one's own may be called.

Knows the names that are not free for everybody, and nothing of what lies on this disk.
"""

import unicodedata
from collections.abc import Sequence

from data_store.built_in import SETS
from problems import Problem, match

MOST_BYTES = 200  # in UTF-8: file systems take 255, and a suffix or two must fit behind
# Joiners, which some scripts and emoji are written with; other invisible characters only deceive.
_JOINERS = "\u200c\u200d"


def checked(text: str, *, loc: Sequence[str | int]) -> str:
    """`text` as the name of a data set, composed as NFC has it. `loc` is where it was given.

    Raises `Problem` invalid_request for what can be no name, and name_taken for one that belongs to
    a built-in set.
    """
    name = unicodedata.normalize("NFC", text)
    if wrong := _what_is_wrong(name):
        raise Problem(
            "invalid_request",
            f"A data set cannot be called {name[:80]!r}: {wrong}.",
            hint="Any script will do, with spaces within: pets, my photos, 花.",
            errors=[{"loc": list(loc), "msg": wrong}],
        )
    if owner := built_in(name):
        raise Problem(
            "name_taken",
            f"{name[:80]!r} belongs to the built-in data set {owner}.",
            hint="Choose another name.",
            errors=[{"loc": list(loc), "msg": "the name of a built-in data set"}],
        )
    return name


def _what_is_wrong(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    if name != name.strip():
        return "it begins or ends with a space"
    if name.startswith("."):
        return "it begins with a dot, as hidden folders do"
    if "/" in name or "\\" in name:
        return "it has a slash in it, as paths do"
    if not all(map(_is_shown, name)):
        return "it has a character in it that cannot be shown"
    if len(name.encode()) > MOST_BYTES:
        return f"it has more than {MOST_BYTES} bytes in UTF-8"
    return None


def _is_shown(character: str) -> bool:
    spaces = unicodedata.category(character) == "Zs"
    return character.isprintable() or spaces or character in _JOINERS


def built_in(name: str) -> str | None:
    """The built-in set that is called so, or whose files lie below a folder of that name."""
    for owner, known in SETS.items():
        files = (
            place.partition("/")[0] for file in known.files for place in (file.name, *file.holds)
        )
        if match(name, [owner, *files]):
            return owner
    return None
