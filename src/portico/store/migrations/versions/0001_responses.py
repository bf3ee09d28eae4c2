"""Responses, their items and events, conversations, and the processes that write them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "portico_processes",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("born", sa.String, nullable=False),
        sa.Column("beat", sa.Double, nullable=False),
    )
    op.create_table(
        "portico_responses",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("worker", sa.String),
        sa.Column("cancel", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("previous_id", sa.String),
        sa.Column("conversation_id", sa.String),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("portico_responses_by_age", "portico_responses", ["created_at", "size"])
    op.create_index("portico_responses_by_worker", "portico_responses", ["worker"])
    op.create_index("portico_responses_by_end", "portico_responses", ["ended_at"])
    op.create_table(
        "portico_response_items",
        sa.Column(
            "response_id", sa.String, sa.ForeignKey("portico_responses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("item_id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("portico_response_items_by_id", "portico_response_items", ["owner", "item_id"])
    op.create_table(
        "portico_events",
        sa.Column(
            "response_id", sa.String, sa.ForeignKey("portico_responses.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "portico_conversations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.String),
        sa.Column("worker", sa.String),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("portico_conversations_by_use", "portico_conversations", ["used_at", "size"])
    op.create_index("portico_conversations_by_worker", "portico_conversations", ["worker"])
    op.create_table(
        "portico_conversation_items",
        sa.Column(
            "conversation_id",
            sa.String,
            sa.ForeignKey("portico_conversations.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("item_id", sa.String, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("portico_conversation_items_by_id", "portico_conversation_items", ["item_id"])
