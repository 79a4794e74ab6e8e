"""Which encoding the names in an archive were written in, where the archive does not say.

Zips made on Windows carry bytes of the code page that the machine had. One encoding is chosen for
all names of an archive together, by how much of the text it makes could have been written by
somebody. Knows nothing of archives and paths.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

Encoding = Literal["utf-8", "gb18030", "cp932", "cp437"]

# The first of equals is taken. cp437 reads anything, so one of them always does.
_CANDIDATES: tuple[Encoding, ...] = ("utf-8", "gb18030", "cp932", "cp437")
# Bytes of another encoding are rarely UTF-8 by accident: of two Chinese characters one time in 30.
_UTF8_BONUS = 0.5
_MOST_WORDS = 20_000  # tell as much as all of them
_RARE = 0.3

_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_ACCENTS = (0x0300, 0x036F)
# In bytes: the frequent half of the characters that GB 2312 and JIS X 0208 have, and then the rest.
_GB2312 = ((b"\xb0\xa1", b"\xd7\xf9"), (b"\xd8\xa1", b"\xf7\xfe"))
_JIS = ((b"\x88\x9f", b"\x98\x72"), (b"\x98\x9f", b"\xea\xa4"))
_KANA = ((0x3041, 0x3096), (0x30A1, 0x30FC), (0x3005, 0x3005))


def guess(names: Sequence[bytes]) -> Encoding:
    """The encoding of all of `names`, which hold bytes beyond ASCII, or else any would do."""
    foreign = {word for name in names for word in name.split(b"/") if not word.isascii()}
    words = list(islice(sorted(foreign), _MOST_WORDS))
    fitting = [encoding for encoding in _CANDIDATES if _reads(encoding, foreign)]
    return max(fitting, key=lambda encoding: _plausibility(encoding, words))


def _reads(encoding: Encoding, words: Iterable[bytes]) -> bool:
    try:
        for word in words:
            word.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _plausibility(encoding: Encoding, words: Sequence[bytes]) -> float:
    """From 0 to 1, the mean over all characters beyond ASCII; of UTF-8 a little more."""
    scores = [
        _rate(encoding, run.group(), before=text[: run.start()], after=text[run.end() :])
        for text in (word.decode(encoding) for word in words)
        for run in _FOREIGN.finditer(text)
    ]
    characters = sum(count for _, count in scores)
    mean = sum(score for score, _ in scores) / max(1, characters)
    return mean + (_UTF8_BONUS if encoding == "utf-8" else 0)


def _rate(encoding: Encoding, run: str, *, before: str, after: str) -> tuple[float, int]:
    """The sum of the scores of characters that stand together, and how many they are."""
    if encoding in ("gb18030", "cp932"):
        # People put these into words of their own: "na久e" was never written by anybody.
        touching = before[-1:].isalpha() + after[:1].isalpha()
        each = sum(_frequency(character, encoding) for character in run)
        return each * (1 - touching / 2), len(run)
    if all(_is_western(character) for character in run):
        return len(run) * _fits_in_word(run, before, after), len(run)
    return sum(encoding == "utf-8" and _is_word(each) for each in run), len(run)


def _frequency(character: str, encoding: Encoding) -> float:
    """1 for characters that everybody uses, less for rare ones, 0 for those of no text."""
    if encoding == "cp932" and any(low <= ord(character) <= high for low, high in _KANA):
        return 1
    frequent, rare = _GB2312 if encoding == "gb18030" else _JIS
    try:
        data = character.encode("gb2312" if encoding == "gb18030" else "shift_jis")
    except UnicodeEncodeError:
        return 0
    if frequent[0] <= data <= frequent[1]:
        return 1
    return _RARE if rare[0] <= data <= rare[1] or unicodedata.category(character)[0] == "P" else 0


def _is_western(character: str) -> bool:
    """A letter with an accent, or an accent that follows its letter."""
    if _ACCENTS[0] <= ord(character) <= _ACCENTS[1]:
        return True
    return character.isalpha() and "LATIN" in unicodedata.name(character, "")


def _fits_in_word(run: str, before: str, after: str) -> bool:
    """As accented letters do, alone or in pairs among other letters: naïve, über, café, canapés."""
    left = len(before) - len(before.rstrip("abcdefghijklmnopqrstuvwxyz"))
    right = len(after) - len(after.lstrip("abcdefghijklmnopqrstuvwxyz"))
    accents = all(_ACCENTS[0] <= ord(character) <= _ACCENTS[1] for character in run)
    if accents:
        return before[-1:].isalpha()
    return len(run) <= 2 and ((left > 0 and right > 0) or left > 1 or right > 1)


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMNPSZ"
