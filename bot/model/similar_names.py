"""Which of some names may have been meant by one that is none of them. Pure."""

import difflib
from collections.abc import Iterable
from typing import Final

_MOST: Final = 3
_SHARE: Final = 0.75
"""The share of a name that must be the same: one slip in four letters."""


def find_similar(typed: str, names: Iterable[str]) -> list[str]:
    """Return the names that are most like what was typed, the likeliest first; none where it is one of them."""
    known = list(names)
    return [] if typed in known else difflib.get_close_matches(typed, known, n=_MOST, cutoff=_SHARE)
