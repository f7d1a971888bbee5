"""An export has all that a signature covers, starts no formula in a spreadsheet, and has no gap."""

import csv
import io
import json
from datetime import datetime, timedelta

import pytest

from bot.model.audit import Entry, Event, Who
from bot.storage.audit_export import csv_header, to_csv, to_jsonl
from bot.storage.audit_reading import COLUMNS, EntryRow, find_before, read_batches
from bot.storage.audit_verifying import Verification
from bot.storage.database import Database
from tests.make import CHAIN, LAKE, NOW

REASONS = [
    '=HYPERLINK("https://evil.example.com","click")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\n=1+1",
    "＝1",  # noqa: RUF001 - a wide sign
    "'quoted",
    'a "quote", a comma\r\nand a line',
    "büchse \N{SNOWMAN}",
    "",
]


async def _rows(tables: Database, after: int | None = None) -> list[EntryRow]:
    return [row async for rows in read_batches(tables, after, most=5) for row in rows]


async def _fill(tables: Database, *minutes: int) -> None:
    entries = [
        Entry(
            event=Event.SUBMITTED,
            at=NOW + timedelta(minutes=minute),
            key=LAKE,
            who=Who(user_id="U0ADA0001", reason=REASONS[number % len(REASONS)]),
        )
        for number, minute in enumerate(minutes)
    ]
    await tables.run(lambda connection: CHAIN.append(connection, [Entry(event=Event.CHAIN_BEGUN, at=NOW), *entries]))


def _verify(exported: list[EntryRow]) -> Verification:
    verification = Verification(CHAIN.authenticity)
    for row in exported:
        verification.examine(row)
    verification.finish()
    return verification


async def test_json_lines_can_be_verified(tables: Database) -> None:
    """With the key, and nothing else of the bot."""
    await _fill(tables, *range(len(REASONS)))
    exported = [json.loads(line) for line in to_jsonl(await _rows(tables)).splitlines()]
    assert [tuple(row) for row in exported] == [COLUMNS] * 13
    assert _verify(exported).head.number == 13
    assert [row["reason"] for row in exported[1:]] == REASONS
    exported[4]["reason"] = "another one"
    with pytest.raises(Exception, match="entry 5: what it says of a person was changed"):
        _verify(exported)


async def test_csv_can_be_verified(tables: Database) -> None:
    """Once the apostrophes are taken off; of an entry without a person, these columns are empty."""
    await _fill(tables, *range(len(REASONS)))
    text = csv_header() + to_csv(await _rows(tables))
    exported: list[EntryRow] = []
    for record in csv.DictReader(io.StringIO(text, newline="")):
        plain = {name: value.removeprefix("'") for name, value in record.items()}
        nobody = ("user_id", "team_id", "channel_id", "reason", "salt") if not plain["user_id"] else ()
        exported.append(plain | {"number": int(plain["number"])} | dict.fromkeys(nobody))
    assert _verify(exported).head.number == 13


async def test_no_cell_starts_a_formula(tables: Database) -> None:
    """A reason is foreign text: who opens the export must not run it."""
    await _fill(tables, *range(len(REASONS)))
    cells = [cell for record in csv.reader(io.StringIO(to_csv(await _rows(tables)), newline="")) for cell in record]
    assert '\'=HYPERLINK("https://evil.example.com","click")' in cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))] == []  # noqa: RUF001 - a wide sign
    assert [line for line in to_csv(await _rows(tables)).split("\r\n")[:1] if line.startswith('"1","2026-11-20T')] != []


@pytest.mark.parametrize(
    ("since", "first"),
    [
        pytest.param(NOW - timedelta(days=1), 1, id="before all"),
        pytest.param(NOW + timedelta(minutes=2), 4, id="exactly"),
        pytest.param(NOW + timedelta(minutes=2, seconds=1), 5, id="between"),
        pytest.param(NOW + timedelta(minutes=5), 5, id="a time that goes back later"),
        pytest.param(NOW + timedelta(days=1), None, id="after all"),
    ],
)
async def test_since_a_time_there_is_no_gap(tables: Database, since: datetime, first: int | None) -> None:
    """From the first entry of that time or later, all of them."""
    await _fill(tables, 0, 1, 2, 5, 3, 4)
    numbers = [row["number"] for row in await _rows(tables, await find_before(tables, since))]
    assert numbers == ([] if first is None else [*range(first, 8)])


async def test_without_entries_nothing_is_exported(tables: Database) -> None:
    """An empty table is no error of an export: `audit verify` says what is missing."""
    assert await find_before(tables, NOW) == 0
    assert await _rows(tables) == []
