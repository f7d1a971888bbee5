"""Leases with an epoch for each bucket, the pace that replicas share, and which submission replaced another."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, String, text

revision = "0002"
down_revision = "0001"

_UTC = DateTime(timezone=True)


def upgrade() -> None:
    """Add what is new; open submissions are now found in the order of their time."""
    op.add_column("submissions", Column("superseded_by", String))
    op.drop_index("submissions_open", "submissions")
    op.create_index(
        "submissions_open",
        "submissions",
        ["account_id", "bucket", "accepted_at", "sequence"],
        sqlite_where=text("reported_at IS NULL"),
        postgresql_where=text("reported_at IS NULL"),
    )
    op.create_index(
        "submissions_written",
        "submissions",
        ["account_id", "bucket", "accepted_at"],
        sqlite_where=text("confirm_until IS NOT NULL"),
        postgresql_where=text("confirm_until IS NOT NULL"),
    )
    op.create_table(
        "leases",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
    )
    op.create_table(
        "pace",
        Column("account_id", String, primary_key=True),
        Column("quota", Integer, nullable=False),
        Column("window_seconds", Integer, nullable=False),
        Column("spent", JSON, nullable=False),
        Column("newest_at", _UTC, nullable=False),
        Column("next_at", _UTC, nullable=False),
        Column("spare", Integer),
        Column("resets_at", _UTC),
        Column("blocked_until", _UTC),
    )
