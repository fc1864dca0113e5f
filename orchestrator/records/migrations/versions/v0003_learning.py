"""Observations that can be shared: what was predicted, what was seen beside the peaks, and an id by content."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_CONTENT = (
    "name", "variant", "spec_digest", "gpu", "outcome", "peak_ram_bytes", "peak_vram_bytes", "ram_capacity_bytes",
    "vram_capacity_bytes", "setup_seconds", "run_seconds", "at",
)  # fmt: skip
_SIZES = (
    "load_ram_bytes", "device_vram_bytes", "ram_above_bytes", "vram_above_bytes", "vram_usable_bytes",
    "predicted_ram_bytes", "predicted_vram_bytes",
)  # fmt: skip


def upgrade() -> None:
    """Add the columns; observations may now be without an attempt."""
    with op.batch_alter_table("observation") as table:
        table.alter_column("attempt_id", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("content_id", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("family", sa.String(), nullable=False, server_default=""))
        for name in _SIZES:
            table.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("step_seconds", sa.Float(), nullable=True))
        table.add_column(sa.Column("versions", sa.Text(), nullable=False, server_default="{}"))
    _give_ids()
    with op.batch_alter_table("observation") as table:
        table.create_unique_constraint("observation_content_once", ["content_id"])
    op.create_index("observation_by_age", "observation", ["at", "id"])


def _give_ids() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT * FROM observation")).mappings().all()
    for row in rows:
        content = json.dumps([row[name] for name in _CONTENT])
        connection.execute(
            sa.text("UPDATE observation SET content_id = :content WHERE id = :id"),
            {"content": hashlib.sha256(content.encode("ascii")).hexdigest(), "id": row["id"]},
        )
