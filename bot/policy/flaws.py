"""What is wrong with rules that are each valid alone: one that never decides, approvals that no one can give. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from bot.model.glob_overlap import find_bucket
from bot.policy.rules import People, Rule, Verb

_NEVER_OWN: Final = "and nobody decides on their own requests"


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
