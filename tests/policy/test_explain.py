"""Why someone may do something or not, for an operator: the rule, where it applies, and its terms."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.model.catalog import BucketKey
from bot.model.errors import MembershipUnknown
from bot.policy.decision import decide
from bot.policy.explain import explain
from bot.policy.rules import People, Person, Request, Rule, Verb
from tests.policy.test_decision import CHANNELS, PERSONS, RULES, SOME_BUCKETS, make_key

LAKE = BucketKey(account_id="a" * 32, bucket="lake")
ADA = Person(user_id="U0ADA", usergroups=frozenset())
OF_ADA = People(users=frozenset({"U0ADA"}))
OF_DATA = People(usergroups=frozenset({"S0DATA"}))
ONE = Rule(name="rule 1", who=OF_ADA)
STRICT = Rule(
    name="rule 2",
    who=OF_ADA,
    channels=frozenset({"C2", "C1"}),
    approvals=1,
    require_reason=True,
    max_token_lifetime=timedelta(hours=36),
)
OF_ADAS = Rule(name="rule 3", who=People(users=frozenset({"U0GRACE"})), approvals=1, approvers=OF_ADA)
"""What Grace asks for, Ada approves."""

SILENT = replace(ADA, unknown_usergroups=frozenset({"S0DATA"}))
UNREADABLE = replace(ADA, unreadable_usergroups=frozenset({"S0DATA"}))

SILENCE = "Slack did not say who is in its user groups"

ANSWERS: dict[str, tuple[tuple[Rule, ...], Person, Verb, str, bool]] = {
    "a rule": ((ONE,), ADA, Verb.STORE, "yes, by rule 1 in any channel", True),
    "terms": (
        (STRICT,),
        ADA,
        Verb.STORE,
        "yes, by rule 2 in C1 and in C2, if someone approves it, a reason is given and the token lives for 36h at most",
        True,
    ),
    "a term": (
        (replace(ONE, max_token_lifetime=timedelta(days=90)),),
        ADA,
        Verb.STORE,
        "yes, by rule 1 in any channel, if the token lives for 90d at most",
        True,
    ),
    "a term in seconds": (
        (replace(ONE, max_token_lifetime=timedelta(seconds=90)),),
        ADA,
        Verb.STORE,
        "yes, by rule 1 in any channel, if the token lives for 90s at most",
        True,
    ),
    "terms of a dry run": (
        (STRICT,),
        ADA,
        Verb.CHECK,
        "yes, by rule 2 in C1 and in C2, if a reason is given and the token lives for 36h at most",
        True,
    ),
    "no terms of a look": ((STRICT,), ADA, Verb.STATUS, "yes, by rule 2 in C1 and in C2", True),
    "an approver": ((OF_ADAS,), ADA, Verb.APPROVE, "yes, as one of the `approvers` of rule 3", True),
    "an approver of another bucket": (
        (replace(OF_ADAS, buckets=("pond",)),),
        ADA,
        Verb.APPROVE,
        "no: not about this person: rule 3",
        True,
    ),
    "an approver twice": (
        (replace(ONE, verbs=frozenset({Verb.APPROVE})), OF_ADAS),
        ADA,
        Verb.APPROVE,
        "yes, by rule 1 in any channel; yes, as one of the `approvers` of rule 3",
        True,
    ),
    "an approver in doubt": (
        (replace(OF_ADAS, who=OF_ADA, approvers=OF_DATA),),
        SILENT,
        Verb.APPROVE,
        "not known, so no, as one of the `approvers` of rule 3",
        False,
    ),
    "by channel": (
        (replace(ONE, channels=frozenset({"C1"})), replace(ONE, name="rule 2")),
        ADA,
        Verb.CHECK,
        "yes, by rule 1 in C1; by rule 2 elsewhere",
        True,
    ),
    "no": (
        (replace(ONE, who=OF_DATA), replace(ONE, name="rule 2", buckets=("pond",)), replace(STRICT, buckets=("pond",))),
        ADA,
        Verb.STORE,
        "no: not about this person: rule 1; not about this bucket: rule 2, rule 2",
        True,
    ),
    "no such verb": ((ONE,), ADA, Verb.ENABLE, "no: does not allow that: rule 1", True),
    "silent": (
        (replace(ONE, who=OF_DATA), STRICT),
        SILENT,
        Verb.STORE,
        "not known, so no, in any channel: Slack did not say who is in its user groups: rule 1",
        False,
    ),
    "unreadable": (
        (replace(ONE, who=OF_DATA),),
        UNREADABLE,
        Verb.STORE,
        "not known, so no, in any channel: Slack does not show the bot who is in its user groups: rule 1",
        False,
    ),
    "silent elsewhere": (
        (replace(STRICT, approvals=0, require_reason=False, max_token_lifetime=None), replace(ONE, who=OF_DATA)),
        SILENT,
        Verb.STORE,
        f"yes, by rule 2 in C1 and in C2; not known, so no, elsewhere: {SILENCE}: rule 1",
        False,
    ),
    "silent behind": ((ONE, replace(ONE, who=OF_DATA)), SILENT, Verb.STORE, "yes, by rule 1 in any channel", True),
    "silent, of another bucket": (
        (replace(ONE, who=OF_DATA, buckets=("pond",)), replace(ONE, name="rule 2")),
        SILENT,
        Verb.STORE,
        "yes, by rule 2 in any channel",
        True,
    ),
}


@pytest.mark.parametrize(("rules", "person", "verb", "text", "is_known"), ANSWERS.values(), ids=ANSWERS)
def test_the_rule_and_the_reason_are_named(
    rules: tuple[Rule, ...], person: Person, verb: Verb, text: str, *, is_known: bool
) -> None:
    """One line for each verb."""
    every = {each.verb: each for each in explain(rules, person, LAKE)}
    assert [*every] == [*Verb]
    assert (every[verb].text, every[verb].is_known) == (f"{verb}: {text}", is_known)


@given(st.lists(RULES, max_size=4), PERSONS, st.sampled_from(SOME_BUCKETS))
def test_it_says_what_the_gate_does(rules: list[Rule], person: Person, bucket: str) -> None:
    """Over all channels that rules name, and another one."""
    rules = [replace(rule, name=str(number)) for number, rule in enumerate(rules)]
    key, channels = make_key(bucket), {*CHANNELS, "C3"} & {*(each for rule in rules for each in rule.channels), "C3"}
    for explained in explain(rules, person, key):
        asked = [Request(person=person, verb=explained.verb, key=key, channel_id=each) for each in channels]
        decided = [decide(rules, request) for request in asked]
        assert {*explained.rules} == {each for each in decided if isinstance(each, Rule)}
        assert explained.allows >= bool(explained.rules)
        if not explained.is_known and explained.verb is not Verb.APPROVE:
            assert any(isinstance(each, MembershipUnknown) for each in decided)
