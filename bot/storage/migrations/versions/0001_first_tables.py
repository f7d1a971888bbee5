"""The tables of the first version."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Integer, String, text

revision = "0001"
down_revision = None

_UTC = DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "openings",
        Column("nonce", String, primary_key=True),
        Column("team_id", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("expires_at", _UTC, nullable=False),
        Column("used_by", String),
    )
    _create_submissions()
    op.create_table(
        "leases",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
    )
    op.create_table(
        "catalogs",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("status", String, nullable=False),
        Column("credential_status", String, nullable=False),
        Column("tested", String),
        Column("tested_at", _UTC),
    )
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
    op.create_table(
        "snapshots",
        Column("account_id", String, primary_key=True),
        Column("refreshed_at", _UTC, nullable=False),
        Column("tested_at", _UTC),
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


def _create_submissions() -> None:
    op.create_table(
        "submissions",
        Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("id", String, nullable=False, unique=True),
        Column("revision", Integer, nullable=False),
        Column("task", String, nullable=False),
        Column("state", String, nullable=False),
        Column("team_id", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("account_id", String, nullable=False),
        Column("bucket", String, nullable=False),
        Column("channel_id", String, nullable=False),
        Column("reason", String, nullable=False),
        Column("token_kind", String, nullable=False),
        Column("last_four", String, nullable=False),
        Column("sealed_token", String),
        Column("sealed_response_url", String),
        Column("accepted_at", _UTC, nullable=False),
        Column("expires_at", _UTC, nullable=False),
        Column("next_attempt_at", _UTC, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("possibly_written", Boolean, nullable=False),
        Column("checked_at", _UTC),
        Column("patience_until", _UTC),
        Column("token_id", String),
        Column("token_owner", String),
        Column("token_expires_at", _UTC),
        Column("unchecked", String),
        Column("credential_before", String),
        Column("confirm_until", _UTC),
        Column("ended_at", _UTC),
        Column("error_code", String),
        Column("cloudflare_code", Integer),
        Column("cloudflare_message", String),
        Column("cf_ray", String),
        Column("confirmation", String),
        Column("reported_at", _UTC),
        Column("superseded_by", String),
        sqlite_autoincrement=True,
    )
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
    op.create_index("submissions_history", "submissions", ["account_id", "bucket", "sequence"])
