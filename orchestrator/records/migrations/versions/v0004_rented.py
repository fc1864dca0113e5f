"""Rented machines: the price of an attempt in full, when its reservation ends, and the provider's own account of it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns and the table; what is there stays as it is."""
    op.add_column("attempt", sa.Column("price", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("lease", sa.Column("ends_at", sa.String(), nullable=True))
    op.create_table(
        "bill",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.Column("backend", sa.String(), nullable=False),
        sa.Column("provider_micros", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.String(), nullable=True),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"]),
        sa.ForeignKeyConstraint(["key"], ["lease.key"]),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_bill_attempt_id", "bill", ["attempt_id"], unique=True)
    op.create_index("bill_by_final", "bill", ["final"], unique=False)
