"""Lets a process read only what changed in the catalogs, and lists the history without sorting it."""

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0005"
down_revision = "0004"

_PARTS = ("catalogs", "credentials")
_ON_SQLITE = """
CREATE TRIGGER {part}_{event} AFTER {event} ON {part} BEGIN
    INSERT INTO catalog_changes (account_id, bucket, part, number)
    VALUES (
        {row}.account_id, {row}.bucket, '{part}',
        (SELECT coalesce(max(number), 0) + 1 FROM catalog_changes WHERE account_id = {row}.account_id)
    )
    ON CONFLICT (account_id, bucket, part) DO UPDATE SET number = excluded.number;
END
"""
_FUNCTION = """
CREATE FUNCTION note_catalog_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    its record;
BEGIN
    IF TG_OP = 'DELETE' THEN its = OLD; ELSE its = NEW; END IF;
    INSERT INTO catalog_changes (account_id, bucket, part, number)
    VALUES (its.account_id, its.bucket, TG_TABLE_NAME, txid_current())
    ON CONFLICT (account_id, bucket, part) DO UPDATE SET number = excluded.number;
    RETURN NULL;
END
$$
"""
_ON_POSTGRES = """
CREATE TRIGGER {part}_change AFTER INSERT OR UPDATE OR DELETE ON {part}
FOR EACH ROW EXECUTE PROCEDURE note_catalog_change()
"""


def upgrade() -> None:
    """Note each change by triggers, so that no writer can forget it: also an older process during an upgrade."""
    op.create_table(
        "catalog_changes",
        Column("account_id", String, primary_key=True),
        Column("bucket", String, primary_key=True),
        Column("part", String, primary_key=True),
        Column("number", BigInteger, nullable=False),
    )
    op.create_index("catalog_changes_newest", "catalog_changes", ["account_id", "number"])
    op.create_index("submissions_newest", "submissions", ["account_id", "sequence"])
    if op.get_bind().dialect.name == "sqlite":
        for part in _PARTS:
            for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
                op.execute(_ON_SQLITE.format(part=part, event=event, row=row))
    else:
        op.execute(_FUNCTION)
        for part in _PARTS:
            op.execute(_ON_POSTGRES.format(part=part))
