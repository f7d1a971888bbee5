"""Measures what a permit costs an acknowledgement: 50 rules of a policy beside the one of the settings, in one run.

The groups' members, and what Slack says of the person, are remembered, as between two questions to Slack. The slowest
case: the last rule decides.
"""

import asyncio
import statistics
import time
from datetime import UTC, datetime
from typing import Final, cast

from bot.model.catalog import BucketKey
from bot.policy.gate import Gate, Home
from bot.policy.profile import Profile
from bot.policy.rules import Allowlist, People, Rule, Verb
from bot.slack.api import SlackWeb
from bot.slack.memberships import Memberships
from bot.slack.profiles import Profiles
from tests.everybody import EVERYBODY

_ROUNDS: Final = 15
_TIMES: Final = 400
_USER: Final = "U0123ABCD"
_GROUPS: Final = ("S0DATAENG", "S0SECURIT", "S0AUDITOR")
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_PROMISED_MS: Final = 0.1


class _Slack:
    """Knows the members of three groups, and that the person is one of the workspace."""

    async def usergroup_members(self, _: str) -> frozenset[str]:
        return frozenset({_USER, *(f"U{number:08}" for number in range(200))})

    async def person(self, _: str) -> Profile:
        return Profile(team_id="T1")


def _make_rules() -> tuple[Rule, ...]:
    """Return 50 rules: all name the person, by one of three groups, and only the last one fits the bucket."""
    return tuple(
        Rule(
            name=f"rule {number}",
            who=People(users=frozenset({"U0OTHER"}), usergroups=frozenset({_GROUPS[number % 3]})),
            buckets=("lake-*", "!lake-secret") if number == 50 else (f"team-{number}-*", f"!team-{number}-secret"),
            channels=frozenset({"C0DATAPLT", "C0ANALYTX"}),
        )
        for number in range(1, 51)
    )


async def _measure(gate: Gate) -> float:
    """Return the milliseconds of a permit and what it is asked for."""
    key = BucketKey(account_id="0f" * 16, bucket="lake-7")
    began = time.perf_counter()
    for _ in range(_TIMES):
        permit = await gate.permit_user(_USER)
        permit.require(Verb.STORE, key, "C0DATAPLT")
    return (time.perf_counter() - began) / _TIMES * 1000


async def _run() -> None:
    lists = Allowlist(
        users=frozenset(), usergroups=frozenset(_GROUPS), channels=frozenset({"C0DATAPLT"}), buckets=("lake-*",)
    )
    web, home = cast("SlackWeb", _Slack()), Home(team_id="T1", enterprise_id=None)
    memberships, profiles = Memberships(web, lambda: _NOW), Profiles(web, lambda: _NOW)
    gates = {
        "without a profile": Gate(lists.rules(), home, memberships, EVERYBODY),
        "one rule": Gate(lists.rules(), home, memberships, profiles),
        "50 rules": Gate(_make_rules(), home, memberships, profiles),
    }
    figures: dict[str, list[float]] = {name: [] for name in gates}
    for _ in range(_ROUNDS):  # in turn, so that both meet the same machine
        for name, gate in gates.items():
            figures[name].append(await _measure(gate))
    for name, each in figures.items():
        print(f"permit and require, {name}: {statistics.median(each):.3f} ms (best {min(each):.3f})")
    of_profile = statistics.median(figures["one rule"]) - statistics.median(figures["without a profile"])
    print(f"what Slack says of the person adds {of_profile:.3f} ms; promised: below {_PROMISED_MS} ms")
    added = statistics.median(figures["50 rules"]) - statistics.median(figures["one rule"])
    print(f"50 rules add {added:.3f} ms to an acknowledgement; promised: below {_PROMISED_MS} ms")


if __name__ == "__main__":
    asyncio.run(_run())
