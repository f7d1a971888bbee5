"""Finds what may be in a bucket's slot without reading the bucket's history."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add an index of the few submissions that ended as uncertain."""
    is_uncertain = text("state = 'uncertain'")
    op.create_index(
        "submissions_uncertain",
        "submissions",
        ["account_id", "bucket", "sent_at", "accepted_at", "sequence"],
        sqlite_where=is_uncertain,
        postgresql_where=is_uncertain,
    )
