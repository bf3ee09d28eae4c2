"""The request bodies of the Responses API. Null means absent in every field: its clients send both.

What nothing here has an effect on is accepted where OpenAI's description has it; docs/api.md says which.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from portico.protocols.bounds import FEW, Items, Objects
from portico.protocols.responses.ids import LONGEST_ID
from portico.protocols.validation import Keys, RequestModel, fault

__all__ = [
    "AddItemsRequest",
    "CompactRequest",
    "CreateConversationRequest",
    "InputTokensRequest",
    "ResponsesRequest",
    "UpdateConversationRequest",
]

MOST_ITEMS = 10_000
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
MOST_ADDED = 20  # items that one request puts into a conversation

Item: TypeAlias = dict[str, Any]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_ID)]
ItemList = Annotated[Objects, Field(max_length=MOST_ITEMS)]


def _small(pairs: dict[str, str]) -> dict[str, str]:
    if len(pairs) > MOST_PAIRS:
        raise ValueError(f"Metadata may have at most {MOST_PAIRS} pairs")
    if any(len(key) > LONGEST_KEY or len(value) > LONGEST_VALUE for key, value in pairs.items()):
        raise ValueError(
            f"Metadata may have keys of at most {LONGEST_KEY} and values of at most {LONGEST_VALUE} characters"
        )
    return pairs


Metadata = Annotated[dict[str, str], AfterValidator(_small)]

Includable = Literal[
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    # of what nothing here makes, and of images, which their sender has
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
]

TEXT_FORMAT = Keys.of("type", "name", "schema", "strict", "description")
TOOL_CHOICE = Keys.of("type", "name", "namespace", "mode", "tools", "server_label")
CONTENT_TOO = Keys.of("id")


class Text(RequestModel):
    """``text``: the form of the answer."""

    format: Annotated[dict[str, Any] | None, TEXT_FORMAT] = None
    verbosity: Literal["low", "medium", "high"] | None = None  # echoed; a model is not told


class Reasoning(RequestModel):
    """``reasoning``: how hard the model thinks, what is shown of it, and which earlier thoughts it sees."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None  # its older name
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: Literal["standard", "pro"] | None = None

    @property
    def summarized(self) -> bool:
        """Whether thoughts are also sent as a summary, which is what many clients show."""
        return (self.summary or self.generate_summary) is not None


class StreamOptions(RequestModel):
    """``stream_options``."""

    include_obfuscation: bool | None = None  # accepted, without effect: nothing here reads the sizes of events


class ContextManagement(RequestModel):
    """One entry of ``context_management``."""

    type: Literal["compaction"]
    compact_threshold: Annotated[int, Field(ge=1)] | None = None


class CacheOptions(RequestModel):
    """``prompt_cache_options``."""

    prewarm: bool | None = None
    mode: str | None = None
    ttl: str | None = None


class BackgroundOptions(RequestModel):
    """``background_options``."""

    completion_window: Literal["soonest", "2h", "8h"] | None = None
    continuation_id: str | None = None


class PromptFields(RequestModel):
    """What says of what a prompt is made."""

    model: str | None = None
    input: str | ItemList | None = None
    instructions: str | None = None
    previous_response_id: Id | None = None

    @property
    def given(self) -> list[Item]:
        """``input`` as items."""
        if self.input is None:
            return []
        return [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input


class InputTokensRequest(PromptFields):
    """POST /v1/responses/input_tokens."""

    conversation: Id | dict[str, Any] | None = None
    tools: Annotated[Objects, Field(max_length=4096)] | None = None
    tool_choice: Annotated[str | dict[str, Any] | None, TOOL_CHOICE] = None
    parallel_tool_calls: bool | None = None
    reasoning: Annotated[Reasoning | None, FEW] = None
    text: Text | None = None
    truncation: Literal["auto", "disabled"] | None = None
    personality: str | None = None

    @property
    def conversation_id(self) -> str | None:
        """The id of ``conversation``, in either of its forms."""
        given = self.conversation
        return given["id"] if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one_past(self) -> InputTokensRequest:
        given = self.conversation
        if isinstance(given, dict) and not (isinstance(given.get("id"), str) and 0 < len(given["id"]) <= LONGEST_ID):
            raise fault("conversation.id", "conversation must be an id, or an object with one")
        if given is not None and self.previous_response_id is not None:
            raise fault("previous_response_id", "previous_response_id and conversation exclude each other")
        return self


class ResponsesRequest(InputTokensRequest):
    """POST /v1/responses."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    background_options: BackgroundOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    include: Items[Includable] | None = None
    metadata: Metadata | None = None
    context_management: Annotated[Items[ContextManagement], Field(min_length=1)] | None = None
    generate: bool | None = None  # false: read the prompt into the cache, and no more
    prompt: Annotated[dict[str, Any] | None, FEW] = None
    prompt_cache_options: CacheOptions | None = None

    # extensions, as chat completions have them
    priority: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None

    # of the frame that a request came in, which have had their effect
    type: str | None = None
    stream_id: str | None = None

    # fields without effect in front of one model
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    client_metadata: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    access_programs: Items[str] | None = None

    @property
    def with_logprobs(self) -> bool:
        """Whether the answer's text carries logprobs."""
        return "message.output_text.logprobs" in (self.include or ())

    @property
    def with_sealed_thoughts(self) -> bool:
        """Whether thoughts are also sent in a form that the client can give back."""
        return "reasoning.encrypted_content" in (self.include or ())

    @property
    def prewarms(self) -> bool:
        """Whether the prompt is only to be read."""
        return self.generate is False or bool(self.prompt_cache_options and self.prompt_cache_options.prewarm)

    @property
    def compact_threshold(self) -> int | None:
        """The number of input tokens above which the past is compacted."""
        return self.context_management[0].compact_threshold if self.context_management else None

    @model_validator(mode="after")
    def _what_goes_together(self) -> ResponsesRequest:
        if self.prompt is not None:
            raise fault("prompt", "prompt templates are kept by OpenAI; send 'instructions' and 'input'")
        if self.background and self.store is False:
            raise fault("background", "a background response is read later, so 'store' must not be false")
        later = self.background_options and self.background_options.completion_window not in (None, "soonest")
        if later and self.stream:
            raise fault("background_options.completion_window", "a response for later cannot be streamed")
        return self


class CompactRequest(PromptFields):
    """POST /v1/responses/compact."""

    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: CacheOptions | None = None
    service_tier: str | None = None

    @model_validator(mode="after")
    def _by_whom(self) -> CompactRequest:
        if self.model is None:  # elsewhere the server's first model answers; here both descriptions require it
            raise fault("model", "say by which model the conversation is to be compacted")
        return self


class CreateConversationRequest(RequestModel):
    """POST /v1/conversations."""

    items: Annotated[Objects, Field(max_length=MOST_ADDED)] | None = None
    metadata: Metadata | None = None


class UpdateConversationRequest(RequestModel):
    """POST /v1/conversations/{id}."""

    metadata: Metadata | None = None


class AddItemsRequest(RequestModel):
    """POST /v1/conversations/{id}/items."""

    items: Annotated[Objects, Field(max_length=MOST_ADDED)]
