"""Who may approve what others ask for, and which buckets a person sees."""

from dataclasses import replace

import pytest

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, MembershipUnknown, NotAnApprover, OwnRequest, UsergroupUnreadable
from bot.policy.attempt import RefusedAttempt
from bot.policy.permit import Permit
from bot.policy.rules import People, Person, Rule, Verb

LAKE = BucketKey(account_id="a" * 32, bucket="lake")
ASKED = Rule(
    name="asked",
    who=People(users=frozenset({"U0ADA"})),
    approvals=1,
    approvers=People(users=frozenset({"U0ADA", "U0EVE"}), usergroups=frozenset({"S0SEC"})),
)
GRANTED = replace(ASKED, approvers=None)
MAY_APPROVE = Rule(
    name="may approve",
    who=People(users=frozenset({"U0ADA", "U0EVE"}), usergroups=frozenset({"S0SEC"})),
    verbs=frozenset({Verb.APPROVE}),
    buckets=("la*",),
    channels=frozenset({"C1"}),
)


def make_permit(user: str, *rules: Rule, member_of: str = "", unknown: str = "", unreadable: str = "") -> Permit:
    """Return the permit of a user."""
    person = Person(
        user_id=user,
        usergroups=frozenset({member_of} - {""}),
        unknown_usergroups=frozenset({unknown} - {""}),
        unreadable_usergroups=frozenset({unreadable} - {""}),
    )
    return Permit(person=person, rules=rules)


APPROVERS: dict[str, tuple[Permit, type[AccessRefused] | None]] = {
    "listed": (make_permit("U0EVE", ASKED), None),
    "in a listed group": (make_permit("U0SAM", ASKED, member_of="S0SEC"), None),
    "not listed": (make_permit("U0SAM", ASKED), NotAnApprover),
    "not listed, though a rule would let them approve": (
        make_permit("U0SAM", ASKED, replace(MAY_APPROVE, who=People(users=frozenset({"U0SAM"})))),
        NotAnApprover,
    ),
    "who asks, though listed": (make_permit("U0ADA", ASKED), OwnRequest),
    "in a silent group": (make_permit("U0SAM", ASKED, unknown="S0SEC"), MembershipUnknown),
    "in an unreadable group": (make_permit("U0SAM", ASKED, unreadable="S0SEC"), UsergroupUnreadable),
    "let by a rule": (make_permit("U0EVE", GRANTED, MAY_APPROVE), None),
    "let by a rule, in a group": (make_permit("U0SAM", GRANTED, MAY_APPROVE, member_of="S0SEC"), None),
    "let by a rule, who asks": (make_permit("U0ADA", GRANTED, MAY_APPROVE), OwnRequest),
    "let by no rule": (make_permit("U0SAM", GRANTED, MAY_APPROVE), NotAnApprover),
    "a rule about another bucket": (
        make_permit("U0EVE", GRANTED, replace(MAY_APPROVE, buckets=("pond",))),
        NotAnApprover,
    ),
    "a rule about another channel": (
        make_permit("U0EVE", GRANTED, replace(MAY_APPROVE, channels=frozenset({"C2"}))),
        NotAnApprover,
    ),
    "a rule that lets only store": (
        make_permit("U0EVE", GRANTED, replace(GRANTED, who=MAY_APPROVE.who)),
        NotAnApprover,
    ),
    "a rule for a silent group": (make_permit("U0SAM", GRANTED, MAY_APPROVE, unknown="S0SEC"), MembershipUnknown),
}


@pytest.mark.parametrize(("permit", "said"), APPROVERS.values(), ids=APPROVERS)
def test_who_may_approve(permit: Permit, said: type[AccessRefused] | None) -> None:
    """The listed ones; if none is listed, anyone whom a rule lets approve. Never the one who asks."""
    noted: list[RefusedAttempt] = []
    permit = replace(permit, note=noted.append)
    if said is None:
        permit.require_approver(permit.rules[0], "U0ADA", LAKE, "C1")
    else:
        with pytest.raises(said):
            permit.require_approver(permit.rules[0], "U0ADA", LAKE, "C1")
    assert [type(each.refusal) for each in noted] == ([] if said is None else [said])


def test_what_is_required_is_granted_on_the_terms_of_the_rule() -> None:
    """So that whoever goes on knows how many must agree, and more."""
    assert make_permit("U0ADA", ASKED).require(Verb.STORE, LAKE, "C1") is ASKED


def test_a_person_sees_what_some_rule_names_for_them() -> None:
    """A rule for others, or for a silent group, shows nothing."""
    lake = replace(ASKED, buckets=("la*",))
    pond = replace(ASKED, who=People(usergroups=frozenset({"S0SEC"})), buckets=("pond",))
    key_of_pond = replace(LAKE, bucket="pond")

    def seen(permit: Permit) -> list[bool]:
        return [permit.sees(key) for key in (LAKE, key_of_pond)]

    assert seen(make_permit("U0ADA", lake, pond)) == [True, False]
    assert seen(make_permit("U0ADA", lake, pond, member_of="S0SEC")) == [True, True]
    assert seen(make_permit("U0ADA", lake, pond, unknown="S0SEC")) == [True, False]
    assert seen(make_permit("U0SAM", lake, pond)) == [False, False]
    assert seen(make_permit("U0ADA", ASKED)) == [True, True]
    assert make_permit("U0ADA", ASKED, lake).outlook() == make_permit("U0ADA", ASKED).outlook()


LAKES = Rule(name="lakes", who=People(users=frozenset({"U0ADA"})), buckets=("la*",), channels=frozenset({"C1"}))
REST = replace(LAKES, name="rest", buckets=(), channels=frozenset())
LAST = replace(REST, name="last")
TERMS: dict[str, tuple[BucketKey | None, str | None, list[str]]] = {
    "all is known": (LAKE, "C1", ["lakes"]),
    "all is known, of another channel": (LAKE, "C2", ["rest"]),
    "the channel is open": (LAKE, None, ["lakes", "rest"]),
    "the channel is open, of another bucket": (replace(LAKE, bucket="pond"), None, ["rest"]),
    "the bucket is open": (None, "C1", ["lakes", "rest"]),
    "both are open": (None, None, ["lakes", "rest"]),
}


@pytest.mark.parametrize(("key", "channel", "names"), TERMS.values(), ids=TERMS)
def test_which_rules_may_decide_is_known_before_all_is(
    key: BucketKey | None, channel: str | None, names: list[str]
) -> None:
    """Up to the first that fits whatever is still to be chosen."""
    permit = make_permit("U0ADA", LAKES, REST, LAST)
    assert [rule.name for rule in permit.find_rules(Verb.STORE, key, channel)] == names
    assert permit.find_rules(Verb.ROTATE, key, channel) == []
