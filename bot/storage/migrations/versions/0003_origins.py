"""Records which database this is, so that a restored one is recognised."""

from alembic import op
from sqlalchemy import BigInteger, Column, String

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table; the next start fills it."""
    op.create_table(
        "origins",
        Column("id", String, primary_key=True),
        Column("server_id", String),
        Column("database_oid", String),
        Column("table_oid", String),
        Column("timeline", String),
        Column("sent", BigInteger, nullable=False),
    )
