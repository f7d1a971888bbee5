"""The dispatcher with scripted deliveries: one at a time per bucket, on time, and with an orderly stop."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bot.delivery.run_inline import LOOK_EVERY, STOP_PATIENCE, InlineDispatcher
from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseUnavailable
from bot.model.submission import NewSubmission, Opening, Sealed, SealedToken, TokenKind
from bot.storage.lock import AlreadyRunning, ProcessLock
from bot.storage.submissions import Submissions
from tests.scripted import ScriptedDelivery
from tests.virtual_time import run_in_virtual_time

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LAKE = BucketKey(account_id="made-up", bucket="lake")
POND = BucketKey(account_id="made-up", bucket="pond")
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=60)
PassTime = Callable[[timedelta], None]


class Clock:
    """Stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stop the time."""
    return Clock()


@pytest.fixture
def delivery() -> ScriptedDelivery:
    """Return a delivery without work."""
    return ScriptedDelivery()


@pytest_asyncio.fixture
async def dispatcher(
    delivery: ScriptedDelivery, submissions: Submissions, clock: Clock
) -> AsyncIterator[InlineDispatcher]:
    """Build the dispatcher, and stop it at the end."""
    dispatcher = InlineDispatcher(delivery, submissions.unreported_keys, clock)
    yield dispatcher
    delivery.act = None
    await dispatcher.stop()


async def _settle() -> None:
    """Let everything run that is ready."""
    for _ in range(20):
        await asyncio.sleep(0)


def _wait_for(event: asyncio.Event) -> Callable[[BucketKey], Awaitable[None]]:
    async def act(_: BucketKey) -> None:
        await event.wait()

    return act


async def test_a_dispatch_runs_the_delivery_and_leaves_nothing_behind(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """A bucket without work costs nothing, and can be dispatched again."""
    for _ in range(2):
        dispatcher.dispatch(LAKE)
        assert await delivery.next_start() == LAKE
        await _settle()
        assert dispatcher._workers == {}
    assert delivery.started.empty()


async def test_one_delivery_runs_for_a_bucket_and_others_go_on(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """Dispatches of a busy bucket cause one more run after it; another bucket starts at once."""
    released = asyncio.Event()
    delivery.act = _wait_for(released)
    for _ in range(3):
        dispatcher.dispatch(LAKE)
        await _settle()
    dispatcher.dispatch(POND)
    assert [await delivery.next_start(), await delivery.next_start()] == [LAKE, POND]
    await _settle()
    assert delivery.started.empty()
    released.set()
    assert await delivery.next_start() == LAKE
    await _settle()
    assert delivery.started.empty()
    assert delivery.most_of_one_bucket == 1


async def test_two_hundred_waiting_buckets_do_not_hold_a_fresh_one(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """All of them wait concurrently."""
    delivery.act = _wait_for(asyncio.Event())
    keys = [BucketKey(account_id="made-up", bucket=f"bucket-{number}") for number in range(200)]
    for key in keys:
        dispatcher.dispatch(key)
    assert [await delivery.next_start() for _ in keys] == keys
    dispatcher.dispatch(LAKE)
    assert await delivery.next_start() == LAKE
    delivery.act = None
    for worker in dispatcher._workers.values():
        worker.task.cancel()


async def test_start_resumes_unfinished_buckets(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, submissions: Submissions
) -> None:
    """Each bucket with unfinished or unreported work, once."""
    for number, key in enumerate([LAKE, LAKE, POND]):
        await _record(submissions, key, f"V{number}")
    await dispatcher.start()
    assert {await delivery.next_start(), await delivery.next_start()} == {LAKE, POND}
    await _settle()
    assert delivery.started.empty()


def test_what_nobody_delivers_is_found_again(delivery: ScriptedDelivery) -> None:
    """A slot that was not tested while rotation was off: once a minute, through an outage, and not what is waiting."""
    answers: list[list[BucketKey] | Exception] = [DatabaseUnavailable(), [LAKE], [LAKE, POND]]

    async def find() -> list[BucketKey]:
        answer = answers.pop(0) if answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run() -> None:
        clock, started = Clock(), asyncio.get_running_loop().time()
        dispatcher = InlineDispatcher(delivery, find, clock)
        delivery.act = _wait_for(asyncio.Event())
        looking = asyncio.create_task(dispatcher.look_forever())
        assert await delivery.started.get() == LAKE
        assert asyncio.get_running_loop().time() - started == 2 * LOOK_EVERY.total_seconds()
        assert await delivery.started.get() == POND
        looking.cancel()
        for worker in dispatcher._workers.values():
            worker.task.cancel()

    run_in_virtual_time(run())
    assert delivery.started.empty()


async def _record(submissions: Submissions, key: BucketKey, view_id: str) -> None:
    expires_at = START + timedelta(hours=1)
    await submissions.add_opening(Opening(nonce=view_id, team_id="T1", user_id="U1", expires_at=expires_at))
    new = NewSubmission(
        id=view_id,
        team_id="T1",
        user_id="U1",
        key=key,
        channel_id="C1",
        reason="",
        token_kind=TokenKind.ACCOUNT,
        last_four="four",
        sealed=Sealed(token=SealedToken("sealed.v1.madeup.madeup")),
        sent_at=START,
        accepted_at=START,
        expires_at=expires_at,
    )
    await submissions.accept(new, view_id)


async def test_a_delivery_goes_on_when_it_is_due(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, clock: Clock, pass_time: PassTime
) -> None:
    """Not before, and without a dispatch."""
    delivery.answers = [START + 30 * SECOND]
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    await _settle()
    pass_time(29 * SECOND)
    await _settle()
    assert delivery.started.empty()
    pass_time(2 * SECOND)
    assert await delivery.next_start() == LAKE


@pytest.mark.parametrize(
    "next_at",
    [pytest.param(START, id="now"), pytest.param(START - timedelta(days=1), id="long ago: the clock was set on")],
)
async def test_a_due_delivery_goes_on_at_once(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, next_at: datetime
) -> None:
    """A negative wait counts as none."""
    delivery.answers = [next_at]
    dispatcher.dispatch(LAKE)
    assert [await delivery.next_start(), await delivery.next_start()] == [LAKE, LAKE]


async def test_a_clock_that_was_set_back_holds_nothing_up(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, clock: Clock, pass_time: PassTime
) -> None:
    """The time is checked again after a minute, whatever the clock says."""
    clock.now -= timedelta(days=1)
    delivery.answers = [START + SECOND]
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    await _settle()
    pass_time(61 * SECOND)
    assert await delivery.next_start() == LAKE


async def test_a_dispatch_wakes_a_bucket_that_waits(dispatcher: InlineDispatcher, delivery: ScriptedDelivery) -> None:
    """A new submission does not wait for the retry of an older one's result."""
    delivery.answers = [START + timedelta(hours=1)]
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    await _settle()
    dispatcher.dispatch(LAKE)
    assert await delivery.next_start() == LAKE


async def test_a_dispatch_while_the_last_step_runs_is_not_lost(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """The delivery has already read its work when the new submission arrives."""

    async def come_late(key: BucketKey) -> None:
        delivery.act = None
        dispatcher.dispatch(key)

    delivery.act = come_late
    dispatcher.dispatch(LAKE)
    assert [await delivery.next_start(), await delivery.next_start()] == [LAKE, LAKE]


async def test_a_dispatch_between_the_end_of_a_worker_and_its_removal_is_not_lost(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """A finished worker cannot be woken: a new one starts."""
    released = asyncio.Event()

    async def come_too_late(key: BucketKey) -> None:
        delivery.act = _wait_for(released)
        asyncio.get_running_loop().call_soon(dispatcher.dispatch, key)

    delivery.act = come_too_late
    dispatcher.dispatch(LAKE)
    assert [await delivery.next_start(), await delivery.next_start()] == [LAKE, LAKE]
    await _settle()
    dispatcher.dispatch(LAKE)  # the first worker is removed by now, and the second one is still known
    await _settle()
    assert delivery.started.empty()
    released.set()
    assert await delivery.next_start() == LAKE
    await _settle()
    assert dispatcher._workers == {}
    assert delivery.most_of_one_bucket == 1


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        pytest.param(DatabaseUnavailable(), SECOND, id="the database is away"),
        pytest.param(RuntimeError("madeup-secret"), 60 * SECOND, id="a fault of ours"),
        pytest.param(KeyError("madeup-secret"), 60 * SECOND, id="another fault of ours"),
    ],
)
async def test_a_delivery_that_raises_is_retried(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, pass_time: PassTime, error: Exception, pause: timedelta
) -> None:
    """After a pause, and the log names the type without the text."""
    delivery.answers = [error]
    with capture_logs() as logs:
        dispatcher.dispatch(LAKE)
        await delivery.next_start()
        await _settle()
    assert [line["event"] for line in logs] == ["delivery_stopped" if pause == SECOND else "delivery_broke"]
    assert "madeup-secret" not in str(logs)
    pass_time(pause - SECOND / 2)
    await _settle()
    assert delivery.started.empty()
    pass_time(SECOND)
    assert await delivery.next_start() == LAKE


async def test_stop_lets_a_running_step_finish(dispatcher: InlineDispatcher, delivery: ScriptedDelivery) -> None:
    """A call in progress finishes; later steps are left for the next start."""
    released = asyncio.Event()
    delivery.act = _wait_for(released)
    delivery.answers = [START]
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    stopping = asyncio.create_task(dispatcher.stop())
    await _settle()
    assert not stopping.done()
    released.set()
    await stopping
    assert delivery.started.empty()
    assert delivery.running == []


async def test_stop_wakes_waiting_buckets_and_starts_nothing_new(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery
) -> None:
    """A bucket that waits for an hour does not delay the stop; later work is resumed by the next start."""
    delivery.answers = [START + timedelta(hours=1)]
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    await _settle()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await dispatcher.stop()
    dispatcher.dispatch(LAKE)
    dispatcher.dispatch(POND)
    await _settle()
    assert delivery.started.empty()
    assert dispatcher._workers == {}


async def test_stop_waits_no_longer_than_its_patience(
    dispatcher: InlineDispatcher, delivery: ScriptedDelivery, pass_time: PassTime
) -> None:
    """A hanging call is cancelled, in time for a clean exit."""
    delivery.act = _wait_for(asyncio.Event())
    dispatcher.dispatch(LAKE)
    await delivery.next_start()
    stopping = asyncio.create_task(dispatcher.stop())
    await _settle()
    pass_time(STOP_PATIENCE - SECOND)
    await _settle()
    assert not stopping.done()
    pass_time(2 * SECOND)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await stopping
    assert delivery.running == []


async def test_stop_of_an_idle_dispatcher_returns(dispatcher: InlineDispatcher) -> None:
    """There is nothing to wait for."""
    await dispatcher.stop()


def test_a_second_lock_on_a_directory_is_refused(tmp_path: Path) -> None:
    """At each attempt, until the first one is released."""
    lock = ProcessLock(tmp_path / "lock")
    for _ in range(2):
        with pytest.raises(AlreadyRunning):
            ProcessLock(tmp_path / "lock")
    lock.release()
    ProcessLock(tmp_path / "lock").release()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_locks_on_two_directories_are_independent(tmp_path: Path) -> None:
    """Two bots may run on one machine."""
    (tmp_path / "other").mkdir()
    locks = [ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "other" / "lock")]
    for lock in locks:
        lock.release()


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """Another process is refused while the holder lives, and admitted once it was killed without cleaning up."""
    hold = (
        "import sys, time; from pathlib import Path; from bot.storage.lock import ProcessLock;"
        "lock = ProcessLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        hold,
        str(tmp_path / "lock"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(AlreadyRunning):
        ProcessLock(tmp_path / "lock")
    os.kill(holder.pid, signal.SIGKILL)
    await holder.communicate()
    ProcessLock(tmp_path / "lock").release()
