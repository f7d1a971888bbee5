"""A list of globs serves the buckets that it names, and an entry that can match none is reported."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.bucket_globs import find_slip, serves
from bot.model.catalog import is_bucket_name

BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True)
GLOBS = st.lists(
    st.sampled_from(["*", "?", "a", "z", "0", "-", "[ab]", "[!ab]", "[a-f]", "[!-]", "[-]", "[z-a]", "[!a-z0-9]"]),
    min_size=1,
    max_size=8,
).map("".join)

USELESS = {
    "capitals": "Team-*",
    "an underscore": "team_*",
    "a dot": "team.events",
    "a slash": "team/**",
    "a blank": "team a",
    "a hyphen first": "-x*",
    "a hyphen last": "team-",
    "a hyphen last, after a star": "*-[-]",
    "two characters": "ab",
    "two of any character": "??",
    "64 characters": "x" * 64,
    "64 of any character": "?" * 64 + "*",
    "an unclosed set": "team-[ab",
    "an unclosed set alone": "[",
    "an empty set": "[]",
    "an empty negated set": "[!]",
    "a set of nothing": "tea[!a-z0-9-]",
    "a reversed range": "team-[z-a]",
    "a set closed but not opened": "team]",
    "a backslash": r"team-\*",
    "braces": "team-{a,b}",
    "nothing but a mark": "!",
    "two marks": "!!team-a",
    "a mark and a blank": "! team-a",
    "a mark in the middle": "team-!a",
    "not ASCII": "t\u00e9am-*",
    "a line end": "team-a\n",
}


@pytest.mark.parametrize("glob", USELESS.values(), ids=USELESS)
@pytest.mark.parametrize("mark", ["", "!"], ids=["served", "excluded"])
def test_a_glob_that_can_match_no_bucket_is_a_slip(mark: str, glob: str) -> None:
    """An exclusion that excludes nothing leaves open what its author wanted closed; the error names the entry."""
    slip = find_slip(("*", f"{mark}{glob}"))
    assert slip is not None
    assert slip.startswith("entry 2 ")


@pytest.mark.parametrize(
    "globs",
    [
        ("*",),
        ("**",),
        ("?*",),
        ("*-*",),
        ("a-*b",),
        ("x" * 63,),
        ("*" + "x" * 63 + "*",),
        ("*-" + "x" * 61 + "*",),
        ("[!-]??",),
        ("[-a]b[a-]",),
        ("team-*", "!team-secret"),
        ("!team-*", "*"),
    ],
    ids=repr,
)
def test_a_glob_that_can_match_is_no_slip(globs: tuple[str, ...]) -> None:
    """However odd the glob looks."""
    assert find_slip(globs) is None


@pytest.mark.parametrize("globs", [("!team-secret",), ("!team-*", "!x-*")])
def test_exclusions_alone_are_a_slip(globs: tuple[str, ...]) -> None:
    """Nothing would be served; adding `*` serves all others."""
    slip = find_slip(globs)
    assert slip is not None
    assert "put * before them" in slip


@given(GLOBS, BUCKETS)
def test_a_glob_that_matches_is_never_a_slip(glob: str, bucket: str) -> None:
    """A glob that matches some possible name is accepted."""
    if fnmatchcase(bucket, glob):
        assert find_slip((glob,)) is None


@given(GLOBS, st.data())
def test_an_accepted_glob_matches_a_bucket(glob: str, data: st.DataObject) -> None:
    """For each accepted glob there is a possible name."""
    if find_slip((glob,)) is None:
        text = "".join("[a-z0-9-]*" if part == "*" else part for part in re.findall(r"\[[^]]*\]|.", glob))
        pattern = re.compile(f"(?=[a-z0-9-]{{3,63}}$)(?!-){text.replace('?', '[a-z0-9-]').replace('[!', '[^')}(?<!-)")
        name = data.draw(st.from_regex(pattern, alphabet=st.sampled_from("az0-bf"), fullmatch=True))
        assert is_bucket_name(name)
        assert serves((glob,), name)


@given(st.lists(GLOBS, max_size=4), GLOBS, BUCKETS)
def test_an_exclusion_always_wins(globs: list[str], excluded: str, bucket: str) -> None:
    """Its position does not matter, nor what else names the bucket."""
    for place in range(len(globs) + 1):
        listed = [*globs[:place], f"!{excluded}", *globs[place:]]
        expected = not fnmatchcase(bucket, excluded) and serves(globs, bucket)
        assert serves(listed, bucket) is expected
