"""The tables. Every change to them needs a new step in `migrations`; a test compares the two."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TextClause,
    TypeDecorator,
    text,
)


class _UtcDateTime(TypeDecorator[datetime]):
    """Stores aware datetimes as UTC; SQLite itself knows no time zones.

    An invalid time is read as None: an error here would fail every other row of the query.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value.astimezone(UTC) if value else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Return a reader of values that reads a damaged one as None."""
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def read_or_none(value: object) -> datetime | None:
            try:
                return read(value)
            except (ValueError, TypeError, OverflowError):
                return None

        return read_or_none

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)) if value else None


METADATA: Final = MetaData()

OPENINGS: Final = Table(
    "openings",
    METADATA,
    Column("nonce", String, primary_key=True),
    Column("team_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("expires_at", _UtcDateTime, nullable=False),
    Column("used_by", String),
    Column("signature", String),
)

SUBMISSIONS: Final = Table(
    "submissions",
    METADATA,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String, nullable=False, unique=True),
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
    Column("sent_at", _UtcDateTime, nullable=False),
    Column("accepted_at", _UtcDateTime, nullable=False),
    Column("expires_at", _UtcDateTime, nullable=False),
    Column("next_attempt_at", _UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("possibly_written", Boolean, nullable=False, default=False),
    Column("checked_at", _UtcDateTime),
    Column("patience_until", _UtcDateTime),
    Column("token_id", String),
    Column("token_owner", String),
    Column("token_expires_at", _UtcDateTime),
    Column("unchecked", String),
    Column("credential_before", String),
    Column("confirm_until", _UtcDateTime),
    Column("ended_at", _UtcDateTime),
    Column("error_code", String),
    Column("cloudflare_code", Integer),
    Column("cloudflare_message", String),
    Column("cf_ray", String),
    Column("confirmation", String),
    Column("reported_at", _UtcDateTime),
    Column("superseded_by", String),
    Column("revision", Integer, nullable=False, default=0),
    Column("nonce", String),
    Column("fingerprint", String),
    Column("token_digest", String),
    Column("response_url_digest", String),
    Column("signature", String),
    Column("approval_channel", String),
    Column("decided_by", String),
    Column("progress", String),
    sqlite_autoincrement=True,
)


def _index_some(name: str, are_some: ColumnElement[bool] | TextClause, *columns: Column[Any]) -> None:
    """Add an index of a few submissions of each bucket to the table; the condition is the same in both databases."""
    its_bucket = SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket
    Index(name, *its_bucket, *columns, sqlite_where=are_some, postgresql_where=are_some)


_PLACE: Final = (SUBMISSIONS.c.sent_at, SUBMISSIONS.c.accepted_at, SUBMISSIONS.c.sequence)
_index_some("submissions_open", SUBMISSIONS.c.reported_at.is_(None), *_PLACE)
_index_some("submissions_written", SUBMISSIONS.c.confirm_until.is_not(None), *_PLACE[:2])
_index_some("submissions_uncertain", text("state = 'uncertain'"), *_PLACE)
Index("submissions_history", SUBMISSIONS.c.account_id, SUBMISSIONS.c.bucket, SUBMISSIONS.c.sequence)
Index("submissions_newest", SUBMISSIONS.c.account_id, SUBMISSIONS.c.sequence)

APPROVAL_REQUESTS: Final = Table(
    "approval_requests",
    METADATA,
    Column("submission_id", String, primary_key=True),
    Column("channel_id", String, nullable=False),
    Column("message_ts", String),
    Column("asked_at", _UtcDateTime, nullable=False),
    Column("signature", String),
)

DECISIONS: Final = Table(
    "decisions",
    METADATA,
    Column("submission_id", String, primary_key=True),
    Column("choice", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("decided_at", _UtcDateTime, nullable=False),
    Column("digest", String, nullable=False),
    Column("signature", String, nullable=False),
)

LEASES: Final = Table(
    "leases",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

CATALOGS: Final = Table(
    "catalogs",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("credential_status", String, nullable=False),
    Column("tested", String),
    Column("tested_at", _UtcDateTime),
)

CREDENTIALS: Final = Table(
    "credentials",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("submission_id", String, nullable=False),
    Column("stored_by", String, nullable=False),
    Column("stored_at", _UtcDateTime, nullable=False),
    Column("channel_id", String, nullable=False),
    Column("token_id", String),
    Column("expires_at", _UtcDateTime),
    Column("reminded_at", _UtcDateTime),
    Column("broken_at", _UtcDateTime),
)

CATALOG_CHANGES: Final = Table(
    "catalog_changes",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("part", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""When a row of another table, `part`, changed last or was deleted: written by triggers, never by the bot.

The number counts the account's changes on SQLite, and is the transaction's id on PostgreSQL: `known_catalogs` reads it.
"""
Index("catalog_changes_newest", CATALOG_CHANGES.c.account_id, CATALOG_CHANGES.c.number)

SNAPSHOTS: Final = Table(
    "snapshots",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("refreshed_at", _UtcDateTime, nullable=False),
    Column("tested_at", _UtcDateTime),
)

PACE: Final = Table(
    "pace",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("quota", Integer, nullable=False),
    Column("window_seconds", Integer, nullable=False),
    Column("spent", JSON, nullable=False),
    Column("newest_at", _UtcDateTime, nullable=False),
    Column("next_at", _UtcDateTime, nullable=False),
    Column("spare", Integer),
    Column("resets_at", _UtcDateTime),
    Column("blocked_until", _UtcDateTime),
)

WORKERS_KEYS: Final = Table(
    "workers_keys",
    METADATA,
    Column("key_id", String, primary_key=True),
    Column("seen_at", _UtcDateTime, nullable=False),
)

ORIGINS: Final = Table(
    "origins",
    METADATA,
    Column("id", String, primary_key=True),
    Column("server_id", String),
    Column("database_oid", String),
    Column("table_oid", String),
    Column("timeline", String),
    Column("sent", BigInteger, nullable=False),
)

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", _UtcDateTime, nullable=False),
    *(
        Column(name, String, nullable=False)
        for name in (
            "event",
            "account_id",
            "bucket",
            "submission_id",
            "task",
            "outcome",
            "code",
            "token_id",
            "fingerprint",
            "cf_ray",
            "details",
        )
    ),
    *(Column(name, String) for name in ("user_id", "team_id", "channel_id", "reason", "salt")),
    *(Column(name, String, nullable=False) for name in ("people_digest", "previous", "signature")),
)
"""One chain for all processes: only `bot.storage.audit` appends, and only `bot.storage.people` empties columns."""
Index("audit_submissions", AUDIT.c.submission_id)
_KNOWN: Final = text("user_id IS NOT NULL")
Index("audit_people", AUDIT.c.user_id, sqlite_where=_KNOWN, postgresql_where=_KNOWN)
Index("audit_remembered", AUDIT.c.number, sqlite_where=_KNOWN, postgresql_where=_KNOWN)

AUDIT_WEBHOOK: Final = Table(
    "audit_webhook",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("delivered", BigInteger, nullable=False),
    Column("signature", String, nullable=False),
    Column("holder", String),
    Column("held_until", _UtcDateTime),
)
"""One row: the last entry that the audit's webhook has got, and the process that sends the next ones."""

MINTED_TOKENS: Final = Table(
    "minted_tokens",
    METADATA,
    Column("name", String, primary_key=True),
    Column("account_id", String, nullable=False),
    Column("bucket", String, nullable=False),
    Column("submission_id", String),
    Column("state", String, nullable=False),
    Column("token_id", String),
    Column("scope", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("intended_at", _UtcDateTime, nullable=False),
    Column("due_at", _UtcDateTime, nullable=False),
    Column("changed_at", _UtcDateTime, nullable=False),
    Column("disabled_at", _UtcDateTime),
    Column("tested_at", _UtcDateTime),
    Column("expires_at", _UtcDateTime),
    Column("was_sent", Boolean, nullable=False),
    Column("undone", Integer, nullable=False),
    Column("trouble", String),
    Column("revision", Integer, nullable=False),
    Column("signature", String, nullable=False),
)
"""Written ahead of each call that makes or changes a token of ours. Never a token's value."""
IS_LEFT: Final = text("state <> 'dead' AND state <> 'gone'")
"""The condition of the index, word for word: by parameters, SQLite would not see that a query has it."""
Index(
    "minted_tokens_left",
    MINTED_TOKENS.c.account_id,
    MINTED_TOKENS.c.bucket,
    MINTED_TOKENS.c.state,
    MINTED_TOKENS.c.token_id,
    sqlite_where=IS_LEFT,
    postgresql_where=IS_LEFT,
)
Index("minted_tokens_submission", MINTED_TOKENS.c.submission_id)

MINTING_LEASES: Final = Table(
    "minting_leases",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String),
    Column("held_until", _UtcDateTime, nullable=False),
)
"""Who speaks to Cloudflare about a bucket's tokens; the row of bucket "" is for housekeeping."""

ROTATION_FAILURES: Final = Table(
    "rotation_failures",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("bucket", String, primary_key=True),
    Column("since", _UtcDateTime, nullable=False),
    Column("failed_at", _UtcDateTime, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("code", String),
)
"""The buckets that could not be rotated since a credential was stored in them; no other bucket has a row."""

INSTALLATIONS: Final = Table(
    "installations",
    METADATA,
    Column("account_id", String, primary_key=True),
    Column("mark", String, nullable=False),
    Column("seen_at", _UtcDateTime),
    Column("checked_at", _UtcDateTime),
    Column("tokens", Integer),
    Column("has_groups", Boolean),
    Column("trouble", String),
    Column("signature", String, nullable=False),
)
"""One row: what marks this installation's tokens, signed, and what the minter last found at Cloudflare."""

FLEETS: Final = Table(
    "fleets",
    METADATA,
    Column("id", String, primary_key=True),
    Column("account_id", String, nullable=False),
    Column("team_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("channel_id", String, nullable=False),
    Column("asked", String, nullable=False),
    Column("state", String, nullable=False),
    Column("buckets", String, nullable=False),
    Column("others", String, nullable=False),
    Column("proposed_at", _UtcDateTime, nullable=False),
    Column("started_at", _UtcDateTime),
    Column("ended_at", _UtcDateTime),
    Column("message_ts", String),
    Column("stopped_by", String),
    Column("alarm", String),
    Column("alarm_bucket", String),
    Column("revision", Integer, nullable=False),
    Column("signature", String, nullable=False),
    Column("holder", String),
    Column("held_until", _UtcDateTime),
)
"""Rotations of many buckets at one press; what became of each is its submission's row. Lists are separated by blanks.

`holder` is the process that works on it. At most one of an account is current.
"""
_IS_CURRENT: Final = text("state = 'running' OR state = 'stopping'")
Index(
    "fleets_current",
    FLEETS.c.account_id,
    unique=True,
    sqlite_where=_IS_CURRENT,
    postgresql_where=_IS_CURRENT,
)
