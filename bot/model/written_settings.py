"""Cleans up settings as people write them: quotes and blanks around a value, and misspelt names. Pure."""

import difflib
import string
from collections.abc import Collection, Iterable, Iterator
from typing import Final

_BYTE_ORDER_MARK: Final = "\ufeff"
_PAIRS: Final = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""`docker run --env-file` and systemd's credentials keep the quotes that a shell would remove; editors curl them."""

_NEAR: Final = 0.85
"""SLACK_TOKEN and CLOUDFLARE_ZONE_ID, which other tools use, are less similar to ours than this."""


def plain_value(text: str) -> str:
    """Return the value without the white space, the byte order mark and the one pair of quotes around it."""
    stripped = _strip(text)
    if len(stripped) > 1 and _PAIRS.get(stripped[0]) == stripped[-1]:
        inner = stripped[1:-1]
        if not {stripped[0], stripped[-1]} & {*inner}:  # "a","b" is a list of two
            return _strip(inner)
    return stripped


def has_stray_quote(value: str) -> bool:
    """Return whether a value begins or ends with an unpaired quotation mark."""
    return any(end in _PAIRS and value.count(end) % 2 == 1 for end in {value[:1], value[-1:]})


def find_near_names(names: Iterable[str], ours: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that is probably a misspelt one of ours, and which."""
    for name in sorted(names):
        spelt = name.strip(string.whitespace + _BYTE_ORDER_MARK).upper().removeprefix("EXPORT ")
        close = difflib.get_close_matches(spelt, ours, n=1, cutoff=_NEAR)
        if close:
            yield name, close[0]


def _strip(text: str) -> str:
    before = None
    while text != before:  # a mark may be before or after a blank
        before, text = text, text.strip().strip(_BYTE_ORDER_MARK)
    return text
