"""Names in pictures: written where a font has them, numbered where none has."""

import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontEntry

from app import fonts

CHINESE = ["猫", "狗"]


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no font but matplotlib's own."""
    own = [font for font in font_manager.fontManager.ttflist if font.name == fonts.OWN]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)


@pytest.fixture
def rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose font named Hei has some Chinese, and one named Serif all of it."""
    made = {"Hei": "/fonts/hei.ttc", "Serif": "/fonts/serif.ttf", "Song": "/fonts/song.ttf"}
    entries = [FontEntry(fname=path, name=name) for name, path in made.items()]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*entries, entries[0]])
    monkeypatch.setattr(fonts, "_path_of", lambda family: made.get(family, "own"))
    latin = frozenset(range(0x250))
    has = {
        "own": latin,
        "/fonts/hei.ttc": latin | {ord("猫"), ord("狗")},
        "/fonts/serif.ttf": latin | frozenset(range(0x4E00, 0x9FFF)),
        "/fonts/song.ttf": latin | {ord("猫")},
    }
    monkeypatch.setattr(fonts, "_glyphs", has.__getitem__)


def test_latin_greek_and_cyrillic_need_no_font_of_the_machine(poor: None) -> None:
    texts = ["cat №1", "γάτα", "кошка", "Ça va"]

    families = fonts.families(texts)

    assert families == [fonts.OWN]
    assert fonts.names(texts, families) == texts


@pytest.mark.usefixtures("poor")
def test_what_no_font_has_is_numbered() -> None:
    families = fonts.families(["cat", *CHINESE])

    assert families == [fonts.OWN]
    assert fonts.names(["cat", *CHINESE], families) == ["cat", "#1", "#2"]


@pytest.mark.usefixtures("rich")
def test_the_font_that_has_most_of_it_comes_second() -> None:
    families = fonts.families(["cat", *CHINESE])

    assert families == [fonts.OWN, "Hei"]
    assert fonts.names(["cat", *CHINESE, "马"], families) == ["cat", "猫", "狗", "#3"]


@pytest.mark.usefixtures("rich")
def test_what_can_be_written_without_is_written_without() -> None:
    assert fonts.families(["cat", "dog"]) == [fonts.OWN]
    assert fonts.can_write("a b", [fonts.OWN])
    assert not fonts.can_write("猫", [fonts.OWN])


@pytest.mark.usefixtures("rich")
def test_a_font_that_adds_nothing_is_not_taken() -> None:
    assert fonts.families(["\N{HANGUL SYLLABLE GA}"]) == [fonts.OWN]


def test_long_names_and_line_breaks_are_cut() -> None:
    assert fonts.short("x" * 30) == "x" * 23 + "…"
    assert fonts.short("x" * 24) == "x" * 24
    assert fonts.short("a\nb\x00c") == "a�b�c"
