"""Who may do what: no one by default, and never more than the lists say."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    BucketNotAllowed,
    ChannelNotAllowed,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    VerbNotAllowed,
)
from bot.model.submission import Task
from bot.policy.decision import refuse
from bot.policy.permit import Permit
from bot.policy.rules import USUAL_VERBS, Allowlist, Person, Request, Verb

NOBODY = Allowlist(users=frozenset(), usergroups=frozenset(), channels=frozenset(), buckets=())
LISTED = Allowlist(
    users=frozenset({"U0ALICE", "W0GRID"}),
    usergroups=frozenset({"S0DATA", "S0OPS"}),
    channels=frozenset({"C0DATA"}),
    buckets=("team-*", "events"),
)
BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True)


def refusal(allowlist: Allowlist, request: Request) -> type[AccessRefused] | None:
    """Return the refusal by the rules."""
    refused = refuse(allowlist.rules(), request)
    return None if refused is None else type(refused)


def person(user: str, *usergroups: str) -> Person:
    """Return a user with the groups that Slack reported."""
    return Person(user_id=user, usergroups=frozenset(usergroups))


def by(user: str, *usergroups: str) -> Request:
    """Return a request of this user without a verb."""
    return Request(person=person(user, *usergroups))


def key(bucket: str, account_id: str = "a" * 32) -> BucketKey:
    """Return a bucket of the account."""
    return BucketKey(account_id=account_id, bucket=bucket)


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        pytest.param("U0MALLORY", (), id="on no list"),
        pytest.param("U0MALLORY", ("S0OTHER",), id="in no listed group"),
        pytest.param("", (), id="no id at all"),
        pytest.param("U0ALIC", (), id="part of a listed id"),
        pytest.param("U0ALICEX", (), id="more than a listed id"),
        pytest.param("u0alice", (), id="another case"),
        pytest.param(" U0ALICE", (), id="with a blank"),
        pytest.param("S0DATA", (), id="the id of a listed group"),
        pytest.param("*", ("*", "s0data"), id="a star"),
    ],
)
def test_who_is_not_listed_is_refused(user: str, groups: tuple[str, ...]) -> None:
    """Only the exact listed id counts, or a listed group that Slack says the user is in."""
    assert refusal(LISTED, by(user, *groups)) is NotAllowed


@given(st.text(), st.text())
def test_an_empty_list_allows_no_one(user: str, group: str) -> None:
    """With no id listed, none is allowed, not even the empty one."""
    assert refusal(NOBODY, by(user, group)) is NotAllowed
    assert refusal(replace(LISTED, users=frozenset()), by(user)) is NotAllowed


@pytest.mark.parametrize(
    ("user", "groups"),
    [("U0ALICE", ()), ("W0GRID", ()), ("U0BOB", ("S0DATA",)), ("U0BOB", ("S0OTHER", "S0OPS"))],
    ids=["listed", "listed, of a grid", "member of a listed group", "member of the other one"],
)
def test_who_is_listed_passes(user: str, groups: tuple[str, ...]) -> None:
    """A listed user passes, and so does a member of a listed group."""
    assert refusal(LISTED, by(user, *groups)) is None


@pytest.mark.parametrize(
    ("known", "unknown", "said"),
    [
        pytest.param((), ("S0DATA",), MembershipUnknown, id="the only group that could have this person"),
        pytest.param(("S0OTHER",), ("S0DATA", "S0OPS"), MembershipUnknown, id="a member of another group only"),
        pytest.param((), ("S0OTHER",), NotAllowed, id="a group that this rule does not name"),
        pytest.param(("S0OPS",), ("S0DATA",), None, id="a member of one that answered"),
    ],
)
def test_what_slack_left_open_is_neither_yes_nor_no(
    known: tuple[str, ...], unknown: tuple[str, ...], said: type[AccessRefused] | None
) -> None:
    """But only if a group named by this very rule could still let the person in."""
    user = Person(user_id="U0BOB", usergroups=frozenset(known), unknown_usergroups=frozenset(unknown))
    assert refusal(LISTED, Request(person=user)) is said


@pytest.mark.parametrize(
    ("user", "groups"),
    [("U0ALICE", set()), ("U0BOB", {"S0DATA", "S0OPS"}), ("", {"S0DATA", "S0OPS"})],
    ids=["listed", "not listed", "no id"],
)
def test_slack_is_asked_only_where_it_decides(user: str, groups: set[str]) -> None:
    """A listed user needs no group, so an outage of Slack cannot shut that user out."""
    assert LISTED.rules()[0].who.usergroups_to_ask(user) == groups


@pytest.mark.parametrize("channel", ["C0OTHER", "", "c0data", "C0DAT", "C0DATA ", "D0DATA"])
def test_another_channel_is_refused(channel: str) -> None:
    """If channels are listed, only the exact id is allowed."""
    assert refusal(LISTED, Request(channel_id=channel)) is ChannelNotAllowed


@pytest.mark.parametrize("channel", ["C0DATA", "D0BOB", "G0OLD"])
def test_a_channel_passes_where_it_is_listed_or_none_is(channel: str) -> None:
    """No list of channels means any channel."""
    assert refusal(NOBODY, Request(channel_id=channel)) is None
    assert refusal(replace(LISTED, channels=frozenset({channel})), Request(channel_id=channel)) is None


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
        pytest.param(("team-*", "!team-secret"), "team-secret", id="excluded"),
        pytest.param(("!team-secret", "team-*"), "team-secret", id="excluded first"),
        pytest.param(("team-secret", "!team-s*"), "team-secret", id="excluded by glob, and listed by name"),
        pytest.param(("!team-secret",), "team-a", id="nothing but an exclusion"),
        pytest.param(("!team-secret",), "!team-secret", id="an exclusion is no name"),
    ],
)
def test_another_bucket_is_refused(globs: tuple[str, ...], bucket: str) -> None:
    """A glob matches the whole name, as in a shell, case-sensitively."""
    assert refusal(replace(NOBODY, buckets=globs), Request(key=key(bucket))) is BucketNotAllowed


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
        pytest.param(("team-*", "!team-secret"), "team-secrets", id="more than what is excluded"),
        pytest.param(("*", "!team-?", "!x*"), "team-ab", id="in no exclusion"),
    ],
)
def test_a_listed_bucket_passes(globs: tuple[str, ...], bucket: str) -> None:
    """One matching glob is enough, and no list of buckets means any bucket."""
    assert refusal(replace(NOBODY, buckets=globs), Request(key=key(bucket))) is None


@given(BUCKETS, BUCKETS)
def test_a_plain_name_allows_itself_alone(listed: str, asked: str) -> None:
    """No character of a bucket name is special in a glob."""
    said = refusal(replace(NOBODY, buckets=(listed,)), Request(key=key(asked)))
    assert said is (None if asked == listed else BucketNotAllowed)


@given(BUCKETS, st.text(alphabet="abcxyz0-", max_size=10))
def test_a_prefix_glob_allows_what_begins_with_it(asked: str, prefix: str) -> None:
    """`prefix*` matches as `str.startswith` does."""
    said = refusal(replace(NOBODY, buckets=(f"{prefix}*",)), Request(key=key(asked)))
    assert said is (None if asked.startswith(prefix) else BucketNotAllowed)


def test_enabling_catalogs_is_off_by_default() -> None:
    """It costs money and the bot cannot undo it, so the operator must turn it on."""
    assert refusal(LISTED, Request(verb=Verb.ENABLE)) is EnablingNotAllowed
    assert refusal(replace(LISTED, may_enable=True), Request(verb=Verb.ENABLE)) is None


@pytest.mark.parametrize("verb", sorted(USUAL_VERBS))
@pytest.mark.parametrize("may_enable", [True, False])
def test_the_usual_verbs_cannot_be_switched_off(verb: Verb, *, may_enable: bool) -> None:
    """No setting of the lists turns off storing, checking or viewing."""
    assert refusal(replace(NOBODY, may_enable=may_enable), Request(verb=verb)) is None


@pytest.mark.parametrize("verb", [Verb.ROTATE, Verb.APPROVE])
def test_the_lists_let_no_one_rotate_or_approve(verb: Verb) -> None:
    """That takes rules of a file."""
    assert refusal(replace(LISTED, may_enable=True), Request(verb=verb)) is VerbNotAllowed


@pytest.mark.parametrize("task", Task)
def test_every_task_has_a_verb(task: Task) -> None:
    """A submission is authorized by the verb of the same name."""
    assert Verb.of_task(task).value == task.value


YES: Final = None
PERMITS: dict[str, tuple[Person, Verb, str | None, str | None, type[AccessRefused] | None]] = {
    "a listed user": (person("U0ALICE"), Verb.STORE, "team-a", "C0DATA", YES),
    "a member of a listed group": (person("U0BOB", "S0OPS"), Verb.STORE, "team-a", "C0DATA", YES),
    "a stranger": (person("U0MALLORY"), Verb.STORE, "team-a", "C0DATA", NotAllowed),
    "a member of another group": (person("U0MALLORY", "S0OTHER"), Verb.CHECK, "events", "C0DATA", NotAllowed),
    "a stranger who looks": (person("U0MALLORY"), Verb.STATUS, None, None, NotAllowed),
    "another bucket": (person("U0ALICE"), Verb.STORE, "billing", "C0DATA", BucketNotAllowed),
    "another bucket by group": (person("U0BOB", "S0DATA"), Verb.CHECK, "billing", "C0DATA", BucketNotAllowed),
    "another channel": (person("U0ALICE"), Verb.STORE, "team-a", "C0OTHER", ChannelNotAllowed),
    "another channel by group": (person("U0BOB", "S0DATA"), Verb.CHECK, "team-a", "C0OTHER", ChannelNotAllowed),
    "neither bucket nor channel": (person("U0ALICE"), Verb.STORE, "billing", "C0OTHER", ChannelNotAllowed),
    "no bucket asked for": (person("U0ALICE"), Verb.HISTORY, None, "C0DATA", YES),
    "no channel, as in the App Home": (person("U0ALICE"), Verb.STORE, "events", None, YES),
    "no bucket by name": (person("U0ALICE"), Verb.STORE, "", None, BucketNotAllowed),
    "a channel without an id": (person("U0ALICE"), Verb.STORE, None, "", ChannelNotAllowed),
    "a table": (person("U0ALICE"), Verb.STATUS, None, "C0DATA", YES),
    "one catalog": (person("U0ALICE"), Verb.STATUS, "events", "C0DATA", YES),
    "the history of another bucket": (person("U0ALICE"), Verb.HISTORY, "billing", "C0DATA", BucketNotAllowed),
    "enabling": (person("U0ALICE"), Verb.ENABLE, "events", "C0DATA", EnablingNotAllowed),
    "enabling another bucket": (person("U0ALICE"), Verb.ENABLE, "billing", "C0DATA", EnablingNotAllowed),
}


@pytest.mark.parametrize(("who", "verb", "bucket", "channel", "said"), PERMITS.values(), ids=PERMITS)
def test_a_permit_says_yes_or_the_reason(
    who: Person, verb: Verb, bucket: str | None, channel: str | None, said: type[AccessRefused] | None
) -> None:
    """User, group, bucket, channel and verb: each given part must be allowed."""
    permit = Permit(person=who, rules=LISTED.rules())
    wanted = (verb, None if bucket is None else key(bucket), channel)

    answer = permit.refusal(*wanted)

    assert (None if answer is None else type(answer)) is said
    if said is None:
        permit.require(*wanted)
    else:
        with pytest.raises(said):
            permit.require(*wanted)


def test_enabling_is_permitted_where_the_operator_wants_it() -> None:
    """Then everything else must still be allowed."""
    permit = Permit(person=person("U0ALICE"), rules=replace(LISTED, may_enable=True).rules())

    permit.require(Verb.ENABLE, key("events"), "C0DATA")
    with pytest.raises(BucketNotAllowed):
        permit.require(Verb.ENABLE, key("billing"), "C0DATA")


def test_a_person_sees_the_buckets_that_are_allowed() -> None:
    """A bucket is shown only to people who may use it."""
    permit = Permit(person=person("U0ALICE"), rules=LISTED.rules())

    assert [bucket for bucket in ("team-a", "billing", "events", "") if permit.sees(key(bucket))] == [
        "team-a",
        "events",
    ]
