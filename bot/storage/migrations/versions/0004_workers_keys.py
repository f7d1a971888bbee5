"""Lets gateways know which sealed tokens the workers can open."""

from alembic import op
from sqlalchemy import Column, DateTime, String

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the keys that workers have said that they have."""
    op.create_table(
        "workers_keys",
        Column("key_id", String, primary_key=True),
        Column("seen_at", DateTime(timezone=True), nullable=False),
    )
