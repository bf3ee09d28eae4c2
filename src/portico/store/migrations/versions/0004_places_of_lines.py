"""In which order the lines of a batch are run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("portico_batch_lines", sa.Column("place", sa.BigInteger, nullable=False, server_default="0"))
    op.drop_index("portico_batch_lines_by_outcome", "portico_batch_lines")
    op.create_index("portico_batch_lines_by_outcome", "portico_batch_lines", ["batch_id", "outcome", "place"])
