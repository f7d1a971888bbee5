"""The records of catalogs on both engines: the list, the tests, and what the bot has stored in the slots."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.errors import DatabaseUnavailable
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.database import Database

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ACCOUNT = "5a4db0c0000000000000000000000001"
ABSENT, INVALID, PRESENT, UNKNOWN, VALID = sorted(CredentialStatus)
KEY = BucketKey(account_id=ACCOUNT, bucket="lake")
THEIRS = replace(KEY, account_id="0" * 32)
BOG, POND = replace(KEY, bucket="bog"), replace(KEY, bucket="pond")
LAKE = StoredCredential(
    key=KEY,
    submission_id="V1",
    stored_by="U1",
    stored_at=NOW - DAY,
    channel_id="C1",
    token_id="0f" * 16,
    expires_at=NOW + 30 * DAY,
    reminded_at=None,
    broken_at=None,
)


@pytest.fixture
def catalogs(tables: Database) -> Catalogs:
    """Return empty records."""
    return Catalogs(tables, ACCOUNT)


async def _store(catalogs: Catalogs, stored: StoredCredential = LAKE) -> None:
    await catalogs._database.run(lambda connection: note_stored(connection, stored))


async def _list(catalogs: Catalogs, *listed: Catalog, at: datetime = NOW) -> None:
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=at))


async def _catalogs(catalogs: Catalogs) -> tuple[Catalog, ...]:
    snapshot = await catalogs.snapshot()
    assert snapshot is not None
    return snapshot.catalogs


async def _lake(catalogs: Catalogs) -> tuple[CredentialStatus, datetime | None]:
    """Return the recorded status of the lake's credential, and its age."""
    [found] = [catalog for catalog in await _catalogs(catalogs) if catalog.bucket == "lake"]
    return found.credential_status, found.tested_at


async def _broken_at(catalogs: Catalogs) -> datetime | None:
    [credential] = await catalogs.stored_credentials()
    return credential.broken_at


def _catalog(bucket: str, credential: CredentialStatus = ABSENT) -> Catalog:
    return Catalog(key=replace(KEY, bucket=bucket), status=CatalogStatus.ACTIVE, credential_status=credential)


# The list.


async def test_a_list_replaces_the_one_before(catalogs: Catalogs, tables: Database) -> None:
    """For this account only; sorted by bucket, None before the first list. Catalogs no longer listed are deleted."""
    theirs = Catalogs(tables, THEIRS.account_id)
    assert await catalogs.snapshot() is None
    other = Snapshot(catalogs=(replace(_catalog("lake"), key=THEIRS),), refreshed_at=NOW)
    await theirs.save_snapshot(other)
    assert await catalogs.snapshot() is None
    await _list(catalogs, _catalog("b"), _catalog("a"))
    assert await catalogs.snapshot() == Snapshot(catalogs=(_catalog("a"), _catalog("b")), refreshed_at=NOW)
    await _list(catalogs, _catalog("c"), replace(_catalog("b"), status=CatalogStatus.INACTIVE))
    assert await _catalogs(catalogs) == (replace(_catalog("b"), status=CatalogStatus.INACTIVE), _catalog("c"))
    empty = Snapshot(catalogs=(), refreshed_at=NOW + timedelta(minutes=5))
    await catalogs.save_snapshot(empty)
    assert await catalogs.snapshot() == empty
    assert await theirs.snapshot() == other


async def test_two_accounts_in_one_database_do_not_mix(catalogs: Catalogs, tables: Database) -> None:
    """Equal bucket names of two accounts are recorded separately."""
    theirs, listed = Catalogs(tables, THEIRS.account_id), replace(_catalog("lake", PRESENT), key=THEIRS)
    stored = replace(LAKE, key=THEIRS, submission_id="V2")
    await theirs.save_snapshot(Snapshot(catalogs=(listed,), refreshed_at=NOW - DAY))
    await theirs.note_all_tested(NOW - DAY)
    await _store(theirs, stored)
    expected = Snapshot(catalogs=(listed,), refreshed_at=NOW - DAY, tested_at=NOW - DAY)

    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs)
    await catalogs.save_test(KEY, VALID, NOW)
    await catalogs.save_test(KEY, INVALID, NOW + SECOND)
    await catalogs.note_all_tested(NOW + SECOND)
    await catalogs.note_reminded(LAKE, NOW)
    assert await catalogs.stored_credentials() == [replace(LAKE, reminded_at=NOW, broken_at=NOW + SECOND)]
    await catalogs.note_announced(LAKE)
    await catalogs.save_catalog(_catalog("lake"))
    await _list(catalogs, at=NOW + DAY)

    assert await theirs.snapshot() == expected
    assert await theirs.stored_credentials() == [stored]


async def test_a_catalog_that_was_enabled_is_on_at_once(catalogs: Catalogs) -> None:
    """What is known of its slot stays, and an unlisted one is added."""
    off = replace(_catalog("a", PRESENT), status=CatalogStatus.INACTIVE)
    await _list(catalogs, off, _catalog("c"))
    for bucket in ("a", "b"):
        await catalogs.note_enabled(replace(KEY, bucket=bucket))
    expected = (_catalog("a", PRESENT), _catalog("b", UNKNOWN), _catalog("c"))
    assert await catalogs.snapshot() == Snapshot(catalogs=expected, refreshed_at=NOW)


async def test_one_catalog_of_a_list_is_corrected(catalogs: Catalogs) -> None:
    """The others and the age of the list stay; an unlisted catalog is added."""
    await _list(catalogs, _catalog("a"), _catalog("c"))
    await catalogs.save_catalog(_catalog("c", PRESENT))
    await catalogs.save_catalog(_catalog("b"))
    expected = (_catalog("a"), _catalog("b"), _catalog("c", PRESENT))
    assert await catalogs.snapshot() == Snapshot(catalogs=expected, refreshed_at=NOW)


async def test_a_list_is_saved_wholly_or_not_at_all(catalogs: Catalogs) -> None:
    """If saving fails, the old list and its age stay."""
    await _list(catalogs, _catalog("a"))
    good = await catalogs.snapshot()
    unusable = replace(_catalog("c"), status=cast("CatalogStatus", _Valueless()))
    with pytest.raises(DatabaseUnavailable):
        await _list(catalogs, _catalog("b"), unusable, at=NOW + SECOND)
    assert await catalogs.snapshot() == good


class _Valueless:
    value = None


async def test_a_bucket_that_is_listed_twice_is_kept_once(catalogs: Catalogs) -> None:
    """A strange answer must not lose the list."""
    await _list(catalogs, _catalog("a"), _catalog("a", PRESENT))
    assert await _catalogs(catalogs) == (_catalog("a", PRESENT),)


async def test_hundreds_come_and_go_at_once(catalogs: Catalogs) -> None:
    """Neither engine's limit on the parameters of a statement is reached."""
    await _list(catalogs, *(_catalog(f"a{number:04}") for number in range(1200)))
    await _list(catalogs, *(_catalog(f"b{number:04}") for number in range(500)))
    assert len(await _catalogs(catalogs)) == 500


async def test_replicas_that_list_at_once_do_not_deadlock(catalogs: Catalogs) -> None:
    """In whatever order Cloudflare listed the catalogs to each of them."""
    orders = [[_catalog(f"b{number}") for number in range(50)][::step] for step in (1, -1)]
    await asyncio.gather(*(_list(catalogs, *order) for order in orders * 4))
    assert len(await _catalogs(catalogs)) == 50


# Tests of stored credentials.


async def test_a_list_keeps_test_results(catalogs: Catalogs) -> None:
    """The list says at most whether a slot is filled; a test says whether the credential works, and when."""
    await _list(catalogs, _catalog("lake", PRESENT))
    assert await _lake(catalogs) == (PRESENT, None)
    await catalogs.save_test(KEY, VALID, NOW)
    assert await _lake(catalogs) == (VALID, NOW)
    for listed in (PRESENT, UNKNOWN, PRESENT):
        await _list(catalogs, _catalog("lake", listed), at=NOW + SECOND)
        await catalogs.save_catalog(_catalog("lake", listed))
        assert await _lake(catalogs) == (VALID, NOW)


@pytest.mark.parametrize(
    ("tested", "listed", "expected"),
    [
        pytest.param(VALID, ABSENT, (ABSENT, None), id="emptied after a test"),
        pytest.param(INVALID, ABSENT, (ABSENT, None), id="a broken one was removed"),
        pytest.param(ABSENT, PRESENT, (PRESENT, None), id="filled after a test"),
        pytest.param(ABSENT, UNKNOWN, (ABSENT, NOW), id="the list does not say"),
    ],
)
async def test_a_list_that_contradicts_a_test_clears_it(
    catalogs: Catalogs, tested: CredentialStatus, listed: CredentialStatus, expected: object
) -> None:
    """Someone has changed the slot elsewhere: the tested credential is gone."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await catalogs.save_test(KEY, tested, NOW)
    await _list(catalogs, _catalog("lake", listed), at=NOW + SECOND)
    assert await _lake(catalogs) == expected


async def test_a_write_through_the_bot_clears_the_test(catalogs: Catalogs) -> None:
    """The result was about another token; other slots keep theirs."""
    await _list(catalogs, _catalog("lake", PRESENT), _catalog("pond", PRESENT))
    for bucket in ("lake", "pond"):
        await catalogs.save_test(replace(KEY, bucket=bucket), INVALID, NOW)
    await _store(catalogs, replace(LAKE, stored_at=NOW + SECOND))
    assert await _lake(catalogs) == (PRESENT, None)
    assert (await _catalogs(catalogs))[1].credential_status is INVALID


@pytest.mark.parametrize("status", [VALID, INVALID, ABSENT])
async def test_a_test_from_before_a_write_is_ignored(catalogs: Catalogs, status: CredentialStatus) -> None:
    """It started before the token was stored and was answered after that token was found to work: no alarm."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs, replace(LAKE, stored_at=NOW + SECOND))
    await catalogs.save_test(KEY, status, NOW)
    assert await _lake(catalogs) == (PRESENT, None)
    await catalogs.save_test(KEY, VALID, NOW + 2 * SECOND)
    await catalogs.save_test(KEY, status, NOW)
    assert await _lake(catalogs) == (VALID, NOW + 2 * SECOND)
    assert await _broken_at(catalogs) is None


async def test_a_list_from_before_a_write_does_not_empty_the_slot(catalogs: Catalogs) -> None:
    """Cloudflare was asked before the token was stored, and answered afterwards."""
    await _list(catalogs, _catalog("lake"))
    await _store(catalogs, replace(LAKE, stored_at=NOW + 2 * SECOND))
    await catalogs.save_test(KEY, VALID, NOW + 3 * SECOND)
    await _list(catalogs, _catalog("lake"), at=NOW + SECOND)
    assert await _lake(catalogs) == (VALID, NOW + 3 * SECOND)
    await _list(catalogs, _catalog("lake"), at=NOW + 4 * SECOND)
    assert await _lake(catalogs) == (ABSENT, None)


async def test_after_the_clock_was_set_back_the_newest_still_counts(catalogs: Catalogs) -> None:
    """A time far in the future does not count as newer."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs, replace(LAKE, stored_at=NOW))
    await catalogs.save_test(KEY, VALID, NOW)
    await catalogs.save_test(KEY, INVALID, NOW - DAY)
    assert await _lake(catalogs) == (INVALID, NOW - DAY)
    await _list(catalogs, _catalog("lake"), at=NOW - DAY)
    assert await _lake(catalogs) == (ABSENT, None)


async def test_a_test_of_an_unlisted_catalog_is_kept(catalogs: Catalogs) -> None:
    """A catalog that was just enabled can be stored into before the next list."""
    await _list(catalogs)
    await catalogs.save_test(KEY, VALID, NOW)
    assert await _catalogs(catalogs) == (replace(_catalog("lake", VALID), tested_at=NOW),)


async def test_the_time_of_the_last_test_round_is_kept(catalogs: Catalogs) -> None:
    """A list in between does not change it."""
    await _list(catalogs, _catalog("lake"))
    await catalogs.note_all_tested(NOW + SECOND)
    await _list(catalogs, _catalog("lake"), at=NOW + 2 * SECOND)
    snapshot = await catalogs.snapshot()
    assert snapshot is not None
    assert (snapshot.refreshed_at, snapshot.tested_at) == (NOW + 2 * SECOND, NOW + SECOND)


# Credentials that stop working.


@pytest.mark.parametrize(
    ("tests", "broken_after"),
    [
        pytest.param([VALID, INVALID], 1, id="it worked, and no longer does"),
        pytest.param([VALID, INVALID, INVALID], 1, id="still: since the first time"),
        pytest.param([VALID, INVALID, VALID], None, id="it works again before the announcement"),
        pytest.param([VALID, INVALID, VALID, INVALID], 3, id="and does not again"),
        pytest.param([INVALID], None, id="it never worked: its result said so"),
        pytest.param([INVALID, INVALID], None, id="it never worked, twice"),
        pytest.param([VALID, ABSENT], None, id="someone removed it"),
        pytest.param([VALID, ABSENT, INVALID], None, id="someone stored another one"),
    ],
)
async def test_a_change_from_valid_to_invalid_is_noted(
    catalogs: Catalogs, tests: list[CredentialStatus], broken_after: int | None
) -> None:
    """With the time of the test that found it."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs)
    for number, status in enumerate(tests):
        await catalogs.save_test(KEY, status, NOW + number * DAY)
    assert await _broken_at(catalogs) == (None if broken_after is None else NOW + broken_after * DAY)


async def test_a_change_that_was_announced_is_not_noted_again(catalogs: Catalogs) -> None:
    """However many tests find it again."""
    await _store(catalogs)
    for number, status in enumerate([VALID, INVALID]):
        await catalogs.save_test(KEY, status, NOW + number * SECOND)
    await catalogs.note_announced(LAKE)
    for number in range(2, 5):
        await catalogs.save_test(KEY, INVALID, NOW + number * SECOND)
    assert await _broken_at(catalogs) is None


async def test_replicas_that_find_a_change_at_once_note_it_once(catalogs: Catalogs) -> None:
    """Otherwise the second replica, which also knew it as valid, would announce it again."""
    await _store(catalogs)
    await catalogs.save_test(KEY, VALID, NOW)

    async def find_and_announce(number: int) -> bool:
        await catalogs.save_test(KEY, INVALID, NOW + number * SECOND)
        is_noted = await _broken_at(catalogs) is not None
        if is_noted:
            await catalogs.note_announced(LAKE)
        return is_noted

    await asyncio.gather(*(find_and_announce(number) for number in range(1, 9)))
    assert await _broken_at(catalogs) is None


async def test_a_credential_not_stored_through_the_bot_is_not_announced(catalogs: Catalogs) -> None:
    """There is no channel for it; its status is in the list."""
    await _store(catalogs, replace(LAKE, key=POND))
    for number, status in enumerate([VALID, INVALID]):
        await catalogs.save_test(KEY, status, NOW + number * SECOND)
    assert await catalogs.stored_credentials() == [replace(LAKE, key=POND)]


async def test_concurrent_writes_and_tests_do_not_deadlock(catalogs: Catalogs) -> None:
    """Both change the same two tables, in the same order."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs)
    works: list[Any] = []
    for number in range(20):
        works += [
            _store(catalogs, replace(LAKE, submission_id=f"V{number}")),
            catalogs.save_test(KEY, (VALID, INVALID)[number % 2], NOW + number * SECOND),
        ]
    await asyncio.gather(*works)
    assert len(await catalogs.stored_credentials()) == 1


# Stored credentials.


async def test_the_last_stored_credential_is_kept(catalogs: Catalogs, tables: Database) -> None:
    """For each slot of this account; nothing of the earlier one remains."""
    await _store(Catalogs(tables, THEIRS.account_id), replace(LAKE, key=THEIRS))
    assert await catalogs.stored_credentials() == []
    await _store(catalogs, replace(LAKE, reminded_at=NOW, broken_at=NOW))
    await _store(catalogs, replace(LAKE, key=BOG))
    second = replace(LAKE, submission_id="V2", stored_by="U2", token_id=None, expires_at=None)
    await _store(catalogs, second)
    assert await catalogs.stored_credentials() == [replace(LAKE, key=BOG), second]


async def test_it_is_kept_while_its_catalog_is_not_listed(catalogs: Catalogs) -> None:
    """A truncated list must not end the reminders."""
    await _list(catalogs, _catalog("lake", PRESENT))
    await _store(catalogs)
    await _list(catalogs, at=NOW + SECOND)
    assert await catalogs.stored_credentials() == [LAKE]


async def test_a_reminder_is_noted_for_the_credential_that_it_was_about(catalogs: Catalogs) -> None:
    """If another one was stored meanwhile, that one still gets its reminders."""
    await _store(catalogs)
    await catalogs.note_reminded(LAKE, NOW)
    assert await catalogs.stored_credentials() == [replace(LAKE, reminded_at=NOW)]
    newer = replace(LAKE, submission_id="V2", broken_at=NOW)
    await _store(catalogs, newer)
    await catalogs.note_reminded(LAKE, NOW)
    await catalogs.note_announced(LAKE)
    assert await catalogs.stored_credentials() == [newer]
