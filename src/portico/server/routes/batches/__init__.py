"""The paths of batches, of both APIs that have them."""

from portico.server.routes.batches import anthropic, openai
from portico.server.routes.batches.anthropic import MessageBatchHandlers
from portico.server.routes.batches.openai import BatchHandlers

__all__ = ["BODIES", "BatchHandlers", "MessageBatchHandlers"]

BODIES = {**openai.BODIES, **anthropic.BODIES}
