"""The paths of batches, of both APIs that have them, and what the page of batches shows."""

from portico.server.routes.batches import anthropic, openai
from portico.server.routes.batches.anthropic import MessageBatchHandlers
from portico.server.routes.batches.openai import BatchHandlers
from portico.server.routes.batches.page import BatchPageHandlers

__all__ = ["BODIES", "BatchHandlers", "BatchPageHandlers", "MessageBatchHandlers"]

BODIES = {**openai.BODIES, **anthropic.BODIES}
