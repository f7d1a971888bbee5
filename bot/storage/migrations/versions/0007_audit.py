"""Signs what a gateway records, and keeps a chained record of everything that was tried, decided and done."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Integer, String, text

revision = "0007"
down_revision = "0006"

# Volatile, as by default: the second statement sees what was committed while the first one waited. The path is set,
# since `pg_restore --data-only` empties it.
_FUNCTION = """
CREATE OR REPLACE FUNCTION last_audit_entry() RETURNS TABLE (number bigint, signature text)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('r2-credential-bot audit', 0));
    RETURN QUERY SELECT its.number, CAST(its.signature AS text) FROM audit AS its ORDER BY its.number DESC LIMIT 1;
END
$$
"""


def upgrade() -> None:
    """Add the signatures and the chain; the same start signs what was open before (`bot.storage.adoption`)."""
    for name in ("nonce", "fingerprint", "token_digest", "response_url_digest", "signature"):
        op.add_column("submissions", Column(name, String))
    op.add_column("openings", Column("signature", String))
    op.create_table(
        "audit",  # a dump of before, put back over a later version, leaves it, and it is evidence
        Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("event", String, nullable=False),
        Column("account_id", String, nullable=False),
        Column("bucket", String, nullable=False),
        Column("submission_id", String, nullable=False),
        Column("task", String, nullable=False),
        Column("outcome", String, nullable=False),
        Column("code", String, nullable=False),
        Column("token_id", String, nullable=False),
        Column("fingerprint", String, nullable=False),
        Column("cf_ray", String, nullable=False),
        Column("details", String, nullable=False),
        Column("user_id", String),
        Column("team_id", String),
        Column("channel_id", String),
        Column("reason", String),
        Column("salt", String),
        Column("people_digest", String, nullable=False),
        Column("previous", String, nullable=False),
        Column("signature", String, nullable=False),
        if_not_exists=True,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
    op.create_index("audit_submissions", "audit", ["submission_id"], if_not_exists=True)
    is_known = text("user_id IS NOT NULL")
    for name, column in (("audit_people", "user_id"), ("audit_remembered", "number")):
        op.create_index(name, "audit", [column], sqlite_where=is_known, postgresql_where=is_known, if_not_exists=True)
