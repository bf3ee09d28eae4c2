"""What Alembic runs: the steps, on the connection and in the transaction of ``portico.store.migrating``."""

from __future__ import annotations

from alembic import context

from portico.store.tables import PREFIX, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=PREFIX + "version"
)
context.run_migrations()
