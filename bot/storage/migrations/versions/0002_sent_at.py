"""Orders submissions by when Slack sent them, not by when they arrived."""

from alembic import op
from sqlalchemy import Column, DateTime, text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add `sent_at`, and take existing submissions as sent when they arrived."""
    op.drop_index("submissions_open", "submissions")
    op.drop_index("submissions_written", "submissions")
    op.add_column("submissions", Column("sent_at", DateTime(timezone=True)))
    op.execute("UPDATE submissions SET sent_at = accepted_at")
    _forbid_null()
    for name, columns, condition in (
        ("submissions_open", ["sent_at", "accepted_at", "sequence"], "reported_at IS NULL"),
        ("submissions_written", ["sent_at", "accepted_at"], "confirm_until IS NOT NULL"),
    ):
        op.create_index(
            name,
            "submissions",
            ["account_id", "bucket", *columns],
            sqlite_where=text(condition),
            postgresql_where=text(condition),
        )


def _forbid_null() -> None:
    """Forbid NULL. SQLite recreates the table for that, and would forget the last number it assigned."""
    last_given = text("SELECT seq FROM sqlite_sequence WHERE name = 'submissions'")
    last = op.get_bind().scalar(last_given) if op.get_bind().dialect.name == "sqlite" else None
    with op.batch_alter_table("submissions", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("sent_at", nullable=False)
    if last is not None:
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'submissions'")
        op.get_bind().execute(text("INSERT INTO sqlite_sequence VALUES ('submissions', :last)"), {"last": last})
