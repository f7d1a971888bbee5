"""How long a token lives that the bot makes: longer than its schedule, never longer than a rule allows."""

from datetime import timedelta

import pytest

from bot.policy.rules import People, Rule, Verb
from bot.rotation.lifetime import WITHOUT_SCHEDULE, Lifetime
from tests.make import LAKE, NOW, make_key

DAY = timedelta(days=1)


def rule(name: str, limit: timedelta | None, *buckets: str, verbs: frozenset[Verb] = frozenset(Verb)) -> Rule:
    """Return a rule with this limit."""
    return Rule(name=name, who=People(), verbs=verbs, buckets=buckets or ("*",), max_token_lifetime=limit)


@pytest.mark.parametrize(
    ("every", "lives"),
    [(None, WITHOUT_SCHEDULE), (30 * DAY, 45 * DAY), (2 * DAY, 4 * DAY), (DAY, 3 * DAY)],
    ids=["no schedule", "half as long again", "a weekend more", "a weekend more than a day"],
)
def test_it_outlives_its_interval(every: timedelta | None, lives: timedelta) -> None:
    """There is time to repair what keeps it from being rotated."""
    assert Lifetime(every=every, rules=lambda: [rule("all", None)]).expires_at(LAKE, NOW) == NOW + lives


def test_a_rule_of_the_bucket_limits_it() -> None:
    """The shortest of those that let anyone rotate it: by any of them it could be refused before it is stored."""
    rules = [rule("long", 40 * DAY), rule("short", 7 * DAY, "lake"), rule("no limit", None)]
    lifetime = Lifetime(every=30 * DAY, rules=lambda: rules)
    assert lifetime.expires_at(LAKE, NOW) == NOW + 7 * DAY
    assert lifetime.expires_at(make_key("pond"), NOW) == NOW + 40 * DAY


def test_a_rule_that_rotates_nothing_does_not_limit_it() -> None:
    """It speaks of pasted tokens."""
    rules = [rule("pastes", DAY, verbs=frozenset({Verb.STORE})), rule("all", None)]
    assert Lifetime(every=None, rules=lambda: rules).expires_at(LAKE, NOW) == NOW + WITHOUT_SCHEDULE


def test_cloudflare_takes_whole_seconds() -> None:
    """A fraction would be refused."""
    lifetime = Lifetime(every=None, rules=lambda: [])
    assert lifetime.expires_at(LAKE, NOW + timedelta(microseconds=17)).microsecond == 0
