"""What lists of globs have in common: found exactly, for exclusions too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.bucket_globs import serves
from bot.model.catalog import is_bucket_name
from bot.model.glob_overlap import GIVEN_UP, Lists, find_bucket

CASES: dict[str, tuple[Lists, Lists, bool]] = {
    "any name": (((),), (), True),
    "one name": ((("lake",),), (), True),
    "the same name": ((("lake",),), (("lake",),), False),
    "a glob for it": ((("lake",),), (("l*",),), False),
    "a narrower glob": ((("l*",),), (("lake",),), True),
    "any, but not all": (((),), (("*",),), False),
    "two prefixes": ((("a*",), ("ab*",)), (), True),
    "two other prefixes": ((("a*",), ("b*",)), (), False),
    "a prefix and an end": ((("a*",), ("*z",)), (), True),
    "covered by two": ((("team-?",),), (("team-[a-m0-4]",), ("team-[n-z5-9]",)), False),
    "not quite covered by two": ((("team-?",),), (("team-[a-m0-4]",), ("team-[n-y5-9]",)), True),
    "no hyphen at the end": ((("team-?",),), (("team-[a-z]",), ("team-[0-9]",)), False),
    "all excluded": ((("team-a", "!team-*"),), (), False),
    "not all excluded": ((("team-*", "!team-a*"),), (), True),
    "an exclusion leaves a hole": ((("team-*",),), (("team-*", "!team-secret"),), True),
    "a hole that is filled": ((("team-*",),), (("team-*", "!team-secret"), ("*-secret",)), False),
    "too short": ((("??",),), (), False),
    "too long": ((("?" * 64,),), (), False),
    "the longest": ((("?" * 63,),), (), True),
}


@pytest.mark.parametrize(("wanted", "unwanted", "exists"), CASES.values(), ids=CASES)
def test_a_name_is_found_exactly_if_there_is_one(wanted: Lists, unwanted: Lists, *, exists: bool) -> None:
    """It is a possible name, and does what was asked for."""
    name = find_bucket(wanted, unwanted)
    assert (name is not None) is exists
    if name is not None:
        assert is_bucket_name(name)
        assert all(not each or serves(each, name) for each in wanted)
        assert not any(not each or serves(each, name) for each in unwanted)


def test_it_gives_up_rather_than_say_no() -> None:
    """Many stars have more places to be at than can be walked."""
    intricate = tuple(f"*{letter}*{letter}*{letter}*{letter}*" for letter in "abcdefgh")
    assert find_bucket(tuple((glob,) for glob in intricate)) == GIVEN_UP


GLOBS = st.lists(st.from_regex(r"!?(?:[ab*?-]|\[!?[ab]\]){1,4}", fullmatch=True), min_size=1, max_size=2).map(tuple)
NAMES = st.from_regex(r"[ab-]{3,6}", fullmatch=True)


@given(st.lists(GLOBS, min_size=1, max_size=2).map(tuple), st.lists(GLOBS, max_size=2).map(tuple), NAMES)
def test_none_means_that_no_name_does_it(wanted: Lists, unwanted: Lists, name: str) -> None:
    """Whatever the globs are."""
    fits = is_bucket_name(name) and all(serves(each, name) for each in wanted)
    if fits and not any(serves(each, name) for each in unwanted):
        assert find_bucket(wanted, unwanted) is not None
