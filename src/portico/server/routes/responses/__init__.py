"""The paths of the Responses API and of conversations."""

from portico.server.routes.responses import conversations, handlers
from portico.server.routes.responses.conversations import ConversationHandlers
from portico.server.routes.responses.handlers import ResponseHandlers

__all__ = ["BODIES", "ConversationHandlers", "ResponseHandlers"]

BODIES = {**handlers.BODIES, **conversations.BODIES}
