"""The request bodies of Anthropic's Messages API.

Only what decides something is typed here; blocks and tools are read where they are understood (``conversation``,
``tools``), because clients send kinds that this server has never heard of and must not fail on them. Fields that are
legal but mean nothing in front of one model are listed, so that they are not reported as unknown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from portico.protocols.bounds import FEW, Items, Objects
from portico.protocols.kinds import FLAG, OBJECT, TEXT, Kinds
from portico.protocols.validation import Keys, RequestModel, fault

__all__ = [
    "ContextEdit",
    "ContextManagement",
    "CountTokensRequest",
    "MessagesRequest",
    "OutputConfig",
    "OutputFormat",
    "Thinking",
    "ToolChoice",
]

# What blocks and tools may hold; what clients send for Anthropic's own ends and means nothing here is known too.
CACHE = Keys.of("type", "ttl", "scope")
SOURCE = Keys.of("type", "media_type", "data", "url", "file_id", "content")
INNER = Keys.of(
    *("type", "text", "title", "context", "tool_name", "source", "content"),
    *("url", "encrypted_content", "page_age", "error_code"),  # of what Anthropic's servers found: left out as a whole
    cache_control=CACHE,
)
BLOCK = Keys.of(
    *("type", "text", "title", "context", "tool_name", "id", "name", "input", "caller", "tool_use_id", "is_error"),
    *("thinking", "signature", "data"),
    source=SOURCE,
    content=INNER,
    cache_control=CACHE,
)
MESSAGE = Keys.of("role", content=BLOCK)
TOOL = Keys.of(
    *("type", "name", "description", "input_schema", "strict", "defer_loading", "eager_input_streaming"),
    *("allowed_callers", "input_examples", "max_characters", "enable_zoom"),
    *("display_width_px", "display_height_px", "display_number"),
    *("max_uses", "allowed_domains", "blocked_domains", "user_location", "max_content_tokens", "citations"),
    *("configs", "mcp_server_name", "default_config", "model"),  # of tools that are left out as a whole
    cache_control=CACHE,
)

CACHED = Kinds({"cache_control": OBJECT}, {"cache_control": Kinds({"type": TEXT, "ttl": TEXT})})
BLOCK_KINDS = Kinds(
    {**CACHED.of, "signature": TEXT, "is_error": FLAG, "input": OBJECT},
    {**CACHED.inside, "content": CACHED},
)
MESSAGE_KINDS = Kinds(
    {},
    {
        "messages": Kinds({}, {"content": BLOCK_KINDS}),
        "system": BLOCK_KINDS,
        "tools": Kinds({**CACHED.of, "strict": FLAG, "defer_loading": FLAG}, CACHED.inside),
        "metadata": Kinds({"user_id": TEXT}),
    },
)

MIN_BUDGET = 1024  # tokens; the API's own lower bound


class Thinking(RequestModel):
    """``thinking``: whether the model is to think, for how long, and whether the thoughts are shown.

    ``type`` is ``enabled``, ``disabled``, ``adaptive`` or ``between_tools``; one that is not known leaves it to the
    model. ``display`` ``omitted`` keeps the text of the thoughts inside their signature.
    """

    type: str
    budget_tokens: Annotated[int, Field(ge=MIN_BUDGET)] | None = None
    display: str | None = None

    @model_validator(mode="after")
    def _enabled_needs_a_budget(self) -> Thinking:
        if self.type == "enabled" and self.budget_tokens is None:
            raise fault("budget_tokens", "thinking of type 'enabled' needs 'budget_tokens'")
        return self


class ToolChoice(RequestModel):
    """``tool_choice``."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _tool_needs_a_name(self) -> ToolChoice:
        if self.type == "tool" and not self.name:
            raise fault("name", "tool_choice of type 'tool' needs the 'name' of a tool")
        return self


class OutputFormat(RequestModel):
    """The form that the answer's text must have."""

    type: Literal["json_schema"]
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(RequestModel):
    """``output_config``."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Amount(RequestModel):
    """So many of ``type``: ``input_tokens``, ``tool_uses`` or ``thinking_turns``; ``all`` has no number."""

    type: str
    value: Annotated[int, Field(ge=0)] | None = None


class Threshold(Amount):
    """An amount that is reached or not."""

    value: Annotated[int, Field(ge=0)]


class ContextEdit(RequestModel):
    """One of ``context_management.edits``; which fields mean something depends on its type (see ``context``)."""

    type: str
    trigger: Threshold | None = None
    keep: Amount | Literal["all"] | None = None
    clear_at_least: Threshold | None = None
    exclude_tools: Items[str] | None = None
    clear_tool_inputs: bool | Items[str] | None = None


class ContextManagement(RequestModel):
    """``context_management``."""

    edits: Annotated[Items[ContextEdit], Field(max_length=16)] | None = None


class CountTokensRequest(RequestModel):
    """POST /v1/messages/count_tokens: all of a message request that its prompt is made of."""

    model: str
    messages: Annotated[Objects, Field(min_length=1, max_length=100_000), MESSAGE]
    system: Annotated[str | Objects | None, BLOCK] = None
    tools: Annotated[Objects | None, TOOL] = None
    tool_choice: ToolChoice | None = None
    thinking: Annotated[Thinking | None, FEW] = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # where output_config.format was before
    context_management: ContextManagement | None = None
    mcp_servers: Items[Any] | None = None  # left out and told: this server calls none

    # accepted, without a meaning here
    cache_control: Annotated[dict[str, Any] | None, CACHE] = None  # every prefix is cached, asked for or not
    speed: str | None = None

    @model_validator(mode="after")
    def _kinds(self) -> CountTokensRequest:
        MESSAGE_KINDS.check({name: getattr(self, name, None) for name in MESSAGE_KINDS.inside}, "")
        return self

    @model_validator(mode="after")
    def _what_cannot_be(self) -> CountTokensRequest:
        if self.output_format and self.output_config and self.output_config.format:
            raise fault("output_format", "send 'output_config.format' or the older 'output_format', not both")
        return self

    @property
    def edits(self) -> list[ContextEdit]:
        """What is to be cleared out of the history, in this order."""
        return (self.context_management.edits if self.context_management else None) or []

    @property
    def effort(self) -> str | None:
        """How hard the model is to try."""
        return self.output_config.effort if self.output_config else None

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """The JSON schema that the answer's text must follow."""
        wanted = (self.output_config.format if self.output_config else None) or self.output_format
        return wanted.json_schema if wanted else None


class MessagesRequest(CountTokensRequest):
    """POST /v1/messages. ``max_tokens`` 0 reads the prompt into the cache and answers nothing."""

    max_tokens: Annotated[int, Field(ge=0)]
    stream: bool | None = None
    stop_sequences: Items[Annotated[str, Field(max_length=4096)]] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None

    # accepted, without a meaning here
    metadata: Annotated[dict[str, Any] | None, FEW] = None
    service_tier: str | None = None  # there is one tier
    inference_geo: str | None = None
    diagnostics: dict[str, Any] | None = None
