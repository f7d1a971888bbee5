"""Migrates a database's tables in numbered steps; a new database runs through the same steps.

To add a step, add a file `versions/NNNN_what_it_does.py` with the next number, `revision = "NNNN"`,
`down_revision = "the previous number"` and `upgrade()`; it is registered nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from bot.storage.database import SchemaTooNew

VERSIONS: Final = (Path(__file__).parent / "versions",)
"""The directories of the steps; the upgrade tests add one."""

_RECORDED: Final = text("SELECT version_num FROM alembic_version")
_LOCK_ID: Final = 7_214_553_190_227_316_001


def list_steps(versions: Sequence[Path] = VERSIONS) -> list[str]:
    """Return the numbers of the steps in order."""
    return sorted(path.name.partition("_")[0] for directory in versions for path in directory.glob("[0-9]*_*.py"))


def has_tables(connection: Connection) -> bool:
    """Return whether this is a database of the bot, of any version."""
    return inspect(connection).has_table("alembic_version")


def is_up_to_date(connection: Connection, versions: Sequence[Path] = VERSIONS) -> bool:
    """Return whether all steps are done, with two quick queries; raises SchemaTooNew."""
    steps = list_steps(versions)
    if not has_tables(connection):
        return False
    recorded = set(connection.scalars(_RECORDED))
    if not recorded.issubset(steps):
        raise SchemaTooNew
    return recorded == {steps[-1]}


def bring_up_to_date(connection: Connection, versions: Sequence[Path] = VERSIONS) -> None:
    """Run the remaining steps, all or none, in the current transaction; raises SchemaTooNew.

    Several processes may call it at once: on SQLite the transaction must be an immediate one; on PostgreSQL the
    others wait here for the first.
    """
    if is_up_to_date(connection, versions):
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
        if is_up_to_date(connection, versions):
            return
    _do_steps(connection, versions)


def _do_steps(connection: Connection, versions: Sequence[Path]) -> None:
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and hardly ever needed
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - the same
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - the same

    script = ScriptDirectory(Path(__file__).parent, version_locations=list(versions))
    environment = EnvironmentContext(Config(), script, fn=lambda at, _: script._upgrade_revs("head", at))  # noqa: SLF001 - as in Alembic's own cookbook
    with environment:
        environment.configure(connection=connection)
        environment.run_migrations()
