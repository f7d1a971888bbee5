"""Keeps the tokens that the bot makes itself, written ahead of each call, who makes them, and rotations of many."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, String, text

revision = "0010"
down_revision = "0009"

_TIME = DateTime(timezone=True)
_PARTS = ("minted_tokens", "rotation_failures")
_EVENTS = (
    ("insert", "INSERT", "new"),
    ("update", "UPDATE", "new"),
    ("rename", "UPDATE OF account_id, bucket", "old"),
    ("delete", "DELETE", "old"),
)
_ON_SQLITE = """
CREATE TRIGGER IF NOT EXISTS {part}_{name} AFTER {event} ON {part} BEGIN
    INSERT INTO catalog_changes (account_id, bucket, part, number)
    VALUES (
        {row}.account_id, {row}.bucket, '{part}',
        (SELECT coalesce(max(number), 0) + 1 FROM catalog_changes WHERE account_id = {row}.account_id)
    )
    ON CONFLICT (account_id, bucket, part) DO UPDATE SET number = excluded.number;
END
"""
_ON_POSTGRES = """
CREATE TRIGGER {part}_change AFTER INSERT OR UPDATE OR DELETE ON {part}
FOR EACH ROW EXECUTE PROCEDURE note_catalog_change()
"""


def upgrade() -> None:
    """Create the tables, and note what changes in two of them as in the catalogs (0005)."""
    op.create_table(
        "minted_tokens",
        Column("name", String, primary_key=True),
        Column("account_id", String, nullable=False),
        Column("bucket", String, nullable=False),
        Column("submission_id", String),
        Column("state", String, nullable=False),
        Column("token_id", String),
        Column("scope", String, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("intended_at", _TIME, nullable=False),
        Column("due_at", _TIME, nullable=False),
        Column("changed_at", _TIME, nullable=False),
        Column("disabled_at", _TIME),
        Column("tested_at", _TIME),
        Column("expires_at", _TIME),
        Column("was_sent", Boolean, nullable=False),
        Column("undone", Integer, nullable=False),
        Column("trouble", String),
        Column("revision", Integer, nullable=False),
        Column("signature", String, nullable=False),
        if_not_exists=True,
    )
    is_left = text("state <> 'dead' AND state <> 'gone'")
    op.create_index(
        "minted_tokens_left",
        "minted_tokens",
        ["account_id", "bucket", "state", "token_id"],
        sqlite_where=is_left,
        postgresql_where=is_left,
        if_not_exists=True,
    )
    op.create_index("minted_tokens_submission", "minted_tokens", ["submission_id"], if_not_exists=True)
    op.create_table(
        "minting_leases",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
        Column("holder", String),
        Column("held_until", _TIME, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "installations",
        Column("account_id", String, primary_key=True),
        Column("mark", String, nullable=False),
        Column("seen_at", _TIME),
        Column("checked_at", _TIME),
        Column("tokens", Integer),
        Column("has_groups", Boolean),
        Column("trouble", String),
        Column("signature", String, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "rotation_failures",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("since", _TIME, nullable=False),
        Column("failed_at", _TIME, nullable=False),
        Column("failures", Integer, nullable=False),
        Column("code", String),
        if_not_exists=True,
    )
    op.create_table(
        "fleets",
        Column("id", String, primary_key=True),
        Column("account_id", String, nullable=False),
        Column("team_id", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("channel_id", String, nullable=False),
        Column("asked", String, nullable=False),
        Column("state", String, nullable=False),
        Column("buckets", String, nullable=False),
        Column("others", String, nullable=False),
        Column("proposed_at", _TIME, nullable=False),
        Column("started_at", _TIME),
        Column("ended_at", _TIME),
        Column("message_ts", String),
        Column("stopped_by", String),
        Column("alarm", String),
        Column("alarm_bucket", String),
        Column("revision", Integer, nullable=False),
        Column("signature", String, nullable=False),
        Column("holder", String),
        Column("held_until", _TIME),
        if_not_exists=True,
    )
    is_current = text("state = 'running' OR state = 'stopping'")
    op.create_index(
        "fleets_current",
        "fleets",
        ["account_id"],
        unique=True,
        sqlite_where=is_current,
        postgresql_where=is_current,
        if_not_exists=True,
    )
    _note_changes()


def _note_changes() -> None:
    for part in _PARTS:
        if op.get_bind().dialect.name == "sqlite":
            for name, event, row in _EVENTS:
                op.execute(_ON_SQLITE.format(part=part, name=name, event=event, row=row))
        else:
            op.execute(f"DROP TRIGGER IF EXISTS {part}_change ON {part}")
            op.execute(_ON_POSTGRES.format(part=part))
