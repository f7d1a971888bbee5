"""Hundreds of dry runs: people who may only check their tokens must not hold up a person who stores one.

Nothing is timed: what counts is how many requests for others went out between a Submit and its write.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import Final

from bot.sandbox.cloudflare import RateLimit
from bot.sandbox.tokens import Behaviour, make_token
from bot.storage.accepting import MOST_OPEN_CHECKS
from tests.attack.attack import Arena, Attack, Case
from tests.scene import ADA, CROWD, GRACE, PLATFORM, Scene

_DRY_RUNS: Final = 300
_STORES: Final = 8
_MOST_BETWEEN: Final = 64
"""Requests in flight already, and some that go out while Cloudflare answers the checks before the write."""

_LIMIT: Final = RateLimit(requests=120, window_seconds=10, sliding=True)
_OPEN_CHECKS: Final = (
    "SELECT count(*) FROM submissions WHERE task = 'check' AND ended_at IS NULL GROUP BY user_id ORDER BY 1 DESC"
)


async def _check_by_the_hundred(arena: Arena, people: Sequence[str], over: int) -> AsyncIterator[Case]:
    """Submit dry runs over so many buckets until the quota refuses one; meanwhile another person stores."""
    async with arena.scene() as scene:
        scene.cloudflare.limit = _LIMIT
        tried = [f"tried-{number:03d}" for number in range(over)]
        others = [f"others-{number:03d}" for number in range(_STORES)]
        for bucket in (*tried, *others):
            scene.cloudflare.add_bucket(bucket)
        share = _DRY_RUNS // len(people)
        for number in range(share):
            names = [tried[(each * share + number) % over] for each in range(len(people))]
            runs = [_dry_run(scene, *each, number) for each in zip(people, names, strict=True)]
            is_taken = all(await asyncio.gather(*runs))
            yield Case.of(f"dry run {number + 1} of each", took_down=_count_checks(scene) > MOST_OPEN_CHECKS)
            if not is_taken:
                break
        for number, bucket in enumerate((*others, *tried[:_STORES])):
            yield Case.of(f"a write to {bucket}", took_down=await _is_held_up(scene, bucket, number))


async def _dry_run(scene: Scene, user: str, bucket: str, number: int) -> bool:
    """Say whether the bot accepted it."""
    is_taken = await _submit(scene, user, bucket, number, check=["check"])
    await scene.slack.close(user)
    return is_taken


async def _submit(scene: Scene, user: str, bucket: str, number: int, check: Sequence[str] = ()) -> bool:
    """Do everything from the command to pressing Store; a busy machine may need the command twice."""
    while scene.slack.modal(user) is None:
        await scene.slack.type_command(user, PLATFORM, f"/r2-credential {bucket}")
    await scene.pass_notice(user)
    await scene.slack.fill(user, "token", make_token(Behaviour.GOOD, number))
    await scene.slack.fill(user, "check", check)
    return (await scene.slack.submit(user)).kind == "updated"


def _count_checks(scene: Scene) -> int:
    """Return how many checks are open for the person who has the most."""
    with closing(sqlite3.connect(scene.data_dir / "bot.sqlite")) as connection:
        return int((connection.execute(_OPEN_CHECKS).fetchone() or [0])[0])


async def _is_held_up(scene: Scene, bucket: str, number: int) -> bool:
    """Store, and say whether more requests for others went out before the write than is unavoidable."""
    requests, writes = scene.cloudflare.requests, scene.cloudflare.writes
    while not await _submit(scene, GRACE, bucket, 1000 + number):
        pass
    await scene.slack.close(GRACE)
    before = len(requests)
    while len(requests) - before <= _MOST_BETWEEN and bucket not in {write.bucket for write in writes}:  # noqa: ASYNC110 - a double sets no event
        await asyncio.sleep(0.01)
    return bucket not in {write.bucket for write in writes}


def _by_one(arena: Arena) -> AsyncIterator[Case]:
    return _check_by_the_hundred(arena, [ADA], over=_DRY_RUNS)


def _by_many(arena: Arena) -> AsyncIterator[Case]:
    return _check_by_the_hundred(arena, CROWD, over=_DRY_RUNS)


def _by_many_in_few_buckets(arena: Arena) -> AsyncIterator[Case]:
    return _check_by_the_hundred(arena, CROWD, over=_STORES)


ATTACKS: Final = (
    Attack(name="300 dry runs of one person while another one stores", run=_by_one, over=("http",)),
    Attack(name="300 dry runs of many people while another one stores", run=_by_many, over=("http",)),
    Attack(
        name="300 dry runs in the buckets that another one stores into", run=_by_many_in_few_buckets, over=("http",)
    ),
)
