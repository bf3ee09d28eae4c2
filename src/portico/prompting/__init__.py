"""Messages become tokens: chat templates, tokenizers, messages and their media."""

from portico.prompting.messages import Conversation, MediaPart, normalise
from portico.prompting.template import ChatTemplate

__all__ = ["ChatTemplate", "Conversation", "MediaPart", "normalise"]
