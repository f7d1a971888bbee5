"""The keys of a rule in a policy file: each reads its value, or says what is wrong, never with the value."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from bot.model import bucket_globs, slack_ids
from bot.model.glob_overlap import find_bucket
from bot.model.slack_ids import SlackId
from bot.policy.rules import People, Verb
from bot.setting_values import parse_lifetime

_WHOSE_KEY: Final[Mapping[SlackId, str]] = {
    SlackId.USER: "`users`",
    SlackId.USERGROUP: "`usergroups`",
    SlackId.CHANNEL: "`channels`",
}


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        message = 'must be a list of texts: write it as ["...", "..."]'
        raise ValueError(message)
    if not value:
        message = "is an empty list, which nothing could fit: write what it is to hold, or remove the key"
        raise ValueError(message)
    return tuple(value)


def _raise(slip: str | None) -> None:
    if slip is not None:
        raise ValueError(slip)


def _ids_of(kind: SlackId) -> Callable[[object], frozenset[str]]:
    def read(value: object) -> frozenset[str]:
        ids = _texts(value)
        _raise(slack_ids.find_slip(ids, kind, _WHOSE_KEY))
        return frozenset(ids)

    return read


def _people(value: object) -> People:
    ids = _texts(value)
    users = [each for each in ids if not SlackId.USERGROUP.fits(each)]
    _raise(slack_ids.find_slip(users, SlackId.USER, _WHOSE_KEY))
    return People(users=frozenset(users), usergroups=frozenset(ids) - frozenset(users))


def _channel(value: object) -> str:
    if not isinstance(value, str):
        message = 'must be one channel\'s id: write it as "C0123ABCD"'
        raise ValueError(message)  # noqa: TRY004 - as for every other problem
    _raise(slack_ids.find_slip([value], SlackId.CHANNEL, _WHOSE_KEY))
    return value


def _globs(value: object) -> tuple[str, ...]:
    globs = _texts(value)
    _raise(bucket_globs.find_slip(globs))
    if find_bucket((globs,)) is None:
        message = "excludes all that it includes, so it can match no bucket: correct it"
        raise ValueError(message)
    return globs


def _verbs(value: object) -> frozenset[Verb]:
    names = _texts(value)
    if not {*names} <= {*Verb}:
        message = f"holds something else than verbs: they are {', '.join(Verb)}"
        raise ValueError(message)
    return frozenset(map(Verb, names))


def _approvals(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in (0, 1):
        message = "must be 0 or 1"
        raise ValueError(message)
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        message = "must be true or false, without quotes"
        raise ValueError(message)  # noqa: TRY004 - as for every other problem
    return value


def _lifetime(value: object) -> timedelta | None:
    lifetime = parse_lifetime(value)
    if lifetime is not None and not isinstance(lifetime, timedelta):
        message = 'must be a text: write "off", or a number and a unit: "90d" or "12h"'
        raise ValueError(message)
    return lifetime


KEYS: Final[Mapping[str, Callable[[object], object]]] = {
    "users": _ids_of(SlackId.USER),
    "usergroups": _ids_of(SlackId.USERGROUP),
    "buckets": _globs,
    "channels": _ids_of(SlackId.CHANNEL),
    "verbs": _verbs,
    "approvals": _approvals,
    "approvers": _people,
    "approval_channel": _channel,
    "require_reason": _flag,
    "max_token_lifetime": _lifetime,
}
"""Each raises ValueError, with what is wrong and the fix."""
