"""Text from outside becomes one line of visible characters, and what people write survives."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.foreign_text import one_line

_JOINED = "\u200c\u200d\ufe0f\ufe0e\U000e0101"
_PIECES = st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Mn", "Co"]))
TEXTS = st.lists(
    _PIECES
    | st.sampled_from([*_JOINED, "a", "\u00e9", "1", "\u20e3", "\U0001f3f4", "\U000e0067", "\U000e007f", "\r\n"])
).map("".join)

SURVIVORS = {
    "nothing": "",
    "umlauts": "Donaudampfschiffahrtselektrizit\u00e4t, gr\u00f6\u00dfer",
    "umlauts of two characters": "u\u0308ber",
    "Japanese": "\u6771\u4eac\u306e\u30c7\u30fc\u30bf",
    "a name with a variant": "\u845b\U000e0100\u57ce\u5e02",
    "Korean": "\ub370\uc774\ud130",
    "Hebrew": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "Arabic with numbers": "\u0645\u0641\u062a\u0627\u062d 42 \u062c\u062f\u064a\u062f",
    "Persian with a non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi with a joiner": "\u0915\u094d\u200d\u0937",
    "Thai": "\u0e01\u0e38\u0e0d\u0e41\u0e08",
    "an emoji": "\U0001f511 rotated",
    "a combined emoji": "\U0001f469\u200d\U0001f4bb done",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a skin": "\U0001f44d\U0001f3fd",
    "a heart": "\u2764\ufe0f ok",
    "a heart on fire": "\u2764\ufe0f\u200d\U0001f525",
    "a keycap": "step 1\ufe0f\u20e3",
    "a flag": "\U0001f1e9\U0001f1ea",
    "a flag of a region": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f!",
    "a future emoji": "\U0001faef",
    "markup": "<b> & *bold* `code` @here #data",
    "a formula": "\u2211 x\u00b2 \u2260 \u221a2",
}


@pytest.mark.parametrize("text", SURVIVORS.values(), ids=SURVIVORS)
def test_ordinary_text_survives(text: str) -> None:
    """In every script, with its combining characters."""
    assert one_line(text) == text


FORGED = {
    "a line": ("ok\nstored by Ada", "ok stored by Ada"),
    "a Windows line end": ("ok\r\nstored", "ok stored"),
    "a line separator": ("ok\u2028stored\u2029x", "ok stored x"),
    "other line ends": ("a\x0bb\x0cc\x85d\x1ce", "a b c d e"),
    "a tabulator": ("a\tb", "a b"),
    "a NUL": ("a\0b", "a b"),
    "colours": ("\x1b[31mred", " [31mred"),
    "a backspace": ("good\x08\x08\x08\x08bad", "good    bad"),
    "odd blanks": ("a\u00a0b\u2003c\u3000d", "a b c d"),
    "turned round": ("\u202egnp.exe\u202c", "gnp.exe"),
    "isolated": ("\u2066a\u2067b\u2068c\u2069", "abc"),
    "direction marks": ("a\u200eb\u200fc\u061cd", "abcd"),
    "a zero-width blank": ("la\u200bke", "lake"),
    "a soft hyphen": ("la\u00adke", "lake"),
    "fillers": ("\u3164\uffa0\u115f\u1160\u2800", " "),
    "a joiner between letters": ("la\u200dke\u200c", "lake"),
    "many joiners": ("\u0645\u200c\u200c\u200d\u0645", "\u0645\u200c\u0645"),
    "variants of letters": ("l\ufe0fa\ufe01\ufe02k\U000e0100e", "lake"),
    "a variant after a joiner": ("a\u200d\ufe0fb", "ab"),
    "a hidden text": ("a\U000e0068\U000e0069\U000e007fb", "ab"),
    "a hidden text after a flag": ("\U0001f3f4\U000e0001\U000e0068\U000e007fb", "\U0001f3f4b"),
    "private use": ("a\ue000b\U000f0000", "ab"),
    "half a character": ("a\ud800b", "a?b"),
}


@pytest.mark.parametrize(("foreign", "expected"), FORGED.values(), ids=FORGED)
def test_forging_characters_are_removed(foreign: str, expected: str) -> None:
    """Line ends become blanks, and invisible characters are removed."""
    assert one_line(foreign) == expected


@given(TEXTS)
def test_a_text_becomes_one_line(foreign: str) -> None:
    """No line end, control character, bidirectional override or unencodable character remains."""
    line = one_line(foreign)
    assert not [each for each in line if unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp", "Co"}]
    assert not [each for each in line if unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI"}]
    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line


@given(TEXTS)
def test_one_line_stays_as_it_is(foreign: str) -> None:
    """A second pass changes nothing, and no separated parts join into something new."""
    assert one_line(one_line(foreign)) == one_line(foreign)
