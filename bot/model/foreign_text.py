"""Makes text from outside one visible line, so that it cannot imitate lines or words of ours. Pure.

What people really write survives: all scripts, their joiners, emoji and flags.
"""

import re
from typing import Final

_BLANK: Final = re.compile(r"\r\n|[\s\x00-\x1f\x7f-\x9f\u2800]")  # Braille has a blank of its own
_UNSEEN: Final = re.compile(  # direction marks would reverse the text that follows
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\ue000-\uf8ff\U000f0000-\U0010ffff]"
)
_TAGS: Final = re.compile(  # invisible text, except in the flag of a region
    "(\U0001f3f4[\U000e0020-\U000e007e]{1,9}\U000e007f)|[\U000e0000-\U000e00ff]"
)
_JOINED: Final = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
_ONE_OF_EACH: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]?[\u200c\u200d]?")
_JOINERS: Final = "\u200c\u200d"
_KEYCAP: Final = "\u20e3"


def one_line(foreign: str) -> str:
    """Return the text as one line that every part of the program can encode, without invisible characters.

    JSON can hold lone surrogates: they become question marks.
    """
    if foreign.isascii() and foreign.isprintable():  # nearly all text, and cheap to check
        return foreign
    whole = foreign.encode("utf-8", "replace").decode()
    seen = _UNSEEN.sub("", _BLANK.sub(" ", whole))
    return _JOINED.sub(_settle, _TAGS.sub(lambda found: found[1] or "", seen))


def _settle(found: re.Match[str]) -> str:
    """Keep the variation selector and the joiner that belong to a character beyond ASCII.

    Between the letters of a token they would hide it from the search for tokens.
    """
    before, after = found.string[found.start() - 1 : found.start()], found.string[found.end() : found.end() + 1]
    if before.isascii():  # or nothing
        return "\ufe0f" if before and after == _KEYCAP else ""
    kept = _ONE_OF_EACH.match(found[0])
    text = kept[0] if kept else ""
    return text.rstrip(_JOINERS) if after.isascii() else text
