"""Files in chunks, batches and their lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "portico_files",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("worker", sa.String),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("portico_files_by_owner", "portico_files", ["owner", "created_at", "id"])
    op.create_index("portico_files_by_age", "portico_files", ["created_at", "size"])
    op.create_table(
        "portico_file_chunks",
        sa.Column("file_id", sa.String, sa.ForeignKey("portico_files.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "portico_batches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("worker", sa.String),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("portico_batches_by_owner", "portico_batches", ["owner", "kind", "created_at", "id"])
    op.create_index("portico_batches_by_end", "portico_batches", ["ended_at"])
    op.create_table(
        "portico_batch_lines",
        sa.Column("batch_id", sa.String, sa.ForeignKey("portico_batches.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("outcome", sa.String),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary),
    )
    op.create_index("portico_batch_lines_by_outcome", "portico_batch_lines", ["batch_id", "outcome", "number"])
