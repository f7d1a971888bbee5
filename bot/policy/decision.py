"""Decides by several rules: the first one that fits, or the reason that helps most. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

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
from bot.policy.rules import Person, Request, Rule, Who

_DOUBTS: Final = frozenset({MembershipUnknown, UsergroupUnreadable})
_HOW_NEAR: Final[Mapping[type[AccessRefused], int]] = {
    NotAllowed: 0,
    UsergroupUnreadable: 1,
    MembershipUnknown: 2,
    EnablingNotAllowed: 3,
    VerbNotAllowed: 3,
    ChannelNotAllowed: 4,
    BucketNotAllowed: 5,
}
"""How many conditions a rule that refuses with this was met in: the reason of the nearest miss helps most."""


def decide(rules: Sequence[Rule], request: Request) -> Rule | AccessRefused:
    """Return the first rule that fits, or the refusal. No rule is a no.

    A rule of which Slack does not say whether it fits stops a whole request: a later one could decide on other terms.
    Where one fits but for the channel, which people choose, those that ask for less than it are passed over.
    Where a part is left open, no terms follow from the answer, and any rule that surely fits is enough.
    """
    doubt: AccessRefused | None = None
    refusals: list[AccessRefused] = []
    for number, rule in enumerate(rules):
        refusal = rule.refuse(request) or _refuse_detour(rule, rules[:number], request)
        if refusal is None:
            return rule if doubt is None or not request.is_whole else doubt
        if type(refusal) in _DOUBTS and rule.refuse_of_anybody(request) is None:
            doubt = _nearest([doubt, refusal]) if doubt else refusal
        refusals.append(refusal)
    return doubt or _explain(rules, request, _nearest(refusals))


def _refuse_detour(rule: Rule, earlier: Sequence[Rule], request: Request) -> AccessRefused | None:
    """Return the reason for a no to a rule that fits, where the chosen channel alone evades the terms of another."""
    if request.person is None or request.verb is None or not request.is_whole:
        return None
    anywhere = replace(request, channel_id=None)
    for other in earlier:
        if other.channels and rule.asks_less_than(other, request.verb) and not other.refuse_of_anybody(anywhere):
            refusal = other.refuse(anywhere)
            if refusal is None or type(refusal) in _DOUBTS:
                return refusal or ChannelNotAllowed()
    return None


def refuse(rules: Sequence[Rule], request: Request) -> AccessRefused | None:
    """Return why no rule fits, or None if one does."""
    decided = decide(rules, request)
    return decided if isinstance(decided, AccessRefused) else None


def find_named(rules: Sequence[Rule]) -> tuple[Who, ...]:
    """Return of whom the rules speak, as users or as approvers, each once: many rules speak of the same."""
    found: list[Who] = []
    for rule in rules:
        found += [who for who in (rule.who, rule.approvers) if who is not None and who not in found]
    return tuple(found)


def refuse_entrance(named: Sequence[Who], person: Person) -> AccessRefused | None:
    """Return why a person who is none of the named ones has no business here, or None."""
    refusals: list[AccessRefused] = []
    for who in named:
        refusal = who.refuse(person)
        if refusal is None:
            return None
        refusals.append(refusal)
    return _nearest(refusals)


def _nearest(refusals: Sequence[AccessRefused]) -> AccessRefused:
    return max(refusals, key=_how_near, default=NotAllowed())


def _how_near(refusal: AccessRefused) -> int:
    return _HOW_NEAR.get(type(refusal), 0)


def _explain(rules: Sequence[Rule], request: Request, refusal: AccessRefused) -> AccessRefused:
    """Return the refusal, or that each of bucket and channel is allowed, but not both together."""
    is_of_place = isinstance(refusal, ChannelNotAllowed | BucketNotAllowed)
    if not is_of_place or request.key is None or request.channel_id is None or len(rules) == 1:
        return refusal
    parts = (replace(request, key=None), replace(request, channel_id=None))
    return refusal if any(refuse(rules, part) for part in parts) else BucketNotInChannel()
