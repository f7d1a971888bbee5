"""What is wrong with rules that are each valid alone: one that never decides, approvals that no one can give. Pure.

So are terms that the choice of a channel avoids: the requester makes it, and it is no right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations, product
from typing import Final

from bot.model.glob_overlap import find_bucket
from bot.policy.rules import APPLIES_TO, WITH_RESULT, People, Rule, Verb

_NEVER_OWN: Final = "and nobody decides on their own requests"
_AVOIDED: Final = "a requester avoids it by choosing another channel for the result"
_NOT_AVOIDED: Final = "name the same `channels` in both, or none, or exclude these buckets there"

_LAXER: Final[Mapping[str, Callable[[Rule, Rule], bool]]] = {
    "approvals": lambda rule, other: other.approvals < rule.approvals,
    "require_reason": lambda rule, other: other.require_reason < rule.require_reason,
    "max_token_lifetime": lambda rule, other: _or_endless(other) > _or_endless(rule),
}
"""Whether the other rule asks for less than the first one."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A rule, and its people as they are listed."""

    rule: Rule
    people: People


def find_flaws(rules: Mapping[int, Stated], *, are_all: bool) -> Iterator[tuple[int, str, str]]:
    """Yield the number of a rule, its key or "", and what is wrong with it.

    `are_all`: whether every rule of the file is among them, so that it is known who may approve.
    """
    for number, stated in rules.items():
        shadows = _find_shadows(stated, [other for before, other in rules.items() if before < number])
        if shadows:
            fits = "fits" if len(shadows) == 1 else "fit"
            yield number, "", f"can never decide: {' and '.join(shadows)} before it {fits} all that it fits; remove it"
        if stated.rule.approvals and are_all:
            yield from ((number, key, flaw) for key, flaw in _find_no_approver(stated, [*rules.values()]))
    if are_all:
        numbers = {stated.rule.name: number for number, stated in rules.items()}
        for (name, key), laxer in _find_avoidable([*rules.values()]).items():
            yield numbers[name], key, f"{_AVOIDED}, where {laxer} decides: {_NOT_AVOIDED}"


def _find_shadows(stated: Stated, earlier: Sequence[Stated]) -> list[str]:
    """Return the rules that together decide instead of this one in every case; none if it can decide."""
    shadows, rule, people = dict[str, None](), stated.rule, stated.people
    for user, group in [*((each, "") for each in people.users), *(("", each) for each in people.usergroups)]:
        named = [one.rule for one in earlier if user in one.people.users or group in one.people.usergroups]
        for verb, channel in product(rule.verbs, rule.channels or {None}):
            fitting = [one for one in named if verb in one.verbs and (not one.channels or channel in one.channels)]
            lists = tuple(dict.fromkeys(one.buckets for one in fitting))
            if not fitting or find_bucket((rule.buckets,), lists) is not None:
                return []
            shadows |= dict.fromkeys(one.name for one in fitting)
    return [*shadows]


def _find_no_approver(stated: Stated, every: Sequence[Stated]) -> Iterator[tuple[str, str]]:
    approvers = stated.rule.approvers
    if isinstance(approvers, People):
        if _is_one_of(stated.people, [approvers]):
            yield "approvers", f"holds no one but one of `users`, {_NEVER_OWN}: add another"
        return
    granted = [other.people for other in every if _may_approve(other.rule, stated.rule)]
    if not granted:
        yield (
            "approvals",
            (f"could be given by no one: add `approvers`, or a rule with the verb {Verb.APPROVE} for these buckets"),
        )
    elif _is_one_of(stated.people, granted):
        yield "approvals", f"could be given by no one but one of `users`, {_NEVER_OWN}: add `approvers`"


def _is_one_of(people: People, approvers: Sequence[People]) -> bool:
    """Return whether the only approver is one of those who ask."""
    users = frozenset[str]().union(*(each.users for each in approvers))
    return len(users) == 1 and users <= people.users and not any(each.usergroups for each in approvers)


def _may_approve(other: Rule, rule: Rule) -> bool:
    """Return whether the other rule lets someone approve what is asked for under this one."""
    shares_channel = not other.channels or not rule.channels or not other.channels.isdisjoint(rule.channels)
    return Verb.APPROVE in other.verbs and shares_channel and find_bucket((rule.buckets, other.buckets)) is not None


def _find_avoidable(every: Sequence[Stated]) -> dict[tuple[str, str], str]:
    """Return, for a rule and its term, a rule that decides about the same in another channel, and asks for less."""
    found: dict[tuple[str, str], str] = {}
    listed = dict.fromkeys(each for one in every for each in sorted(_ids(one)))
    asking = dict.fromkeys(tuple(one.rule for one in every if each in _ids(one)) for each in listed)
    for rules, verb in product(asking, sorted(WITH_RESULT - {Verb.CHECK})):
        orders = _find_orders(rules, verb)
        for rule, other in permutations(dict.fromkeys(each for order in orders for each in order), 2):
            keys = [key for key, is_laxer in _LAXER.items() if verb in APPLIES_TO[key] and is_laxer(rule, other)]
            new = [key for key in keys if (rule.name, key) not in found]
            if new and _leaves_a_choice(rule, other, orders):
                found |= {(rule.name, key): other.name for key in new}
    return found


def _leaves_a_choice(rule: Rule, other: Rule, orders: Sequence[tuple[Rule, ...]]) -> bool:
    """Return whether there is a bucket about which one decides in a channel, and the other one in another channel."""
    both = (rule.buckets, other.buckets)
    if find_bucket(both) is None:
        return False
    ways = product(_find_before(rule, orders), _find_before(other, orders))
    return any(find_bucket(both, tuple(dict.fromkeys(here + there))) is not None for here, there in ways)


def _find_before(rule: Rule, orders: Sequence[tuple[Rule, ...]]) -> set[tuple[tuple[str, ...], ...]]:
    """Return the buckets that are decided about before the rule is asked, for each such order."""
    return {tuple(each.buckets for each in order[: order.index(rule)]) for order in orders if rule in order}


def _find_orders(rules: Sequence[Rule], verb: Verb) -> Sequence[tuple[Rule, ...]]:
    """Return each sequence of rules that is asked in some channel, once; None is one that no rule names."""
    able = [rule for rule in rules if verb in rule.verbs]
    channels = [*sorted(frozenset[str]().union(*(rule.channels for rule in able))), None]
    return [*{tuple(rule for rule in able if not rule.channels or each in rule.channels): None for each in channels}]


def _ids(stated: Stated) -> frozenset[str]:
    return stated.people.users | stated.people.usergroups


def _or_endless(rule: Rule) -> timedelta:
    return rule.max_token_lifetime or timedelta.max
