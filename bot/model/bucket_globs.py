"""The operator's list of buckets: names and globs to serve and, with a leading `!`, to exclude. Pure.

    team-*, events, !team-secret

An entry with `!` always wins, wherever it stands. A list with nothing but exclusions serves nothing.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase, translate
from functools import cache
from itertools import product
from string import ascii_lowercase, digits
from typing import Final

from bot.model.catalog import is_bucket_name

_NOT: Final = "!"
_NOTHING: Final = r"(?!)"
_GLOB: Final = re.compile(r"(?:[a-z0-9*?-]|\[!?[a-z0-9-]+\])+")
_PART: Final = re.compile(r"\[[^]]*\]|.")
_CHARACTERS: Final = ascii_lowercase + digits + "-"
_FILLINGS: Final = ("", "a", "aaa")

_ALLOWED: Final = "of a-z, 0-9, hyphens, *, ? and [sets], each with a leading ! where buckets are not to be served"
_IMPOSSIBLE: Final = "a bucket has 3 to 63 of a-z, 0-9 and hyphens, with no hyphen at the ends"


def serves(globs: Sequence[str], bucket: str) -> bool:
    """Return whether a glob matches the whole name, and no exclusion does."""
    included, excluded = _compile(tuple(globs))
    return included.match(bucket) is not None and excluded.match(bucket) is None


@cache
def _compile(globs: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what is included, and what is excluded: one match each, for 10,000 catalogs."""
    included = [translate(glob) for glob in globs if not glob.startswith(_NOT)]
    excluded = [translate(glob.removeprefix(_NOT)) for glob in globs if glob.startswith(_NOT)]
    return _any_of(included), _any_of(excluded)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or _NOTHING)


def find_slip(globs: Sequence[str]) -> str | None:
    """Return which entry is invalid or matches no possible name, and the fix; None if all are valid.

    A glob that matches no possible name is not harmless: as an exclusion, it leaves open what it was meant to close.
    """
    for number, glob in enumerate(globs, 1):
        if not _GLOB.fullmatch(glob.removeprefix(_NOT)):
            return f"entry {number} is no name or glob: write it {_ALLOWED}, with a comma between two"
        if not _can_match(glob.removeprefix(_NOT)):
            return f"entry {number} can match no bucket, so correct it: {_IMPOSSIBLE}"
    if globs and all(glob.startswith(_NOT) for glob in globs):
        return "only says which buckets are not served; put * before them to serve all others"
    return None


def _can_match(glob: str) -> bool:
    """Return whether a possible name matches. If one does, so does one with letters only for the outer stars."""
    parts = [_narrow(part) for part in _PART.findall(glob)]
    if None in parts:
        return False
    return any(is_bucket_name(name) for name in _fill("".join(part for part in parts if part)))


def _fill(stars: str) -> Iterator[str]:
    for opening, closing in product(_FILLINGS, repeat=2):
        head, star, tail = stars.replace("*", opening, 1).rpartition("*")
        yield head.replace("*", "") + (closing if star else "") + tail


def _narrow(part: str) -> str | None:
    """Return the best character for this part, a letter rather than a hyphen; None if no character fits."""
    return part if part == "*" else next((each for each in _CHARACTERS if fnmatchcase(each, part)), None)
