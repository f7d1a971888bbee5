"""What must be true once nothing happens any more: the invariants of the design that speak of rest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from bot.model.catalog import CredentialStatus
from bot.model.minted import MintedState
from bot.model.origin import origin_of
from bot.model.submission import ENDINGS, FOR_THE_SLOT, State, Task
from bot.sandbox.account_tokens import AccountToken
from bot.storage.rows import PLACE
from bot.storage.schema import SUBMISSIONS
from tests.rotation.witness import read_records
from tests.rotation.world import Installation, World

AT_REST = frozenset({MintedState.PROVEN, MintedState.IN_SLOT, MintedState.SENT, MintedState.KEPT})
"""The states of tokens that are there, and that nobody is about to take back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A bucket of an installation at the end of a history."""

    bucket: str
    holder: str | None
    holding: AccountToken | None
    is_ours: bool
    probe: str
    live: Sequence[AccountToken]
    states: dict[str | None, MintedState]
    newest: Row[Any] | None
    was_set_back: bool
    foreign_at: datetime | None
    offers_test: bool


async def read_submissions(installation: Installation) -> list[Row[Any]]:
    """Return all that is recorded, oldest first."""
    columns = (
        SUBMISSIONS.c.id,
        SUBMISSIONS.c.bucket,
        SUBMISSIONS.c.task,
        SUBMISSIONS.c.state,
        SUBMISSIONS.c.confirmation,
    )
    more = SUBMISSIONS.c.sealed_token, SUBMISSIONS.c.reported_at, SUBMISSIONS.c.ended_at, SUBMISSIONS.c.token_id
    query = select(*columns, *more).order_by(*PLACE)

    def read(connection: Connection) -> list[Row[Any]]:
        return [*connection.execute(query)]

    return await installation.database.run(read)


async def find_problems(world: World, installation: Installation) -> list[str]:
    """Return everything that is wrong at rest."""
    witness, submissions = installation.witness, await read_submissions(installation)
    records = await installation.database.run(read_records)
    problems = [*check_submissions(submissions), *check_messages(installation, submissions)]
    for bucket in world.fake.buckets.values():
        holding = None if bucket.token is None else world.fake.tokens.find(bucket.token)
        newest = [row for row in submissions if row.bucket == bucket.name and row.task in FOR_THE_SLOT]
        end = End(
            bucket=bucket.name,
            holder=bucket.token,
            holding=holding,
            is_ours=holding is not None and witness.is_ours(holding),
            probe=world.fake._probe(bucket),
            live=witness.live(bucket.name),
            states={record.token_id: record.state for record in records.values()},
            newest=newest[-1] if newest else None,
            was_set_back=installation.was_set_back,
            foreign_at=world.foreign.get(bucket.name),
            offers_test=world.fake.offers_status,
        )
        problems += [
            *check_orphans(end),
            *check_one_is_left(end),
            *check_slot_works(end, witness.by_hand),
        ]
    return problems


def check_submissions(submissions: Sequence[Row[Any]]) -> list[str]:
    """4: no value is kept after the end; and each has ended."""
    kept = [f"4: {row.id} keeps its value after the end" for row in submissions if row.sealed_token is not None]
    return kept + [f"{row.id} is {row.state} for ever" for row in submissions if State(row.state) not in ENDINGS]


def check_messages(installation: Installation, submissions: Sequence[Row[Any]]) -> list[str]:
    """11: one final message each; a second one only after a kill between Slack and the record of it.

    Of the bot's own, a failure that is told already is not told again.
    """
    posted = Counter(submission.id for submission in installation.rig.posts.posted)
    twice = sum(number - 1 for number in posted.values())
    problems = [f"11: nothing was said of {row.id}" for row in submissions if not posted[row.id] and is_told(row)]
    if twice > installation.cut_short and not installation.was_set_back:
        problems.append(f"11: {twice} messages too many")
    return problems


def is_told(row: Row[Any]) -> bool:
    """Return whether people must hear of this one."""
    return not origin_of(row.id).is_the_bot or row.state == State.STORED


def check_orphans(end: End) -> list[str]:
    """8: every token of ours that lives is in a row that nobody has given up, and that is at rest."""
    problems = []
    for token in end.live:
        state = end.states.get(token.id)
        if state not in AT_REST:
            problems.append(f"8: {token.name} is live, and its row is {state}")
    return problems


def check_one_is_left(end: End) -> list[str]:
    """7: a rotation that ended well leaves one live token of ours, and the slot holds it unless others wrote since."""
    newest = end.newest
    is_good = newest is not None and newest.task == Task.ROTATE and newest.state == State.STORED
    if not is_good or newest is None or newest.confirmation != CredentialStatus.VALID or not end.offers_test:
        return []
    kept = [token for token in end.live if end.states.get(token.id) is MintedState.KEPT]
    problems = []
    if len(end.live) > 1 and not (end.was_set_back and kept):
        problems.append(f"7: {[(token.name, end.states.get(token.id)) for token in end.live]} live in {end.bucket}")
    is_foreign = end.foreign_at is not None and end.foreign_at > newest.ended_at
    if end.holding is None and not is_foreign and not end.was_set_back:
        problems.append(f"7: the slot of {end.bucket} does not hold a token of ours")
    if end.is_ours and end.holding is not None and end.holding.id != newest.token_id and not kept:
        problems.append(f"7: the slot of {end.bucket} holds {end.holding.name}, which is an older one")
    return problems


def check_slot_works(end: End, by_hand: set[str]) -> list[str]:
    """1, 7: nothing that we did leaves a slot broken."""
    if end.probe != "invalid" or end.holding is None or not end.is_ours:
        return []
    if end.holding.id in by_hand or end.holding.flaw is not None:
        return []
    return [f"7: the slot of {end.bucket} is broken by us: {end.holding.name}, {end.states.get(end.holding.id)}"]
