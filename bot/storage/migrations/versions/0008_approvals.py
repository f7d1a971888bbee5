"""Keeps requests for an approval, and the decisions on them; signs how far a submission has come."""

from alembic import op
from sqlalchemy import Column, DateTime, String

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the two tables, and what a submission shows of them."""
    op.add_column("submissions", Column("approval_channel", String))
    op.add_column("submissions", Column("decided_by", String))
    op.add_column("submissions", Column("progress", String))
    for left in ("approval_requests", "decisions"):  # by a dump of before, put back over a later version
        op.execute(f"DROP TABLE IF EXISTS {left}")
    op.create_table(
        "approval_requests",
        Column("submission_id", String, primary_key=True),
        Column("channel_id", String, nullable=False),
        Column("message_ts", String),
        Column("asked_at", DateTime(timezone=True), nullable=False),
        Column("signature", String),
        if_not_exists=True,  # a dump of before, put back over a later version, leaves it
    )
    op.create_table(
        "decisions",
        Column("submission_id", String, primary_key=True),
        Column("choice", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("decided_at", DateTime(timezone=True), nullable=False),
        Column("digest", String, nullable=False),
        Column("signature", String, nullable=False),
        if_not_exists=True,
    )
