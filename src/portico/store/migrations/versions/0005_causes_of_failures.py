"""Why lines of a batch failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("portico_batch_lines", sa.Column("cause", sa.String))
    op.create_index(
        "portico_batch_lines_by_cause",
        "portico_batch_lines",
        ["batch_id", "cause", "number"],
        sqlite_where=sa.text("cause IS NOT NULL"),
        postgresql_where=sa.text("cause IS NOT NULL"),
    )
