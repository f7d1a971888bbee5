"""Says which rule decides what a person may do with a bucket, and why, in an operator's words. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    BucketNotAllowed,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    UsergroupUnreadable,
    VerbNotAllowed,
)
from bot.policy.decision import decide
from bot.policy.rules import APPLIES_TO, Person, Request, Rule, Verb, find_fitting

_WHY: Final[Mapping[type[AccessRefused], str]] = {
    NotAllowed: "not about this person",
    VerbNotAllowed: "does not allow that",
    EnablingNotAllowed: "does not allow that",
    BucketNotAllowed: "not about this bucket",
    MembershipUnknown: "Slack did not say who is in its user groups",
    UsergroupUnreadable: "Slack does not show the bot who is in its user groups",
}
_DOUBTS: Final = (MembershipUnknown, UsergroupUnreadable)
_ELSEWHERE: Final = ""
"""A channel that no rule names."""

_UNITS: Final = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a person may do: `rules`: which allow it, each in some channels. `is_known`: whether Slack said all.

    `allows` is also true of who is named in a rule's `approvers`.
    """

    verb: Verb
    rules: tuple[Rule, ...]
    allows: bool
    text: str
    is_known: bool


def explain(rules: Sequence[Rule], person: Person, key: BucketKey) -> Iterator[Explanation]:
    """Yield the answer for each verb: what is decided in each channel that a rule names, and in any other."""
    channels = [*sorted(frozenset[str]().union(*(rule.channels for rule in rules))), _ELSEWHERE]
    for verb in Verb:
        explanation = _explain(rules, Request(person=person, verb=verb, key=key), verb, channels)
        yield _add_approving(explanation, rules, person, key) if verb is Verb.APPROVE else explanation


def _explain(rules: Sequence[Rule], request: Request, verb: Verb, channels: Sequence[str]) -> Explanation:
    asked = {channel: replace(request, channel_id=channel) for channel in channels}
    decided = {channel: decide(rules, each) for channel, each in asked.items()}
    allowing = {each: _where(each, decided) for each in decided.values() if isinstance(each, Rule)}
    doubts = {
        channel: _find_doubts(rules, asked[channel]) or _find_doubts(rules, request)
        for channel, each in decided.items()
        if isinstance(each, _DOUBTS)
    }
    doubtful = [channel for channel, rules_in_doubt in doubts.items() if rules_in_doubt]
    parts = [
        *([f"yes, {'; '.join(_describe(rule, where, verb) for rule, where in allowing.items())}"] if allowing else [])
    ]
    if doubtful:
        in_doubt = dict.fromkeys(rule for channel in doubtful for rule in doubts[channel])
        parts.append(f"not known, so no, {_list(doubtful, len(channels))}: {_group(in_doubt, request)}")
    text = "; ".join(parts) or f"no: {_group(rules, request)}"
    return Explanation(
        verb=verb, rules=tuple(allowing), allows=bool(allowing), text=f"{verb}: {text}", is_known=not doubtful
    )


def _add_approving(explanation: Explanation, rules: Sequence[Rule], person: Person, key: BucketKey) -> Explanation:
    """Return the same, and of which rules the person is an approver by `approvers`, which is no right of a verb."""
    answers = {rule: rule.approvers.refuse(person) for rule in rules if rule.approvers and rule.serves(key)}
    named = [rule.name for rule, refusal in answers.items() if refusal is None]
    doubted = [rule.name for rule, refusal in answers.items() if isinstance(refusal, _DOUBTS)]
    parts = [
        *([f"yes, as one of the `approvers` of {', '.join(named)}"] if named else []),
        *([f"not known, so no, as one of the `approvers` of {', '.join(doubted)}"] if doubted else []),
    ]
    if explanation.rules or not explanation.is_known or not parts:
        parts = [explanation.text.removeprefix(f"{Verb.APPROVE}: "), *parts]
    text = f"{Verb.APPROVE}: {'; '.join(parts)}"
    return replace(
        explanation, text=text, allows=explanation.allows or bool(named), is_known=explanation.is_known and not doubted
    )


def _where(rule: Rule, decided: Mapping[str, Rule | AccessRefused]) -> str:
    return _list([channel for channel, each in decided.items() if each is rule], len(decided))


def _list(channels: Sequence[str], of: int) -> str:
    """Return in which channels, of all that are told apart."""
    named = [channel for channel in channels if channel != _ELSEWHERE]
    elsewhere = ["elsewhere"] if _ELSEWHERE in channels else []
    return "in any channel" if len(channels) == of else _join([*(f"in {each}" for each in named), *elsewhere])


def _find_doubts(rules: Sequence[Rule], request: Request) -> list[Rule]:
    """Return the rules that would fit, if Slack said that the person is in one of their user groups."""
    fitting = find_fitting(rules, request)
    return [rule for rule in fitting if isinstance(rule.refuse(request), _DOUBTS)]


def _group(rules: Iterable[Rule], request: Request) -> str:
    """Return each reason for a no once, before the rules that have it."""
    reasons: dict[str, list[str]] = {}
    for rule in rules:
        refusal = rule.refuse(request)
        if refusal is not None:
            reasons.setdefault(_WHY[type(refusal)], []).append(rule.name)
    return "; ".join(f"{why}: {', '.join(names)}" for why, names in reasons.items())


def _describe(rule: Rule, where: str, verb: Verb) -> str:
    """Return the rule, where it decides, and the terms on which it allows this."""
    terms = {
        "approvals": "someone approves it" if rule.approvals else "",
        "require_reason": "a reason is given" if rule.require_reason else "",
        "max_token_lifetime": f"the token lives for {_write(rule.max_token_lifetime)} at most"
        if rule.max_token_lifetime
        else "",
    }
    held = [words for term, words in terms.items() if words and verb in APPLIES_TO[term]]
    return f"by {rule.name} {where}{f', if {_join(held)}' if held else ''}"


def _join(terms: Sequence[str]) -> str:
    *first, last = terms
    return f"{', '.join(first)} and {last}" if first else last


def _write(lifetime: timedelta) -> str:
    """Return a duration as the file has it."""
    for unit, letter in _UNITS:
        if lifetime % unit == timedelta(0):
            return f"{lifetime // unit}{letter}"
    return f"{int(lifetime.total_seconds())}s"
