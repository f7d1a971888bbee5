"""The tables of the first version, which recorded no revision: where they are already, they stay."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, String, text

revision = "0001"
down_revision = None

_UTC = DateTime(timezone=True)


def upgrade() -> None:
    """Make what is missing."""
    op.create_table(
        "openings",
        Column("nonce", String, primary_key=True),
        Column("team_id", String, nullable=False),
        Column("user_id", String, nullable=False),
        Column("expires_at", _UTC, nullable=False),
        Column("used_by", String),
        if_not_exists=True,
    )
    op.create_table(
        "submissions",
        Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("id", String, nullable=False, unique=True),
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
        Column("confirm_until", _UTC),
        Column("ended_at", _UTC),
        Column("error_code", String),
        Column("cloudflare_code", Integer),
        Column("cf_ray", String),
        Column("credential_before", String),
        Column("confirmation", String),
        Column("reported_at", _UTC),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index(
        "submissions_open",
        "submissions",
        ["account_id", "bucket", "sequence"],
        sqlite_where=text("reported_at IS NULL"),
        postgresql_where=text("reported_at IS NULL"),
        if_not_exists=True,
    )
    op.create_table(
        "catalogs",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("status", String, nullable=False),
        Column("credential_status", String, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "snapshots",
        Column("account_id", String, primary_key=True),
        Column("refreshed_at", _UTC, nullable=False),
        if_not_exists=True,
    )
