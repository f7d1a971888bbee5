"""What must hold at the end of `tests.chaos.rotations`: by the account, its history, the bot's records and Slack."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final

from bot.model.minted import OVER, MintedState
from bot.sandbox.account_tokens import MINTED_MARK, AccountToken
from bot.sandbox.cloudflare import SANDBOX_MINTING_TOKEN
from bot.sandbox.tokens import Behaviour
from tests.aftermath import read_files
from tests.chaos.world import World
from tests.leaks import find_leaks

REST_SECONDS: Final = 240
_LOOK_EVERY: Final = 0.5
_AFTER_THE_LAST: Final = 3.0
"""Seconds in which a message that is one too many would come."""

_RESTING: Final = {MintedState.PROVEN.value, *(state.value for state in OVER)}
_REFERENCE: Final = re.compile(r"Reference ([\w.-]+)")
_A_TOKEN: Final = re.compile(r".*/tokens/([0-9a-f]{32})")
_MARKS: Final = (MINTED_MARK, SANDBOX_MINTING_TOKEN[:20], f"MADEUP{Behaviour.GOOD}")
_LATE: Final = 0.5


async def wait_for_rest(world: World) -> None:
    """Wait until nobody waits for a result and no token is on its way, or the time is up."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline and not await _is_at_rest(world):
        await asyncio.sleep(_LOOK_EVERY)
    await asyncio.sleep(_AFTER_THE_LAST)


async def _is_at_rest(world: World) -> bool:
    [(is_open,)] = await world.rows("SELECT count(*) FROM submissions WHERE reported_at IS NULL")
    states = {state for (state,) in await world.rows("SELECT state FROM minted_tokens")}
    return not is_open and states <= _RESTING


async def find_faults(world: World) -> list[str]:
    """Return what does not hold, and count the rest."""
    rows = await world.rows("SELECT name, token_id, state, bucket FROM minted_tokens")
    submissions = await world.rows("SELECT id, task, state, reported_at FROM submissions")
    for state, count in Counter(str(row[2]) for row in rows).items():
        world.done[f"rows {state}"] = count
    for (task, state), count in Counter((str(row[1]), str(row[2])) for row in submissions).items():
        world.done[f"submissions {task} {state}"] = count
    return [
        *_wrong_tokens(world, {str(row[0]): row for row in rows}),
        *_wrong_calls(world, rows),
        *_taken_in_use(world),
        *_wrong_messages(world, {str(row[0]): row for row in submissions}),
        *await asyncio.to_thread(_leaks, world),
    ]


def _wrong_tokens(world: World, rows: dict[str, tuple[object, ...]]) -> Iterator[str]:
    """Yield each bucket with another number of live tokens than one, or whose slot holds another; and orphans."""
    live = defaultdict[str, list[AccountToken]](list)
    for token in world.cloudflare.tokens.list_live():
        if token.name in world.foreign:
            continue
        live[token.name.split(" ")[2]].append(token)
        row = rows.get(token.name)
        if row is None or row[2] in {state.value for state in OVER} or row[1] != token.id:
            yield f"an orphan is left: {token.name}, row {row}"
    for bucket in world.buckets:
        tokens = live[bucket]
        if len(tokens) != 1:
            yield f"{bucket} has {len(tokens)} live tokens: {[(each.name, rows.get(each.name)) for each in tokens]}"
        elif world.cloudflare.stored_token(bucket) != tokens[0].value:
            yield f"the slot of {bucket} does not hold {tokens[0].name}"
        elif tokens[0].status != "active":
            yield f"{tokens[0].name} is {tokens[0].status}"
    for name in world.foreign:
        token = next(each for each in world.cloudflare.tokens.tokens.values() if each.name == name)
        if token.is_deleted or len(token.changes) != 1:
            yield f"a token of somebody else was touched: {name}"


def _wrong_calls(world: World, rows: list[tuple[object, ...]]) -> Iterator[str]:
    """Yield a change of what is in no row, and a name that was sent twice."""
    names, ids = {row[0] for row in rows}, {row[1] for row in rows}
    made = Counter(token.name for token in world.cloudflare.tokens.tokens.values() if token.name not in world.foreign)
    for name, count in made.items():
        if count > 1 or name not in names:
            yield f"{name} was made {count} times, and is recorded: {name in names}"
    for request in world.cloudflare.requests:
        path = _A_TOKEN.fullmatch(request.path)
        if path is not None and request.method in ("PUT", "DELETE"):
            world.done[f"requests {request.method}"] += 1
            if path[1] not in ids:
                yield f"{request.method} of a token that is in no row: {path[1]}"


def _taken_in_use(world: World) -> Iterator[str]:
    """Yield each deletion that was asked for while a slot held the token."""
    for request in world.cloudflare.requests:
        path = _A_TOKEN.fullmatch(request.path)
        token = path and world.cloudflare.tokens.tokens.get(path[1])
        if token and request.method == "DELETE" and _is_in_a_slot(world, token, request.at):
            yield f"{token.name} was deleted while it was in use"


def _is_in_a_slot(world: World, token: AccountToken, at: datetime) -> bool:
    held = {write.bucket: write.token for write in world.cloudflare.writes if write.at <= at}
    return token.value in held.values()


def _wrong_messages(world: World, submissions: dict[str, tuple[object, ...]]) -> Iterator[str]:
    """Yield each submission that has not exactly one message; only a strike between the two explains a second one."""
    times = defaultdict[str, list[float]](list)
    for message in world.slack.workspace.messages:
        if message.bot_id is not None:
            for reference in set(_REFERENCE.findall(str(message.blocks))):
                times[reference].append(float(message.ts))
    for reference in {*world.rotations, *world.pastes} - submissions.keys():
        yield f"{reference} was acknowledged, and is not recorded"
    for reference, row in submissions.items():
        if reference not in times or row[3] is None:
            yield f"{reference} has no result: {row}"
    for reference, stamps in times.items():
        for first, second in pairwise(sorted(stamps)):
            if any(first - _LATE <= struck <= second for struck in world.struck_at):
                world.done["messages doubled by a strike"] += 1
            else:
                yield f"{reference} has more than one message"


def _leaks(world: World) -> Iterator[str]:
    """Yield each place that holds a token: all files (data, logs, those of PostgreSQL), and what Slack got."""
    places = {"a file": read_files([world.directory]), "Slack's traffic": world.slack.traffic_received()}
    for place, content in places.items():
        world.done[f"bytes searched, {place}"] = len(content)
        for mark in _MARKS:
            if found := find_leaks(content, mark):
                yield f"a token is in {place}: {mark} as {found}"
