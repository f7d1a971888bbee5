"""Recording a Submit costs the same however much was submitted before."""

import sqlite3
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, event

from bot.model.submission import Opening
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import make_new_submission


def _explain(connection: sqlite3.Connection, statement: str, parameters: Sequence[str]) -> list[str]:
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


async def test_recording_a_submission_reads_the_first_row_of_indexes_only(
    database: SqliteDatabase, submissions: Submissions
) -> None:
    """No statement of it scans a table or a bucket's history, or sorts what it found."""
    statements: list[tuple[str, Sequence[str]]] = []

    def note(_: Connection, __: object, statement: str, parameters: Sequence[str], *___: object) -> None:
        statements.append((statement, parameters))

    def watch(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", note)

    new = make_new_submission()
    await submissions.add_opening(
        Opening(
            nonce="nonce", team_id=new.team_id, user_id=new.user_id, expires_at=new.accepted_at + timedelta(hours=1)
        )
    )
    await database.run(watch)
    assert (await submissions.accept(new, "nonce")).is_recorded
    plans = await database.run(
        lambda connection: [
            _explain(connection.connection.driver_connection, *each)  # type: ignore[arg-type]  # sqlite3's
            for each in list(statements)
        ]
    )
    [_begin, reading, claiming, inserting, chaining, appending, _begin_of_this] = plans
    found = [line.partition(" USING ")[2].partition(" (")[0] for line in reading if line.startswith("SEARCH")]
    assert found == ["INDEX submissions_open", "INDEX submissions_written", "INDEX submissions_uncertain"]
    assert not any("TEMP B-TREE" in line for line in reading)
    assert [line.partition(" (")[0] for line in claiming] == ["SEARCH openings USING INDEX sqlite_autoindex_openings_1"]
    assert inserting == appending == []
    assert chaining == ["SCAN audit"]  # backwards by its primary key: one row
