"""How long a token lives that the bot makes: longer than until the schedule replaces it, and as the rules allow."""

from datetime import timedelta

import pytest

from bot.policy.rules import People, Rule, Verb
from bot.rotation.lifetime import WITHOUT_SCHEDULE, Lifetime
from tests.make import LAKE, NOW

DAY = timedelta(days=1)


def rule(days: int | None, *buckets: str, verb: Verb = Verb.ROTATE) -> Rule:
    """Return a rule that limits a token's life."""
    limit = None if days is None else days * DAY
    return Rule(name="r", who=People(), verbs=frozenset({verb}), buckets=buckets, max_token_lifetime=limit)


LIVES = {
    "one and a half intervals": (30, (), [rule(None)], 45 * DAY),
    "two days more at least": (1, (), [rule(None)], 3 * DAY),
    "without a schedule": (None, (), [rule(None)], WITHOUT_SCHEDULE),
    "where the schedule is for others": (30, ("pond",), [rule(None)], WITHOUT_SCHEDULE),
    "where it is excluded": (30, ("*", "!lake"), [rule(None)], WITHOUT_SCHEDULE),
    "where it is named": (30, ("lake",), [rule(None)], 45 * DAY),
    "as the strictest rule allows": (30, (), [rule(40), rule(20), rule(None)], 20 * DAY),
    "whatever a rule of another bucket says": (30, (), [rule(1, "pond"), rule(None)], 45 * DAY),
    "whatever a rule of another verb says": (30, (), [rule(1, verb=Verb.STORE), rule(None)], 45 * DAY),
}


@pytest.mark.parametrize(("every", "globs", "rules", "life"), LIVES.values(), ids=LIVES)
def test_it_lives(every: int | None, globs: tuple[str, ...], rules: list[Rule], life: timedelta) -> None:
    """In whole seconds, as Cloudflare takes it."""
    lifetime = Lifetime(every=None if every is None else every * DAY, rules=lambda: rules, globs=globs)
    assert lifetime.expires_at(LAKE, NOW + timedelta(microseconds=7)) == NOW + life
