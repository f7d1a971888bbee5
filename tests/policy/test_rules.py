"""Who may do what: nobody by default, and never more than the lists say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.errors import BucketNotAllowed, ChannelNotAllowed, EnablingNotAllowed, NotAllowed
from bot.model.submission import Task
from bot.policy.rules import Allowlist

NOBODY = Allowlist(users=frozenset(), usergroups=frozenset(), channels=frozenset(), buckets=())
LISTED = Allowlist(
    users=frozenset({"U0ALICE", "W0GRID"}),
    usergroups=frozenset({"S0DATA", "S0OPS"}),
    channels=frozenset({"C0DATA"}),
    buckets=("team-*", "events"),
)
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True)


@pytest.mark.parametrize(
    ("user", "members"),
    [
        pytest.param("U0MALLORY", set(), id="on no list"),
        pytest.param("U0MALLORY", {"U0BOB"}, id="in no group"),
        pytest.param("", set(), id="no id at all"),
        pytest.param("U0ALIC", set(), id="part of a listed id"),
        pytest.param("U0ALICEX", set(), id="more than a listed id"),
        pytest.param("u0alice", set(), id="another case"),
        pytest.param(" U0ALICE", set(), id="with a blank"),
        pytest.param("S0DATA", set(), id="the id of a listed group"),
        pytest.param("*", {"U0BOB"}, id="a star"),
    ],
)
def test_who_is_not_listed_is_refused(user: str, members: set[str]) -> None:
    """Only the very id that is listed, or that Slack named as a member, counts."""
    with pytest.raises(NotAllowed):
        LISTED.check_user(user, members)


@given(st.text())
def test_an_empty_list_allows_nobody(user: str) -> None:
    """No id gets in where none is listed, the empty one included."""
    with pytest.raises(NotAllowed):
        NOBODY.check_user(user, frozenset())
    with pytest.raises(NotAllowed):
        replace(LISTED, users=frozenset()).check_user(user, frozenset())


@pytest.mark.parametrize(
    ("user", "members"),
    [("U0ALICE", set()), ("W0GRID", set()), ("U0BOB", {"U0BOB", "U0CAROL"})],
    ids=["listed", "listed, of a grid", "member of a listed group"],
)
def test_who_is_listed_passes(user: str, members: set[str]) -> None:
    """A listed user passes, and so does a member of a listed group."""
    LISTED.check_user(user, members)


@pytest.mark.parametrize(
    ("user", "groups"),
    [("U0ALICE", set()), ("U0BOB", {"S0DATA", "S0OPS"}), ("", {"S0DATA", "S0OPS"})],
    ids=["listed", "not listed", "no id"],
)
def test_slack_is_asked_only_where_it_decides(user: str, groups: set[str]) -> None:
    """A listed user needs no group, so Slack's silence cannot shut that user out."""
    assert LISTED.usergroups_to_ask(user) == groups


@pytest.mark.parametrize("channel", ["C0OTHER", "", "c0data", "C0DAT", "C0DATA ", "D0DATA"])
def test_another_channel_is_refused(channel: str) -> None:
    """Where channels are listed, only the very id passes."""
    assert not LISTED.allows_channel(channel)
    with pytest.raises(ChannelNotAllowed):
        LISTED.check_channel(channel)


@pytest.mark.parametrize("channel", ["C0DATA", "D0BOB", "G0OLD"])
def test_a_channel_passes_where_it_is_listed_or_none_is(channel: str) -> None:
    """No list of channels means any channel."""
    NOBODY.check_channel(channel)
    replace(LISTED, channels=frozenset({channel})).check_channel(channel)
    assert NOBODY.allows_channel(channel)


@pytest.mark.parametrize(
    ("globs", "bucket"),
    [
        pytest.param(("events",), "events-2", id="more than the name"),
        pytest.param(("events",), "my-events", id="the name at the end"),
        pytest.param(("events",), "Events", id="another case"),
        pytest.param(("events",), "", id="no name"),
        pytest.param(("events",), "events\n", id="a line end"),
        pytest.param(("team-*",), "team", id="without the hyphen"),
        pytest.param(("team-*",), "my-team-a", id="the glob in the middle"),
        pytest.param(("team-?",), "team-ab", id="two for a question mark"),
        pytest.param(("team-[ab]",), "team-c", id="not in the set"),
        pytest.param(("team-[!ab]",), "team-a", id="in the forbidden set"),
        pytest.param(("a*", "b*"), "cab", id="none of several"),
        pytest.param(("team.*",), "teamx", id="a dot is a dot"),
    ],
)
def test_another_bucket_is_refused(globs: tuple[str, ...], bucket: str) -> None:
    """A glob matches the whole name, as a shell does, with regard to case."""
    allowlist = replace(NOBODY, buckets=globs)
    assert not allowlist.allows_bucket(bucket)
    with pytest.raises(BucketNotAllowed):
        allowlist.check_bucket(bucket)


@pytest.mark.parametrize(
    ("globs", "bucket"),
    [
        pytest.param((), "anything", id="none listed"),
        pytest.param(("events",), "events", id="the name"),
        pytest.param(("team-*",), "team-", id="a star for nothing"),
        pytest.param(("team-*",), "team-a-b", id="a star for more"),
        pytest.param(("team-?",), "team-a", id="one for a question mark"),
        pytest.param(("team-[ab]",), "team-b", id="in the set"),
        pytest.param(("a*", "b*"), "bcd", id="the second of several"),
        pytest.param(("*",), "anything", id="a star alone"),
    ],
)
def test_a_listed_bucket_passes(globs: tuple[str, ...], bucket: str) -> None:
    """One glob that matches is enough, and no list of buckets means any bucket."""
    allowlist = replace(NOBODY, buckets=globs)
    assert allowlist.allows_bucket(bucket)
    allowlist.check_bucket(bucket)


@given(BUCKETS, BUCKETS)
def test_a_plain_name_allows_itself_alone(listed: str, asked: str) -> None:
    """A bucket's name has no character that a glob reads differently."""
    assert replace(NOBODY, buckets=(listed,)).allows_bucket(asked) == (asked == listed)


@given(BUCKETS, st.text(alphabet="abcxyz0-", max_size=10))
def test_a_prefix_glob_allows_what_begins_with_it(asked: str, prefix: str) -> None:
    """`prefix*` is what Python itself calls beginning with the prefix."""
    assert replace(NOBODY, buckets=(f"{prefix}*",)).allows_bucket(asked) == asked.startswith(prefix)


def test_enabling_catalogs_is_off_by_default() -> None:
    """It costs money and cannot be taken back here, so only an operator who wants it has it."""
    assert not LISTED.allows_task(Task.ENABLE)
    with pytest.raises(EnablingNotAllowed):
        LISTED.check_task(Task.ENABLE)
    wanted = replace(LISTED, may_enable=True)
    wanted.check_task(Task.ENABLE)
    assert wanted.allows_task(Task.ENABLE)


@pytest.mark.parametrize("task", sorted(set(Task) - {Task.ENABLE}))
@pytest.mark.parametrize("may_enable", [True, False])
def test_what_the_bot_is_for_is_always_done(task: Task, *, may_enable: bool) -> None:
    """No setting switches off storing and checking."""
    allowlist = replace(NOBODY, may_enable=may_enable)
    allowlist.check_task(task)
    assert allowlist.allows_task(task)
