"""Notes which entries of the audit its webhook has got, and which process sends the next ones."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Integer, String

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table; its one row is added when the first entries are sent."""
    op.create_table(
        "audit_webhook",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("delivered", BigInteger, nullable=False),
        Column("signature", String, nullable=False),
        Column("holder", String),
        Column("held_until", DateTime(timezone=True)),
        if_not_exists=True,
    )
