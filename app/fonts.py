"""Which names can be written in a picture, and how those that cannot are called instead.

Matplotlib's own font has no Chinese, Japanese or Korean; fonts of the machine may. Imports
matplotlib, so it is imported when a picture is drawn.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from matplotlib import font_manager
from matplotlib.font_manager import FontEntry

OWN = "DejaVu Sans"
_LONGEST = 24
# Fonts that have many scripts are called so. Every font of a machine would take long to open.
_MANY_SCRIPTS = re.compile(
    "CJK|Source Han|WenQuanYi|Hei|Song|Ming|Kai|Gothic|Mincho|Hiragino|PingFang|YaHei|"
    "Meiryo|Malgun|Nanum|Fallback|Unifont|Arial Unicode|Noto Sans|FreeSans",
    re.IGNORECASE,
)


def families(texts: Iterable[str]) -> list[str]:
    """Font families, to be tried glyph by glyph, that have all characters, or as many as one more
    font beside matplotlib's own can add.
    """
    missing = _characters(texts) - _glyphs(_path_of(OWN))
    if not missing:
        return [OWN]
    best = max(_candidates(), key=lambda font: len(missing & _glyphs(font.fname)), default=None)
    if best is None or not missing & _glyphs(best.fname):
        return [OWN]
    return [OWN, best.name]


def can_write(text: str, families: Sequence[str]) -> bool:
    """Whether every character of it has a glyph."""
    missing = _characters([text])
    for family in families:
        missing -= _glyphs(_path_of(family))
    return not missing


def names(texts: Sequence[str], families: Sequence[str]) -> list[str]:
    """The texts as they can be written: cut to a length, and by number where glyphs are missing."""
    return [
        short(text) if can_write(text, families) else f"#{number}"
        for number, text in enumerate(texts)
    ]


def short(text: str, longest: int = _LONGEST) -> str:
    """One line of it, cut where it is too long."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def _characters(texts: Iterable[str]) -> set[int]:
    return {ord(character) for text in texts for character in short(text, len(text))} - {32}


def _candidates() -> Iterator[FontEntry]:
    """One file of each family."""
    seen: set[str] = {OWN}
    for font in font_manager.fontManager.ttflist:
        if font.name not in seen and _MANY_SCRIPTS.search(font.name):
            seen.add(font.name)
            yield font


def _path_of(family: str) -> str:
    return str(font_manager.findfont(family, fallback_to_default=True))


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(path).get_charmap())
