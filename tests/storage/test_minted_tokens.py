"""The log that is written ahead: leases of minters, changes by comparing, and what a damaged or forged row does."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, delete, event, update
from structlog.testing import capture_logs

from bot.model.audit import Event
from bot.model.errors import LeaseLost
from bot.model.minted import PROBE_AFTER, MintedState, MintedToken, MintingWork
from bot.model.submission import Pending, Sealed, SealedToken, State, Task
from bot.storage.database import Database
from bot.storage.minted_rows import add_token, sign_row
from bot.storage.minted_tokens import HELD_FOR, MintedTokens
from bot.storage.schema import AUDIT, IS_LEFT, MINTED_TOKENS, SUBMISSIONS
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.make import ACCOUNT, CHAIN, LAKE, NOW, make_minted_token, make_new_submission
from tests.storage.conftest import Query, move_on

HOUR = timedelta(hours=1)


async def record(database: Database, *tokens: MintedToken) -> None:
    """Record them as they are."""

    def add(connection: Connection) -> int:
        for token in tokens:
            add_token(connection, CHAIN, token)
        return len(tokens)

    await database.run(add)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at NOW."""
    return Clock(NOW)


def tokens_of(database: Database, clock: Clock) -> MintedTokens:
    """Return the tokens as one process has them."""
    return MintedTokens(database, Submissions(database, CHAIN), ACCOUNT, clock)


async def wait_for_token(tokens: MintedTokens) -> tuple[MintingWork, Pending]:
    """Record a submission that waits for a token, and take its bucket."""
    submissions = tokens._submissions
    await submissions.add(make_new_submission(task=Task.ROTATE, sealed=Sealed()))
    await move_on(submissions, State.MINTING)
    work = await tokens.take(LAKE)
    assert work is not None
    assert work.waiting is not None
    return work, work.waiting


async def test_a_bucket_has_one_minter(tables: Database, clock: Clock) -> None:
    """Another one waits until the first has let it go, or was silent for a minute."""
    first, second = tokens_of(tables, clock), tokens_of(tables, clock)
    work = await first.take(LAKE)
    assert work is not None
    assert await second.take(LAKE) is None
    clock.advance(HELD_FOR - timedelta(seconds=1))
    assert await first.holds(work.lease)
    clock.advance(HELD_FOR - timedelta(seconds=1))
    assert await second.take(LAKE) is None
    await first.let_go(work.lease)
    taken = await second.take(LAKE)
    assert taken is not None
    assert taken.lease.epoch > work.lease.epoch


async def test_a_minter_that_lost_the_bucket_records_nothing(tables: Database, clock: Clock) -> None:
    """It was frozen for longer than a minute."""
    await record(tables, make_minted_token())
    first, second = tokens_of(tables, clock), tokens_of(tables, clock)
    work = await first.take(LAKE)
    assert work is not None
    clock.advance(HELD_FOR)
    assert await second.take(LAKE) is not None
    assert not await first.holds(work.lease)
    await first.let_go(work.lease)
    assert await first.take(LAKE) is None
    for attempt in (
        first.work(work.lease),
        first.change(work.tokens[0], replace(work.tokens[0], state=MintedState.DEAD), lease=work.lease),
    ):
        with pytest.raises(LeaseLost):
            await attempt
    assert [token.state for token in await first.of_bucket(LAKE)] == [MintedState.RETIRED]


@pytest.mark.parametrize("by", [-2 * HOUR, 2 * HOUR], ids=["back", "ahead"])
async def test_a_clock_that_was_set_does_not_hold_a_bucket_for_ever(
    tables: Database, clock: Clock, by: timedelta
) -> None:
    """A lease that ends hours from now was taken by another clock."""
    assert await tokens_of(tables, clock).take(LAKE) is not None
    clock.advance(by)
    assert await tokens_of(tables, clock).take(LAKE) is not None


async def test_housekeeping_has_a_lease_of_its_own(tables: Database, clock: Clock) -> None:
    """It does not wait for a bucket, and no bucket for it."""
    first, second = tokens_of(tables, clock), tokens_of(tables, clock)
    assert await first.take_house() is not None
    assert await second.take_house() is None
    assert await second.take(LAKE) is not None


async def test_a_change_of_what_was_changed_meanwhile_is_not_made(tables: Database, clock: Clock) -> None:
    """The worker tests a slot without a lease: only the revision tells it that its token has moved on."""
    await record(tables, make_minted_token())
    tokens = tokens_of(tables, clock)
    [read] = await tokens.of_bucket(LAKE)
    changed = await tokens.change(read, replace(read, state=MintedState.DISABLED))
    assert changed is not None
    assert await tokens.change(read, replace(read, state=MintedState.DEAD), event=Event.REVOKED) is None
    assert await tokens.of_bucket(LAKE) == [changed]
    assert await tables.run(lambda connection: connection.execute(AUDIT.select()).all()) == []


async def test_what_was_revoked_is_in_the_audit(tables: Database, clock: Clock) -> None:
    """By its name and id, in the same transaction."""
    await record(tables, make_minted_token())
    tokens = tokens_of(tables, clock)
    [read] = await tokens.of_bucket(LAKE)
    await tokens.change(read, replace(read, state=MintedState.DEAD), event=Event.REVOKED)
    [entry] = await tables.run(lambda connection: connection.execute(AUDIT.select()).all())
    assert (entry.event, entry.token_id, entry.details) == (Event.REVOKED, read.token_id, read.name)
    assert await tokens.of_bucket(LAKE) == []


MINTERS = {"intended", "lost", "retired", "disabling", "tested", "deleting", "undoing", "undone"}
"""The states in which the minter has something to do."""


@pytest.mark.parametrize("state", list(MintedState))
async def test_each_state_is_somebodys(tables: Database, clock: Clock, state: MintedState) -> None:
    """What the minter takes is due for it, the slot's test for the worker, and nothing for both."""
    await record(tables, make_minted_token(state=state))
    tokens = tokens_of(tables, clock)
    assert bool(await tokens.due(NOW)) is (state.value in MINTERS)
    assert await tokens.due(NOW - HOUR) == []
    assert (await tokens.next_due() == NOW) is (state.value in MINTERS)
    assert bool(await tokens.to_test()) is (state is MintedState.DISABLED)
    assert bool(await tokens.to_test(NOW)) is False
    assert bool(await tokens.of_bucket(LAKE)) is (state not in {MintedState.DEAD, MintedState.GONE})


@pytest.mark.parametrize(
    ("column", "value"),
    [("token_id", "1f" * 16), ("bucket", "pond"), ("state", "proven"), ("state", "nonsense"), ("undone", "7")],
)
async def test_a_row_that_somebody_else_wrote_is_left_alone(
    tables: Database, clock: Clock, query: Query, column: str, value: str
) -> None:
    """Who can write to the database cannot have a token disabled or deleted; the bucket's others go on."""
    good = make_minted_token(number=1)
    await record(tables, make_minted_token(number=0), good)
    query(f"UPDATE minted_tokens SET {column} = '{value}' WHERE name = '{make_minted_token(number=0).name}'")  # noqa: S608 - made up
    with capture_logs() as log:
        assert await tokens_of(tables, clock).of_bucket(LAKE) == [good]
    assert bool(log) is (column != "bucket")  # in another bucket, it is that one's to report


async def test_an_adopted_token_is_recorded_once(tables: Database, clock: Clock) -> None:
    """Two processes may find it."""
    tokens = tokens_of(tables, clock)
    kept = make_minted_token(state=MintedState.KEPT, submission_id=None)
    await tokens.adopt(kept)
    await tokens.adopt(replace(kept, state=MintedState.RETIRED))
    assert await tokens.all_left() == [kept]


async def test_a_bucket_is_busy_while_a_token_that_was_sent_is_taken_back(tables: Database, clock: Clock) -> None:
    """One that was never sent concerns nobody."""
    tokens = tokens_of(tables, clock)
    await record(tables, make_minted_token(number=0, due_at=NOW + 2 * HOUR, was_sent=False))
    assert await tokens.busy_until(LAKE) is None
    await record(tables, make_minted_token(number=1, due_at=NOW + HOUR))
    assert await tokens.busy_until(LAKE) == NOW + HOUR + PROBE_AFTER


async def test_a_token_that_cannot_be_taken_back_keeps_nobody_waiting(tables: Database, clock: Clock) -> None:
    """Cloudflare refuses to disable it: that may never end."""
    tokens = tokens_of(tables, clock)
    refused = make_minted_token(state=MintedState.DISABLING, due_at=NOW + HOUR, trouble="revocation_refused")
    await record(tables, refused)
    assert await tokens.busy_until(LAKE) is None


async def test_a_value_is_given_only_to_the_submission_as_it_was_read(tables: Database, clock: Clock) -> None:
    """It was changed by somebody else meanwhile: it gets nothing, and the token is taken back."""
    tokens = tokens_of(tables, clock)
    work, waiting = await wait_for_token(tokens)
    token = make_minted_token(state=MintedState.INTENDED, token_id=None)
    await tokens.intend(work.lease, token, waiting)
    await tables.run(lambda connection: connection.execute(update(SUBMISSIONS).values(progress="forged")).rowcount)
    sealed = SealedToken("sealed.v1.0000000000facade.OTHER")
    given = await tokens.give(work.lease, replace(token, token_id="1f" * 16), waiting, sealed)
    assert given.state is MintedState.RETIRED
    with capture_logs():
        again = await tokens.take(LAKE)
    assert again is not None
    assert again.waiting is None


async def test_nobody_waits_for_a_submission_that_is_gone(tables: Database, clock: Clock) -> None:
    """Its row was deleted: the name is not recorded, and not asked for."""
    tokens = tokens_of(tables, clock)
    work, waiting = await wait_for_token(tokens)
    await tables.run(lambda connection: connection.execute(delete(SUBMISSIONS)).rowcount)
    with pytest.raises(LeaseLost):
        await tokens.intend(work.lease, make_minted_token(state=MintedState.INTENDED), waiting)
    assert await tokens.all_left() == []


async def test_a_row_is_signed_as_it_is(tables: Database, clock: Clock) -> None:
    """After a lost key: with the same key, nothing changes."""
    await record(tables, make_minted_token())
    [row] = await tables.run(lambda connection: connection.execute(MINTED_TOKENS.select()).all())
    assert sign_row(CHAIN.authenticity, row) == row.signature
    assert await tokens_of(tables, clock).named([row.name]) == [make_minted_token()]


async def test_what_is_asked_each_second_reads_no_token_that_is_over(tables: Database, clock: Clock) -> None:
    """Years of them are kept: looking through 100,000 took 25 ms each time, in the thread that also writes."""
    tokens, asked = tokens_of(tables, clock), list[str]()

    def note(*details: object) -> None:
        asked.append(str(details[2]))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await tokens.due(NOW)
        await tokens.next_due()
        await tokens.to_test()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    queries = [statement for statement in asked if "minted_tokens" in statement]
    assert len(queries) == 3
    assert all(str(IS_LEFT) in statement for statement in queries)  # the index's condition, word for word
