"""The ids that rules name, so that Slack can be asked about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot.policy.rules import People, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Ids, each once; those in `users` may do something, or may approve."""

    users: tuple[str, ...]
    usergroups: tuple[str, ...]
    channels: tuple[str, ...]


def list_ids(rules: Sequence[Rule]) -> Listed:
    """Return the ids that the rules name, in their order."""
    people = [each for rule in rules for each in (rule.who, rule.approvers) if isinstance(each, People)]
    channels = [[*sorted(rule.channels), *filter(None, [rule.approval_channel])] for rule in rules]
    return Listed(
        users=_once(sorted(each.users) for each in people),
        usergroups=_once(sorted(each.usergroups) for each in people),
        channels=_once(channels),
    )


def _once(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for some in lists for each in some))
