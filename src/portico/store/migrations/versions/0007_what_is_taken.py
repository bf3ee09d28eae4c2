"""What processes have taken is found without reading the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TAKEN = sa.text("worker IS NOT NULL")


def upgrade() -> None:
    for table in ("portico_responses", "portico_conversations"):
        op.drop_index(f"{table}_by_worker", table)
    for table in ("portico_responses", "portico_conversations", "portico_files", "portico_batches"):
        op.create_index(f"{table}_by_worker", table, ["worker"], sqlite_where=TAKEN, postgresql_where=TAKEN)
