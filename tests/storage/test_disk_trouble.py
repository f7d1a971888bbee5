"""A full disk is told by its name, with the fix."""

import io
import json

import pytest
from sqlalchemy import Connection

from bot.model.errors import DatabaseUnavailable
from bot.storage.sqlite import SqliteDatabase


async def test_a_full_disk_is_told_to_the_operator(database: SqliteDatabase, log: io.StringIO) -> None:
    """SQLite's own limit stands for the disk's; no statement is quoted."""

    def limit(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await database.run(limit)
    with pytest.raises(DatabaseUnavailable):
        await database.run(
            lambda connection: connection.exec_driver_sql("CREATE TABLE marker AS SELECT zeroblob(1000000)")
        )

    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["level"], line["cause"]) == ("database_not_written", "error", "SQLITE_FULL")
    assert line["setting"] == "R2_CREDENTIAL_DATABASE_URL"
    assert line["fix"]
    assert "marker" not in log.getvalue()
