"""Housekeeping never raises: a damaged record or a failed task stops neither its other tasks nor the bot."""

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bot.catalogs.reminders import CredentialWatch
from bot.model.catalog import StoredCredential
from bot.model.move import Changes, Move
from bot.model.submission import Opening, State
from bot.operations.housekeeping import OPENINGS_KEPT_FOR, keep_house
from bot.policy.scheduled import Overdue
from bot.sealing.key_files import KEY_LIFETIME, RETIREMENT, KeyFiles
from bot.storage.accepting import Verdict
from bot.storage.catalogs import Catalogs
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.history import HistoryLimit
from bot.storage.lineage import Lineage
from bot.storage.opening import Store
from bot.storage.people import PeopleLimit
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.clock import Clock
from tests.make import CHAIN, make_new_submission
from tests.rotation.scene import make_schedule

MARK = "MARKED7f3a"


class _Announcer:
    async def remind_of_expiry(self, credential: StoredCredential, due_at: object) -> None:
        """Say nothing."""

    async def announce_overdue(self, overdue: Overdue, due_at: object) -> None:
        """Say nothing."""

    async def announce_broken(self, credential: StoredCredential) -> None:
        """Say nothing."""


@pytest.fixture
def store(database: SqliteDatabase, clock: Clock, tmp_path: Path) -> Store:
    """Open a bot's store, with a new key ring."""
    key_files = KeyFiles(tmp_path / "keys")

    async def tell_time() -> datetime:
        return clock()

    submissions = Submissions(database, CHAIN)
    return Store(
        database=database,
        submissions=submissions,
        catalogs=Catalogs(database, "made-up"),
        clock=clock,
        tell_time=tell_time,
        sealing=key_files.load(clock()),
        key_files=key_files,
        jobs=None,
        lineage=Lineage(submissions, HighWaterMark(None, is_expected=False), clock),
        history=HistoryLimit(database, timedelta(days=30)),
        people=PeopleLimit(database, CHAIN, timedelta(days=365)),
    )


async def _believe(_: StoredCredential) -> bool:
    return True


async def _keep(store: Store) -> None:
    watch = CredentialWatch(store.catalogs, _Announcer(), store.clock, (), serves=lambda _: True, is_authentic=_believe)
    await keep_house(store, watch, make_schedule(store.database, store.submissions, store.clock))


def _keys(tmp_path: Path) -> int:
    return len(list((tmp_path / "keys").glob("*.pem")))


def _plant_key(tmp_path: Path) -> None:
    (tmp_path / "keys" / "garbage.pem").write_text("garbage")


def _remove_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").rename(tmp_path / "gone")
    (tmp_path / "keys").touch()


async def test_garbage_for_a_sealed_token_keeps_no_key(
    store: Store, clock: Clock, tmp_path: Path, database_path: Path
) -> None:
    """It cannot be opened anyway, and other keys are rotated and destroyed as usual."""
    key_id = store.sealing.sealing_key.key_id
    new = make_new_submission()
    await store.submissions.add(new)
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        connection.execute("UPDATE submissions SET sealed_token = 'garbage'")
    clock.advance(KEY_LIFETIME)
    await _keep(store)
    clock.advance(RETIREMENT)
    await _keep(store)
    assert store.sealing.sealing_key.key_id != key_id
    assert _keys(tmp_path) == 1


@pytest.mark.parametrize("obstruct", [_plant_key, _remove_keys], ids=["a planted key", "no directory, but a file"])
async def test_keys_that_cannot_be_saved_stop_nothing_else(
    store: Store, clock: Clock, tmp_path: Path, obstruct: Callable[[Path], None], log: io.StringIO
) -> None:
    """The failure is logged, and old openings are still deleted."""
    await store.submissions.add_opening(Opening(nonce="n", team_id="T", user_id="U", expires_at=clock()))
    clock.advance(OPENINGS_KEPT_FOR + timedelta(seconds=1))
    obstruct(tmp_path)

    await _keep(store)

    assert "housekeeping_failed" in log.getvalue()
    assert (await store.submissions.accept(make_new_submission(), "n")).verdict is Verdict.UNKNOWN_OPENING


class _Broken(KeyFiles):
    def rotate(self, *_: object) -> list[str]:
        """Raise an unexpected error."""
        raise ZeroDivisionError(MARK)


async def test_an_unexpected_error_does_not_end_the_bot(store: Store, log: io.StringIO, tmp_path: Path) -> None:
    """Only its type is logged."""
    await _keep(replace(store, key_files=_Broken(tmp_path)))
    assert '"error": "ZeroDivisionError"' in log.getvalue()
    assert "housekeeping_broke" in log.getvalue()
    assert MARK not in log.getvalue()


async def test_what_is_older_than_the_history_is_deleted(store: Store, clock: Clock, log: io.StringIO) -> None:
    """It is said how many."""
    await store.submissions.add(make_new_submission(accepted_at=clock()))
    submission = await store.submissions.find(make_new_submission().id)
    assert submission is not None
    await store.submissions.apply(submission, Move(to=State.REFUSED, at=clock(), changes=Changes(reported_at=clock())))
    await _keep(store)
    assert await store.submissions.find(submission.id) is not None

    clock.advance(timedelta(days=31))
    await _keep(store)

    assert await store.submissions.find(submission.id) is None
    assert '"event": "history_deleted"' in log.getvalue()
