"""What the checks before a write have found, what each slot holds through the bot, and the tests of it."""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, String

revision = "0003"
down_revision = "0002"

_UTC = DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; all that was submitted before asked for a token to be stored, and the last one is in its slot.

    Also one that is still being confirmed: it is written. The last one is told by its time, since a repeated Submit
    keeps its sequence.
    """
    op.add_column("submissions", Column("task", String, nullable=False, server_default="store"))
    op.add_column("submissions", Column("revision", Integer, nullable=False, server_default="0"))
    op.add_column("submissions", Column("checked_at", _UTC))
    op.add_column("submissions", Column("patience_until", _UTC))
    op.add_column("submissions", Column("token_id", String))
    op.add_column("submissions", Column("token_owner", String))
    op.add_column("submissions", Column("token_expires_at", _UTC))
    op.add_column("submissions", Column("unchecked", String))
    op.add_column("submissions", Column("cloudflare_message", String))
    op.create_index("submissions_history", "submissions", ["account_id", "bucket", "sequence"])
    op.add_column("catalogs", Column("tested", String))
    op.add_column("catalogs", Column("tested_at", _UTC))
    op.add_column("snapshots", Column("tested_at", _UTC))
    op.create_table(
        "credentials",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("submission_id", String, nullable=False),
        Column("stored_by", String, nullable=False),
        Column("stored_at", _UTC, nullable=False),
        Column("channel_id", String, nullable=False),
        Column("token_id", String),
        Column("expires_at", _UTC),
        Column("reminded_at", _UTC),
        Column("broken_at", _UTC),
    )
    op.execute(
        "INSERT INTO credentials (account_id, bucket, submission_id, stored_by, stored_at, channel_id) "
        "SELECT account_id, bucket, id, user_id, COALESCE(ended_at, accepted_at), channel_id FROM "
        "(SELECT *, row_number() OVER (PARTITION BY account_id, bucket ORDER BY accepted_at DESC, sequence DESC) "
        "AS place FROM submissions WHERE state IN ('confirming', 'stored')) AS written WHERE place = 1"
    )
