"""`audit verify` names the first entry that is not as it was written, and raises no false alarm."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select, update

from bot.model.audit import PERSONAL, Entry, Event, Who
from bot.sealing.authenticity import Authenticity
from bot.storage.audit import AuditChain, Head, read_head
from bot.storage.audit_reading import COLUMNS, read_batches
from bot.storage.audit_verifying import Broken, Verification
from bot.storage.database import Database
from bot.storage.schema import AUDIT, METADATA
from tests.make import AUDIT_KEY, CHAIN, LAKE, NOW
from tests.storage.conftest import Query

OTHER = AuditChain(Authenticity(["the key of before, which nobody has any more today"]))
ADA = Who(user_id="U0ADA0001", team_id="T0SANDBOX", channel_id="C0DATAPLT", reason="a new lake")
FORGET: dict[Any, Any] = dict.fromkeys((*PERSONAL, "salt"))

Row = dict[str, Any]


def _entry(event: Event = Event.SUBMITTED, who: Who | None = ADA, minute: int = 0, details: str = "") -> Entry:
    at = NOW + timedelta(minutes=minute)
    return Entry(event=event, at=at, key=LAKE, submission_id="V1", task="store", who=who, details=details)


def _chain(length: int = 9) -> list[Entry]:
    begun = _entry(Event.CHAIN_BEGUN, who=None, details=CHAIN.authenticity.key_id)
    return [begun, *(_entry(minute=minute) for minute in range(1, length))]


async def _fill(tables: Database, *entries: Entry, chain: AuditChain = CHAIN) -> Head:
    def append(connection: Connection) -> Head:
        chain.append(connection, entries)
        return read_head(connection)

    return await tables.run(append)


async def _verify(
    tables: Database, expected: Head | None = None, authenticity: Authenticity = CHAIN.authenticity
) -> Verification:
    verification = Verification(authenticity, expected=expected)
    async for entries in read_batches(tables, most=4):
        for entry in entries:
            verification.examine(entry)
    verification.finish()
    return verification


async def _complaint(tables: Database, expected: Head | None = None) -> str:
    with pytest.raises(Broken) as broken:
        await _verify(tables, expected)
    return str(broken.value)


async def test_a_whole_chain_is_verified_to_its_head(tables: Database) -> None:
    """Across the batches in which it is read."""
    head = await _fill(tables, *_chain())
    await _verify(tables, expected=Head(number=9, signature=str(head).partition(":")[2]))
    verified = await _verify(tables, expected=head)
    assert (verified.head, head.number) == (head, 9)
    assert (verified.unverified, [*verified.remarks()]) == ({}, [])


_CHANGED = {
    "number": ("number = number + 100", "entry 5: missing"),
    "at": ("at = (SELECT at FROM audit WHERE number = 2)", "entry 5: was changed: its signature does not fit"),
    "people_digest": ("people_digest = ''", "entry 5: was changed: its signature does not fit"),
    "previous": ("previous = signature", "entry 5: was changed: its signature does not fit"),
    "signature": ("signature = previous", "entry 5: was changed: its signature does not fit"),
} | dict.fromkeys((*PERSONAL, "salt"), ("{} = {} || 'x'", "entry 5: what it says of a person was changed"))


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_change_of_any_column_is_named(tables: Database, query: Query, column: str) -> None:
    """By the number of the entry."""
    await _fill(tables, *_chain())
    change, said = _CHANGED.get(column, ("{} = {} || 'x'", "entry 5: was changed: its signature does not fit"))
    query(f"UPDATE audit SET {change.replace('{}', column)} WHERE number = 5")  # noqa: S608 - our own words
    assert await _complaint(tables) == said


@pytest.mark.parametrize("column", [*PERSONAL, "salt"])
async def test_half_a_person_is_not_forgotten(tables: Database, query: Query, column: str) -> None:
    """What is removed is removed as a whole, or it was not the bot that did it."""
    await _fill(tables, *_chain(), _entry(Event.PEOPLE_FORGOTTEN, who=None, details='{"up_to": 9}'))
    query(f"UPDATE audit SET {column} = NULL WHERE number = 5")  # noqa: S608 - our own words
    assert await _complaint(tables) == "entry 5: what it says of a person was changed"


_COPY = ", ".join(column for column in COLUMNS if column != "number")
_ACTS = {
    "the first is deleted": (["DELETE FROM audit WHERE number = 1"], "entry 1: missing"),
    "some in the middle are deleted": (
        ["DELETE FROM audit WHERE number BETWEEN 4 AND 6"],
        "entries 4 to 6: missing",
    ),
    "all are deleted": (["DELETE FROM audit"], "entry 1: missing, and so is every other one"),
    "two are swapped": (
        [
            "UPDATE audit SET number = 50 WHERE number = 4",
            "UPDATE audit SET number = 4 WHERE number = 7",
            "UPDATE audit SET number = 7 WHERE number = 50",
        ],
        "entry 4: was put here from the place of entry 7",
    ),
    "one is deleted and the others close the gap": (
        ["DELETE FROM audit WHERE number = 4"]
        + [f"UPDATE audit SET number = {number - 1} WHERE number = {number}" for number in range(5, 10)],  # noqa: S608 - our own words
        "entry 4: was put here from the place of entry 5",
    ),
    "one is inserted and the others make room": (
        [f"UPDATE audit SET number = {number + 1} WHERE number = {number}" for number in range(9, 3, -1)]  # noqa: S608 - our own words
        + [f"INSERT INTO audit (number, {_COPY}) SELECT 4, {_COPY} FROM audit WHERE number = 2"],  # noqa: S608 - our own words
        "entry 4: was put here from the place of entry 2",
    ),
    "one is repeated at the end": (
        [f"INSERT INTO audit (number, {_COPY}) SELECT 10, {_COPY} FROM audit WHERE number = 9"],  # noqa: S608 - our own words
        "entry 10: was put here from the place of entry 9",
    ),
    "one is inserted before the first": (
        [f"INSERT INTO audit (number, {_COPY}) SELECT 0, {_COPY} FROM audit WHERE number = 1"],  # noqa: S608 - our own words
        "entry 0: has a number that is not given to any",
    ),
    "one is appended without a signature": (
        [
            f"INSERT INTO audit (number, {_COPY}) SELECT 10, {_COPY} FROM audit WHERE number = 9",  # noqa: S608 - our own words
            "UPDATE audit SET signature = '' WHERE number = 10",
        ],
        "entry 10: its signature was changed: it is none",
    ),
}


@pytest.mark.parametrize(("statements", "said"), _ACTS.values(), ids=_ACTS)
async def test_what_was_done_to_the_chain_is_named(
    tables: Database, query: Query, statements: list[str], said: str
) -> None:
    """The first entry that is concerned, and what happened to it."""
    await _fill(tables, *_chain())
    for statement in statements:
        query(statement)
    assert await _complaint(tables) == said


async def test_a_cut_tail_is_noticed_with_a_head_of_before(tables: Database, query: Query) -> None:
    """Nothing else can tell: what is left is a whole chain."""
    head = await _fill(tables, *_chain())
    query("DELETE FROM audit WHERE number > 6")
    assert (await _verify(tables)).head.number == 6
    said = await _complaint(tables, head)
    assert said == "entries 7 to 9: missing: the end of the chain was cut off, or the database is an older one"


async def test_a_chain_that_went_on_differently_is_noticed_with_a_head_of_before(
    tables: Database, query: Query
) -> None:
    """As after a restored backup: every entry is signed, but they are not those of before."""
    head = await _fill(tables, *_chain())
    query("DELETE FROM audit WHERE number > 6")
    await _fill(tables, *_chain())
    assert (await _verify(tables)).head.number == 15
    said = await _complaint(tables, head)
    assert said == await _complaint(tables, Head(number=9, signature=str(head).partition(":")[2]))
    assert said == "entry 9: is not the one that --head names: the chain was written anew from here, or before"


async def test_an_entry_of_another_past_does_not_follow(tables: Database, query: Query) -> None:
    """Both were signed by the bot, with the same number, before and after a restore."""
    await _fill(tables, *_chain())
    [old] = [row async for rows in read_batches(tables, 5) for row in rows if row["number"] == 6]
    query("DELETE FROM audit WHERE number > 5")
    await _fill(tables, *_chain(4))
    its = AUDIT.c.number == 6
    await tables.run(lambda connection: connection.execute(update(AUDIT).where(its).values(dict(old))).rowcount)
    said = await _complaint(tables)
    assert said == "entry 7: does not follow entry 6: one of the two was replaced"


def _forget(first: int, last: int) -> Callable[[Connection], int]:
    return lambda connection: (
        connection.execute(
            update(AUDIT).where(AUDIT.c.number.between(first, last), AUDIT.c.user_id.is_not(None)).values(FORGET)
        ).rowcount
    )


@pytest.mark.parametrize(
    ("details", "left"),
    [
        pytest.param({"up_to": 7}, None, id="by age"),
        pytest.param({"up_to": 6}, 7, id="by age, not all"),
        pytest.param({"entries": [[2, 7]]}, None, id="a range"),
        pytest.param({"entries": [[5, 7], [2, 2], [3, 4]]}, None, id="several ranges"),
        pytest.param({"entries": [[2, 3], [5, 7]]}, 4, id="one is left out"),
        pytest.param({"entries": [[1, 1], [3, 3], [6, 20]]}, 2, id="several are left out"),
        pytest.param({"entries": []}, 2, id="nothing"),
        pytest.param({"entries": "all"}, 2, id="not ranges"),
        pytest.param({}, 2, id="no word"),
        pytest.param([], 2, id="another kind"),
    ],
)
async def test_a_forgotten_person_is_no_fault_if_the_chain_says_so(
    tables: Database, details: object, left: int | None
) -> None:
    """A later entry names each entry that was emptied."""
    await _fill(tables, *_chain())
    await tables.run(_forget(1, 7))
    await _fill(tables, _entry(Event.PEOPLE_FORGOTTEN, who=None, details=json.dumps(details)), _entry())
    if left is None:
        assert (await _verify(tables)).head.number == 11
    else:
        assert (await _complaint(tables)).startswith(f"entry {left}: what it said of a person was removed")


async def test_forgetting_is_not_announced_in_advance(tables: Database) -> None:
    """An entry excuses only what stood before it."""
    await _fill(tables, *_chain(3), _entry(Event.PEOPLE_FORGOTTEN, who=None, details='{"up_to": 99}'), *_chain(3))
    await tables.run(_forget(6, 6))
    assert (await _complaint(tables)).startswith("entry 6: what it said of a person was removed")


async def test_a_person_cannot_be_added_to_an_entry_without_one(tables: Database, query: Query) -> None:
    """An entry that speaks of nobody says so in what is signed."""
    await _fill(tables, *_chain())
    query("UPDATE audit SET user_id = 'U0GRACE01' WHERE number = 1")
    assert await _complaint(tables) == "entry 1: what it says of a person was added"


async def test_what_another_key_signed_is_told_apart(tables: Database, query: Query) -> None:
    """It is not called broken, nor verified; its links are, and with its key all of it is."""
    await _fill(tables, *_chain(3), chain=OTHER)
    await _fill(tables, *_chain(2))
    verified = await _verify(tables)
    [(key_id, entries)] = verified.unverified.items()
    assert (key_id, str(entries), verified.head.number) == (OTHER.authenticity.key_id, "entries 1 to 3 are", 5)
    keys = Authenticity([AUDIT_KEY, "the key of before, which nobody has any more today"])
    assert (await _verify(tables, authenticity=keys)).unverified == {}
    query("DELETE FROM audit WHERE number = 2")
    assert await _complaint(tables) == "entry 2: missing"


async def test_keys_that_took_turns_are_counted(tables: Database) -> None:
    """While a key is replaced, processes with the old one and with the new one write at the same time."""
    for chain in (OTHER, CHAIN, OTHER, CHAIN):
        await _fill(tables, _entry(), chain=chain)
    [entries] = (await _verify(tables)).unverified.values()
    assert str(entries) == "2 entries between 1 and 3 are"
    await _fill(tables, _entry(), chain=AuditChain(Authenticity(["a third one, which is not at hand either"])))
    assert [str(each) for each in (await _verify(tables)).unverified.values()][1] == "entry 5 is"


async def test_made_up_keys_are_a_fault(tables: Database) -> None:
    """Who can write to the database could name another one in each entry; the memory stays bounded."""
    for number in range(9):
        await _fill(tables, _entry(), chain=AuditChain(Authenticity([f"key number {number} of somebody else"])))
    said = await _complaint(tables)
    assert said.startswith("entry 9: is signed with the key ")
    assert said.endswith(", the ninth that is not set")


async def test_times_that_go_back_are_only_remarked(tables: Database) -> None:
    """Clocks are set, and those of several processes differ."""
    await _fill(tables, *(_entry(minute=minute) for minute in (5, 3, 6, 4, 7)))
    assert [*(await _verify(tables)).remarks()] == ["times that go back: 2, first at entry 2 (a clock was set)"]


@contextmanager
def _in_memory() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        yield connection
    engine.dispose()


def _judge(rows: list[Row]) -> Head:
    verification = Verification(CHAIN.authenticity)
    for row in rows:
        verification.examine(row)
    verification.finish()
    return verification.head


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
PEOPLE = st.none() | st.builds(Who, user_id=TEXTS, team_id=TEXTS, channel_id=TEXTS, reason=TEXTS)
ENTRIES = st.builds(
    Entry,
    event=st.sampled_from([Event.SUBMITTED, Event.ENDED, Event.WRITTEN]),
    at=st.integers(-100, 100).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    key=st.sampled_from([None, LAKE]),
    submission_id=TEXTS,
    details=TEXTS,
    who=PEOPLE,
)


def _forget_at_random(connection: Connection, data: st.DataObject, length: int) -> None:
    forgotten = sorted(data.draw(st.sets(st.integers(1, length))))
    for number in forgotten:
        connection.execute(update(AUDIT).where(AUDIT.c.number == number).values(FORGET))
    details = data.draw(
        st.sampled_from([{"up_to": max(forgotten, default=0)}, {"entries": [[each, each] for each in forgotten]}])
    )
    CHAIN.append(connection, [_entry(Event.PEOPLE_FORGOTTEN, who=None, details=json.dumps(details))])


def _tamper(rows: list[Row], data: st.DataObject) -> list[Row]:
    """Return the rows with one thing changed, in the order of their numbers."""
    at = data.draw(st.integers(0, len(rows) - 1), label="at")
    act = data.draw(st.sampled_from(["change", "delete", "swap", "repeat", "take from another"]), label="act")
    changed = [dict(row) for row in rows]
    if act == "change":
        column = data.draw(st.sampled_from(COLUMNS), label="column")
        changed[at][column] = _another(rows[at][column], data)
    elif act == "delete" and at < len(rows) - 1:
        del changed[at]
    elif act == "repeat":
        changed.append(dict(rows[at]) | {"number": len(rows) + 1})
    elif act == "swap":
        other = data.draw(st.integers(0, len(rows) - 1), label="other")
        numbers = rows[other]["number"], rows[at]["number"]
        changed[at]["number"], changed[other]["number"] = numbers
    else:
        column = data.draw(st.sampled_from(COLUMNS), label="column")
        changed[at][column] = rows[data.draw(st.integers(0, len(rows) - 1))][column]
    return sorted(changed, key=lambda row: row["number"])


def _another(value: object, data: st.DataObject) -> object:
    if isinstance(value, int):
        return value + data.draw(st.integers(1, 10**6))
    return data.draw(st.one_of(TEXTS, st.none(), st.integers(), st.just(NOW + timedelta(days=1000))))


def _is_forgotten_as_told(rows: list[Row], changed: list[Row]) -> bool:
    """Whether only a person was removed, whom the chain says to be forgotten, as when the bot forgets: no harm done."""
    differing = [(one, two) for one, two in zip(rows, changed, strict=False) if one != two]
    return all({name for name in one if one[name] != two[name]} <= {*FORGET} for one, two in differing)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(entries=st.lists(ENTRIES, min_size=2, max_size=8), data=st.data())
def test_any_tampering_is_found_and_nothing_else(entries: list[Entry], data: st.DataObject) -> None:
    """Whatever the chain says, whoever is forgotten, and whatever one thing is done to it afterwards."""
    with _in_memory() as connection:
        CHAIN.append(connection, entries)
        if data.draw(st.booleans(), label="forgets"):
            _forget_at_random(connection, data, len(entries))
        found: list[Mapping[str, Any]] = [row._asdict() for row in connection.execute(select(AUDIT))]
    rows = [dict(row) for row in found]
    assert _judge(rows).number == len(rows)
    changed = _tamper(rows, data)
    if changed == rows:
        return
    try:
        _judge(changed)
    except Broken:
        return
    assert _is_forgotten_as_told(rows, changed)
