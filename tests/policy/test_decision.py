"""Several rules: the first that fits decides, doubt stops it, and the reason of a no is the one that helps."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model import bucket_globs
from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    BucketNotAllowed,
    BucketNotInChannel,
    ChannelNotAllowed,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    UsergroupUnreadable,
    VerbNotAllowed,
)
from bot.model.place import DIRECT
from bot.policy.decision import decide, find_named, refuse, refuse_entrance
from bot.policy.rules import APPROVABLE, Allowlist, People, Person, Request, Rule, Verb

ADA = People(users=frozenset({"U0ADA"}))
DATA = People(usergroups=frozenset({"S0DATA"}))
C1, C2 = frozenset({"C1"}), frozenset({"C2"})


def make_key(bucket: str) -> BucketKey:
    """Return a bucket of the account."""
    return BucketKey(account_id="a" * 32, bucket=bucket)


def ask(
    verb: Verb | None = Verb.STORE,
    bucket: str | None = "team-a",
    channel: str | None = "C1",
    user: str = "U0ADA",
    *,
    member_of: str = "",
    unknown: str = "",
    unreadable: str = "",
) -> Request:
    """Return a request."""
    person = Person(
        user_id=user,
        usergroups=frozenset({member_of} - {""}),
        unknown_usergroups=frozenset({unknown} - {""}),
        unreadable_usergroups=frozenset({unreadable} - {""}),
    )
    return Request(person=person, verb=verb, key=(bucket and make_key(bucket)) or None, channel_id=channel)


STRICT = Rule(name="strict", who=DATA, buckets=("team-*",), approvals=1)
LAX = Rule(name="lax", who=ADA)

FIRST: Final[dict[str, tuple[tuple[Rule, ...], Request, str]]] = {
    "the first of two that fit": ((STRICT, LAX), ask(member_of="S0DATA"), "strict"),
    "in the other order": ((LAX, STRICT), ask(member_of="S0DATA"), "lax"),
    "another person": ((STRICT, LAX), ask(), "lax"),
    "another bucket": ((STRICT, LAX), ask(bucket="lake", member_of="S0DATA"), "lax"),
    "another channel, on the same terms": (
        (replace(STRICT, channels=C2), replace(LAX, approvals=1)),
        ask(member_of="S0DATA"),
        "lax",
    ),
    "another channel, and a later rule that asks for as much": (
        (replace(STRICT, channels=C2), LAX, replace(LAX, name="last", approvals=1)),
        ask(member_of="S0DATA"),
        "last",
    ),
    "another channel, for what needs no approval": (
        (replace(STRICT, channels=C2), LAX),
        ask(Verb.CHECK, member_of="S0DATA"),
        "lax",
    ),
    "another channel, and another bucket": (
        (replace(STRICT, channels=C2), LAX),
        ask(bucket="lake", member_of="S0DATA"),
        "lax",
    ),
    "another channel of the others": ((replace(STRICT, channels=C2), LAX), ask(), "lax"),
    "another verb": ((STRICT, replace(LAX, verbs=frozenset({Verb.ROTATE}))), ask(Verb.ROTATE), "lax"),
    "no bucket given": ((STRICT, LAX), ask(bucket=None, member_of="S0DATA"), "strict"),
    "a silent group elsewhere": ((STRICT, LAX), ask(bucket="lake", unknown="S0DATA"), "lax"),
    "a silent group of a later rule": ((LAX, STRICT), ask(unknown="S0DATA"), "lax"),
    "a silent group, and a bucket left open": ((STRICT, LAX), ask(bucket=None, unknown="S0DATA"), "lax"),
}


@pytest.mark.parametrize(("rules", "request_", "name"), FIRST.values(), ids=FIRST)
def test_the_first_rule_that_fits_decides(rules: tuple[Rule, ...], request_: Request, name: str) -> None:
    """And so its terms apply, whatever later rules say."""
    decided = decide(rules, request_)
    assert isinstance(decided, Rule)
    assert decided.name == name


LONGER = timedelta(days=365)
DETOURS: Final[dict[str, tuple[Rule, Rule, Verb]]] = {
    "without the approval": (STRICT, LAX, Verb.STORE),
    "enabling without the approval": (
        replace(STRICT, verbs=frozenset({Verb.ENABLE})),
        replace(LAX, verbs=frozenset({Verb.ENABLE})),
        Verb.ENABLE,
    ),
    "without a reason": (replace(STRICT, approvals=0, require_reason=True), LAX, Verb.CHECK),
    "with a token without end": (replace(STRICT, approvals=0, max_token_lifetime=LONGER), LAX, Verb.STORE),
    "with a token that lives longer": (
        replace(STRICT, approvals=0, max_token_lifetime=LONGER / 2),
        replace(LAX, max_token_lifetime=LONGER),
        Verb.STORE,
    ),
}


@pytest.mark.parametrize(("strict", "lax", "verb"), DETOURS.values(), ids=DETOURS)
def test_no_other_channel_leads_around_the_terms_of_an_earlier_rule(strict: Rule, lax: Rule, verb: Verb) -> None:
    """Who asks chooses where the result goes, and so must not choose the terms by that; nor if Slack is silent."""
    rules = (replace(strict, channels=C2), lax)
    for channel in ("C1", DIRECT):
        assert type(decide(rules, ask(verb, channel=channel, member_of="S0DATA"))) is BucketNotInChannel
        assert type(decide(rules, ask(verb, channel=channel, unknown="S0DATA"))) is MembershipUnknown
        assert type(decide(rules, ask(verb, channel=channel, unreadable="S0DATA"))) is UsergroupUnreadable
        assert decide(rules, ask(verb, channel=channel)) is lax
    assert decide(rules, ask(verb, channel="C2", member_of="S0DATA")) is rules[0]
    assert refuse(rules, Request(verb=verb, key=make_key("team-a"), channel_id="C1")) is None  # of nobody in particular


NEITHER: Final[dict[str, tuple[tuple[Rule, ...], Request, type[AccessRefused]]]] = {
    "silent": ((STRICT, LAX), ask(unknown="S0DATA"), MembershipUnknown),
    "unreadable": ((STRICT, LAX), ask(unreadable="S0DATA"), UsergroupUnreadable),
    "unreadable, then silent": (
        (STRICT, replace(STRICT, who=People(usergroups=frozenset({"S0OPS"}))), LAX),
        ask(unreadable="S0DATA", unknown="S0OPS"),
        MembershipUnknown,
    ),
    "silent, and the only rule": ((STRICT,), ask(unknown="S0DATA"), MembershipUnknown),
    "silent, and nothing else could fit": (
        (replace(STRICT, channels=C2), STRICT),
        ask(user="U0BOB", unknown="S0DATA"),
        MembershipUnknown,
    ),
}


@pytest.mark.parametrize(("rules", "request_", "said"), NEITHER.values(), ids=NEITHER)
def test_no_later_rule_decides_where_slack_left_an_earlier_one_open(
    rules: tuple[Rule, ...], request_: Request, said: type[AccessRefused]
) -> None:
    """It could allow without the approval that the earlier one asks for."""
    assert type(decide(rules, request_)) is said


IN_C1 = Rule(name="1", who=ADA, buckets=("team-a",), channels=C1)
IN_C2 = Rule(name="2", who=ADA, buckets=("team-b",), channels=C2)
LOOKS = Rule(name="3", who=ADA, verbs=frozenset({Verb.STATUS}))

REASONS: Final[dict[str, tuple[tuple[Rule, ...], Request, type[AccessRefused]]]] = {
    "no rule at all": ((), ask(), NotAllowed),
    "in no rule": ((IN_C1, IN_C2), ask(user="U0BOB"), NotAllowed),
    "a verb of no rule": ((IN_C1, IN_C2), ask(Verb.ROTATE), VerbNotAllowed),
    "enabling": ((IN_C1, IN_C2), ask(Verb.ENABLE), EnablingNotAllowed),
    "a verb of another's rule": ((LOOKS, replace(STRICT, verbs=frozenset({Verb.STORE}))), ask(), VerbNotAllowed),
    "a channel of no rule": ((IN_C1, IN_C2), ask(channel="C3"), ChannelNotAllowed),
    "a bucket of no rule": ((IN_C1, IN_C2), ask(bucket="lake"), BucketNotAllowed),
    "both of no rule": ((IN_C1, IN_C2), ask(bucket="lake", channel="C3"), ChannelNotAllowed),
    "each of a rule, but not together": ((IN_C1, IN_C2), ask(bucket="team-b"), BucketNotInChannel),
    "a bucket that may only be looked at": ((IN_C1, LOOKS), ask(bucket="lake"), BucketNotAllowed),
    "a rule that would not fit, for a silent group": (
        (STRICT, IN_C1),
        ask(bucket="lake"),
        BucketNotAllowed,
    ),
    "one list, with two faults": ((IN_C1,), ask(bucket="lake", channel="C3"), ChannelNotAllowed),
}


@pytest.mark.parametrize(("rules", "request_", "said"), REASONS.values(), ids=REASONS)
def test_the_reason_of_the_nearest_miss_is_given(
    rules: tuple[Rule, ...], request_: Request, said: type[AccessRefused]
) -> None:
    """The rule that came closest says what to change."""
    assert type(decide(rules, request_)) is said


def test_anyone_in_a_rule_may_enter_also_as_an_approver() -> None:
    """An approver may have no other right; whether someone is one must be known."""
    rule = Rule(name="1", who=ADA, approvals=1, approvers=DATA)

    def enter(request: Request) -> AccessRefused | None:
        assert request.person is not None
        return refuse_entrance(find_named((rule,)), request.person)

    assert enter(ask(user="U0BOB", member_of="S0DATA")) is None
    assert type(enter(ask(user="U0BOB"))) is NotAllowed
    assert type(enter(ask(user="U0BOB", unknown="S0DATA"))) is MembershipUnknown
    assert type(enter(ask(user="U0BOB", unreadable="S0DATA"))) is UsergroupUnreadable
    assert type(refuse((rule,), ask(user="U0BOB", member_of="S0DATA"))) is NotAllowed


def test_of_whom_many_rules_speak_is_asked_once() -> None:
    """Each person and group is looked at once for a permit, however many rules there are."""
    rules = [replace(STRICT, name=str(number)) for number in range(50)]
    assert find_named([*rules, LAX, Rule(name="1", who=DATA, approvers=ADA)]) == (DATA, ADA)


USERS, GROUPS, CHANNELS = ("U1", "U2"), ("S1", "S2"), ("C1", "C2")
SOME_BUCKETS = ("team-a", "team-b", "lake")
GLOBS = st.sampled_from([(), ("team-*",), ("team-a",), ("*", "!team-b"), ("lake", "team-?")])


def some(names: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    """Draw some of these names."""
    return st.frozensets(st.sampled_from(names))


WHO = st.builds(People, users=some(USERS), usergroups=some(GROUPS))
RULES = st.builds(
    Rule,
    name=st.just("one"),
    who=WHO,
    verbs=st.frozensets(st.sampled_from(Verb), min_size=1),
    channels=some(CHANNELS),
    buckets=GLOBS,
    approvals=st.integers(0, 1),
)
PERSONS = st.builds(
    Person, user_id=st.sampled_from(USERS), usergroups=some(GROUPS), unknown_usergroups=some(GROUPS)
).map(lambda each: replace(each, unknown_usergroups=each.unknown_usergroups - each.usergroups))
REQUESTS = st.builds(
    Request,
    person=PERSONS,
    verb=st.none() | st.sampled_from(Verb),
    key=st.none() | st.sampled_from(SOME_BUCKETS).map(make_key),
    channel_id=st.none() | st.sampled_from(CHANNELS),
)


@given(REQUESTS)
def test_no_rule_is_a_no(request_: Request) -> None:
    """Whoever asks for whatever."""
    assert type(decide((), request_)) is NotAllowed


@given(st.lists(RULES, max_size=5), RULES, REQUESTS)
def test_a_rule_at_the_end_takes_nothing_away(rules: list[Rule], more: Rule, request_: Request) -> None:
    """A yes stays the same yes, by the same rule."""
    before = decide(rules, request_)
    if isinstance(before, Rule):
        assert decide([*rules, more], request_) is before


@given(st.lists(RULES, max_size=5), REQUESTS)
def test_what_slack_does_not_say_is_never_a_yes(rules: list[Rule], request_: Request) -> None:
    """A yes stays a yes if the person turns out to be in none of the silent groups; and a whole one, the same yes."""
    decided = decide(rules, request_)
    assert request_.person is not None
    silent = request_.person.unknown_usergroups
    in_none = replace(request_.person, unknown_usergroups=frozenset())
    in_all = replace(in_none, usergroups=in_none.usergroups | silent)
    if isinstance(decided, Rule):
        assert refuse(rules, replace(request_, person=in_none)) is None
        if request_.is_whole:
            assert decide(rules, replace(request_, person=in_none)) is decided
            assert decide(rules, replace(request_, person=in_all)) is decided


@given(st.lists(RULES, max_size=5), REQUESTS)
def test_a_no_says_that_no_rule_fits(rules: list[Rule], request_: Request) -> None:
    """Unless it is a doubt, or the channel would lead around an approval."""
    decided = decide(rules, request_)
    is_no = isinstance(decided, AccessRefused) and not isinstance(decided, MembershipUnknown)
    if is_no and not any(rule.approvals and rule.channels for rule in rules):
        assert all(rule.refuse(request_) for rule in rules)


@given(st.lists(RULES, max_size=5), REQUESTS, st.sampled_from([*CHANNELS, "C3"]))
def test_no_choice_of_a_channel_saves_the_approval(rules: list[Rule], request_: Request, channel: str) -> None:
    """If the first rule that fits asks for one in one channel, then so does every yes of a later rule elsewhere."""
    here, there = decide(rules, request_), decide(rules, replace(request_, channel_id=channel))
    if isinstance(here, Rule) and isinstance(there, Rule) and request_.is_whole and request_.verb in APPROVABLE:
        is_later = rules.index(there) > rules.index(here)
        assert there.approvals >= here.approvals or not is_later


LISTS = st.builds(
    Allowlist,
    users=some(USERS),
    usergroups=some(GROUPS),
    channels=some(CHANNELS),
    buckets=GLOBS,
    may_enable=st.booleans(),
)


@given(LISTS, REQUESTS)
def test_the_lists_give_their_reasons_in_order(lists: Allowlist, request_: Request) -> None:
    """The person, enabling, the channel, then the bucket: as before there were rules."""
    person, key = request_.person, request_.key
    assert person is not None
    said = {
        MembershipUnknown: not person.unknown_usergroups.isdisjoint(lists.usergroups),
        NotAllowed: person.unknown_usergroups.isdisjoint(lists.usergroups),
    }
    is_in = person.user_id in lists.users or not person.usergroups.isdisjoint(lists.usergroups)
    reasons = [] if is_in else [reason for reason, applies in said.items() if applies]
    if request_.verb is Verb.ENABLE and not lists.may_enable:
        reasons.append(EnablingNotAllowed)
    if request_.verb in (Verb.ROTATE, Verb.APPROVE):
        reasons.append(VerbNotAllowed)
    if request_.channel_id and lists.channels and request_.channel_id not in lists.channels:
        reasons.append(ChannelNotAllowed)
    if key and lists.buckets and not bucket_globs.serves(lists.buckets, key.bucket):
        reasons.append(BucketNotAllowed)
    decided = decide(lists.rules(), request_)
    assert (type(decided) if isinstance(decided, AccessRefused) else None) is next(iter(reasons), None)
