"""How names that people type are matched: without case, `-` and `_`; misses say "did you mean".

Letters that Unicode writes in several ways (full width, accents apart) are one letter here.
Knows nothing of what the names stand for.
"""

import difflib
import unicodedata
from collections.abc import Iterable


def match(wanted: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `wanted` means (`CIFAR10` and `cifar-10` mean `cifar10`), or None.

    An exact match wins over one that only looks alike.
    """
    names = list(known)
    if wanted in names:
        return wanted
    return next((name for name in names if _plain(name) == _plain(wanted)), None)


def did_you_mean(wanted: str, known: Iterable[str]) -> str | None:
    """`Did you mean 'mnist'?` for a near miss, else the choices when they are few, else None."""
    names = list(known)
    by_plain = {_plain(name): name for name in names}
    near = difflib.get_close_matches(_plain(wanted), by_plain, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(by_plain[name]) for name in near)}?"
    if 0 < len(names) <= 20:
        return f"Known: {', '.join(names)}."
    return None


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKC", name).casefold()
    return letters.replace("-", "").replace("_", "")
