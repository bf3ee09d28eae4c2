"""Which file a batch reads, and files that are deleted and there only for such a batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("portico_files", sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("portico_batches", sa.Column("reads", sa.String))
    op.create_index("portico_batches_by_file", "portico_batches", ["reads"])
