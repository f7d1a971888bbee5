"""What lists of bucket globs have in common, and what one serves that others do not. Pure."""

import re
from collections import deque
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from string import ascii_lowercase, digits
from typing import Final, TypeAlias

from bot.model.catalog import is_bucket_name

GIVEN_UP: Final = ""
"""Returned instead of a name when the globs are too intricate to say that there is none."""

_MOST_STATES: Final = 3_000
_LONGEST_NAME: Final = 63
_PART: Final = re.compile(r"\[[^]]*\]|.")
_STAR: Final = "*"

Lists: TypeAlias = tuple[tuple[str, ...], ...]
"""Lists of globs."""

_Places = tuple[frozenset[int], ...]
"""For each glob, the parts that the next character may meet: the states of an automaton."""


@lru_cache
def find_bucket(wanted: Lists, unwanted: Lists = ()) -> str | None:
    """Return a possible name that all of the `wanted` lists serve and none of the others; None if there is none.

    An empty list serves all. Walks all beginnings of names at once that lead to the same places in every glob.
    """
    lists = [[*each] or [_STAR] for each in (*wanted, *unwanted)]
    globs = [_PART.findall(glob.removeprefix("!")) for each in lists for glob in each]
    start = tuple(_without_stars(glob, {0}) for glob in globs)
    seen, waiting = {(start, "")}, deque([(start, "")])
    letters = _pick_letters(globs)
    while waiting:
        places, name = waiting.popleft()
        served = _served(lists, globs, places)
        if all(served[: len(wanted)]) and not any(served[len(wanted) :]) and is_bucket_name(name):
            return name
        for letter in letters if len(name) < _LONGEST_NAME else "":
            after = tuple(_step(glob, at, letter) for glob, at in zip(globs, places, strict=True))
            if (state := (after, _gist(name + letter))) not in seen:
                seen.add(state)
                waiting.append((after, name + letter))
        if len(seen) > _MOST_STATES:
            return GIVEN_UP
    return None


def _gist(name: str) -> str:
    """Return what of a beginning decides whether it can be a name: its length up to 3, and the hyphens at its ends."""
    return f"{min(len(name), 3)}{name[0] == '-'}{name[-1] == '-'}"


def _pick_letters(globs: Sequence[Sequence[str]]) -> str:
    """Return one of all characters that no part of a glob tells apart."""
    parts = sorted({part for glob in globs for part in glob if part != _STAR})
    alike = {
        (letter == "-", *(fnmatchcase(letter, part) for part in parts)): letter
        for letter in f"{ascii_lowercase}{digits}-"
    }
    return "".join(alike.values())


def _without_stars(glob: Sequence[str], at: set[int]) -> frozenset[int]:
    """Return the places, and those behind stars, which may stand for nothing."""
    for place in sorted(at):
        end = place
        while end < len(glob) and glob[end] == _STAR:
            end += 1
            at.add(end)
    return frozenset(at)


def _step(glob: Sequence[str], at: frozenset[int], letter: str) -> frozenset[int]:
    inside = [place for place in at if place < len(glob)]
    stays = {place for place in inside if glob[place] == _STAR}
    return _without_stars(glob, stays | {place + 1 for place in inside if _meets(glob[place], letter)})


def _meets(part: str, letter: str) -> bool:
    return part != _STAR and fnmatchcase(letter, part)


def _served(lists: Sequence[Sequence[str]], globs: Sequence[Sequence[str]], places: _Places) -> list[bool]:
    ended = iter([len(glob) in at for glob, at in zip(globs, places, strict=True)])
    served = []
    for each in lists:
        hits = [(glob.startswith("!"), next(ended)) for glob in each]
        is_included = any(hit for is_exclusion, hit in hits if not is_exclusion)
        served.append(is_included and not any(hit for is_exclusion, hit in hits if is_exclusion))
    return served
