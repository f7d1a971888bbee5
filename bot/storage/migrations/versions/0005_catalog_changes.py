"""Lets a process read only what changed in the catalogs, and lists the history without sorting it."""

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0005"
down_revision = "0004"

_PARTS = ("catalogs", "credentials")
_EVENTS = (
    ("insert", "INSERT", "new"),
    ("update", "UPDATE", "new"),
    ("rename", "UPDATE OF account_id, bucket", "old"),
    ("delete", "DELETE", "old"),
)
_ON_SQLITE = """
CREATE TRIGGER {part}_{name} AFTER {event} ON {part} BEGIN
    INSERT INTO catalog_changes (account_id, bucket, part, number)
    VALUES (
        {row}.account_id, {row}.bucket, '{part}',
        (SELECT coalesce(max(number), 0) + 1 FROM catalog_changes WHERE account_id = {row}.account_id)
    )
    ON CONFLICT (account_id, bucket, part) DO UPDATE SET number = excluded.number;
END
"""
# Both buckets, since an operator may rename one. The path is set, since `pg_restore --data-only` empties it.
_FUNCTION = """
CREATE OR REPLACE FUNCTION note_catalog_change() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO catalog_changes (account_id, bucket, part, number)
    SELECT its.account_id, its.bucket, TG_TABLE_NAME, txid_current()
    FROM (SELECT OLD.account_id, OLD.bucket UNION SELECT NEW.account_id, NEW.bucket) AS its (account_id, bucket)
    WHERE its.bucket IS NOT NULL
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
    op.execute("DROP TABLE IF EXISTS catalog_changes")  # a dump of before, put back over a later version, leaves it
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
            for name, event, row in _EVENTS:
                op.execute(_ON_SQLITE.format(part=part, name=name, event=event, row=row))
    else:
        op.execute(_FUNCTION)
        for part in _PARTS:
            op.execute(_ON_POSTGRES.format(part=part))
