"""The request bodies of OpenAI's generation routes, with vLLM's extension fields.

One class per route over one base with what they share. Ranges are OpenAI's where OpenAI has one. Bounds that depend on
the server (how many choices, logprobs, stop strings) are checked in ``sampling``.
"""

from __future__ import annotations

from array import array
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from portico.constraints import OLDER
from portico.errors import BadRequestError
from portico.protocols.bounds import IDS, Items, Objects, TokenIds
from portico.protocols.kinds import FLAG, LIST, OBJECT, TEXT, Kinds
from portico.protocols.validation import Keys, RequestModel, fault

__all__ = ["ChatRequest", "CompletionRequest", "ConversationFields", "GenerationRequest", "StreamOptions"]

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Text = Annotated[str, Field(max_length=1 << 20)]
RequestId = Annotated[str, Field(min_length=1, max_length=128)]
MOST_MESSAGES = 10_000
MOST_TEXTS = 4096  # prompts or inputs; operators' own bounds are lower
Short = Annotated[str, Field(max_length=4096)]  # what an answer is compared with as it grows
Tools = Annotated[Objects, Field(max_length=4096)]  # operators' own bound is lower


def _not_zero(tokens: int) -> int:
    if tokens == 0:
        raise ValueError("Input should be at least 1, or -1 for as many as the context holds")
    return tokens


MaxTokens = Annotated[int, Field(ge=-1)]  # -1: as many as the context holds
SomeTokens = Annotated[MaxTokens, AfterValidator(_not_zero)]


def _kind(texts: object) -> str:
    """Which kind of texts a request means, as its first item says."""
    first = texts[0] if isinstance(texts, list | array) and texts else ""
    if isinstance(texts, str):
        return "text"
    return "list" if isinstance(first, list) else "int" if isinstance(first, int | float) else "str"


Texts: TypeAlias = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Items[str], Field(max_length=MOST_TEXTS), Tag("str")]
    | Annotated[TokenIds, Tag("int")]
    | Annotated[Items[TokenIds], Field(max_length=MOST_TEXTS), Tag("list")],
    Discriminator(_kind),
    IDS,
]

# What the objects may hold that are read where they are understood (``portico.constraints``)
RESPONSE_FORMAT = Keys.of(
    "type",
    "schema",
    *("structures", "triggers", "format"),  # of a structural tag
    json_schema=Keys.of("name", "description", "schema", "strict"),
)
STRUCTURED_OUTPUTS = Keys.of(
    *("json", "json_object", "regex", "choice", "grammar", "structural_tag"),
    *("disable_any_whitespace", "whitespace_pattern"),
)
TOOL_CHOICE = Keys.of(
    *("type", "name", "mode", "tools"),
    function=Keys.of("name"),
    custom=Keys.of("name"),
    allowed_tools=Keys.of("mode", "tools"),
)

# and of which kinds their values are
FUNCTION = Kinds({"name": TEXT, "description": TEXT, "parameters": OBJECT, "strict": FLAG})
CUSTOM = Kinds({"name": TEXT, "description": TEXT, "format": OBJECT})
CALL = Kinds(
    {"type": TEXT, "id": TEXT, "function": OBJECT, "custom": OBJECT},
    {"function": Kinds({"name": TEXT, "arguments": TEXT + OBJECT}), "custom": Kinds({"name": TEXT, "input": TEXT})},
)
CHAT = Kinds(
    {},
    {
        "messages": Kinds({"name": TEXT, "refusal": TEXT, "tool_call_id": TEXT}, {"tool_calls": CALL}),
        "tools": Kinds({"type": TEXT, "function": OBJECT, "custom": OBJECT}, {"function": FUNCTION, "custom": CUSTOM}),
        "functions": FUNCTION,
        "function_call": Kinds({"name": TEXT}),
        "prediction": Kinds({"type": TEXT, "content": TEXT + LIST}),
    },
)


def one_by_one(texts: Texts) -> list[str | list[int]]:
    """The texts, each as text or token ids, where the request may have put a single one bare."""
    if isinstance(texts, str) or (texts and isinstance(texts[0], int)):
        return [texts]
    return cast(list[str | list[int]], texts)


class StreamOptions(RequestModel):
    """``stream_options``."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None  # vLLM's
    include_obfuscation: bool | None = None  # accepted, without effect: nothing here reads the sizes of chunks


class GenerationRequest(RequestModel):
    """What chat and completions have in common."""

    model: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Int64 | None = None
    stop: Short | Items[Short] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=16_384)] | None = None
    user: str | None = None

    # vLLM's extensions
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=100)] | None = None
    stop_token_ids: Annotated[TokenIds, Field(max_length=4096)] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    skip_special_tokens: bool | None = None
    bad_words: Items[Short] | None = None
    allowed_token_ids: Annotated[TokenIds | None, IDS] = None
    prompt_logprobs: Annotated[int, Field(ge=0)] | None = None
    add_special_tokens: bool | None = None
    structured_outputs: Annotated[dict[str, Any] | None, STRUCTURED_OUTPUTS] = None
    response_format: Annotated[dict[str, Any] | None, RESPONSE_FORMAT] = None
    truncate_prompt_tokens: SomeTokens | None = None
    truncation_side: Literal["left", "right"] | None = None
    # what structured_outputs was called in older vLLMs, and is in llama.cpp
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_whitespace_pattern: str | None = None
    guided_decoding_backend: str | None = None
    json_schema: dict[str, Any] | str | None = None
    grammar: str | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    priority: Int64 | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    request_id: RequestId | None = None

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise fault("stream_options", "stream_options is only allowed when 'stream' is true")
        return self

    @property
    def older_outputs(self) -> dict[str, Any]:
        """The older spellings of ``structured_outputs`` that the request has."""
        fields = {name: getattr(self, name) for name in (*OLDER, "guided_whitespace_pattern")}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def stop_strings(self) -> list[str]:
        """``stop`` as a list."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop


class ConversationFields(RequestModel):
    """What decides how a conversation becomes a prompt, beside its messages."""

    tools: Tools | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    # vLLM's extensions
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    documents: Objects | None = None
    chat_template: Text | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def client_tools(self) -> list[dict[str, Any]] | None:
        """The tools that the client runs."""
        return [tool for tool in self.tools or () if not _is_hosted(tool)] or None

    @property
    def tool_places(self) -> list[int]:
        """Where in ``tools`` each of them stands."""
        return [index for index, tool in enumerate(self.tools or ()) if not _is_hosted(tool)]

    @property
    def hosted_tools(self) -> list[str]:
        """What is no tool here, for people: the client's provider was to run it."""
        hosted = ((index, tool) for index, tool in enumerate(self.tools or ()) if _is_hosted(tool))
        return [f"tools[{index}] ({str(tool['type'])[:40]}, which this server does not run)" for index, tool in hosted]

    @field_validator("thinking_token_budget")
    @classmethod
    def _minus_one_is_no_budget(cls, budget: int | None) -> int | None:
        return None if budget == -1 else budget


def _is_hosted(tool: dict[str, Any]) -> bool:
    return tool.get("type") not in (None, "function", "custom") and "function" not in tool


class ChatRequest(GenerationRequest, ConversationFields):
    """POST /v1/chat/completions."""

    messages: Annotated[Objects, Field(min_length=1, max_length=MOST_MESSAGES)]
    max_tokens: SomeTokens | None = None
    max_completion_tokens: SomeTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    tool_choice: Annotated[str | dict[str, Any] | None, TOOL_CHOICE] = None
    parallel_tool_calls: bool | None = None

    # OpenAI fields that have no meaning in front of one model, or that nothing here can do
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    modalities: Items[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    functions: Tools | None = None
    function_call: str | dict[str, Any] | None = None

    # vLLM's extensions
    logprobs_scope: Literal["all", "content"] | None = None  # Portico's: of all tokens, or of those of the content
    echo: bool | None = None
    include_reasoning: bool | None = None

    @property
    def most_tokens(self) -> int | None:
        """How many tokens the answer may have, under either of its names."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @model_validator(mode="after")
    def _kinds(self) -> ChatRequest:
        CHAT.check({name: getattr(self, name) for name in CHAT.inside}, "")
        for index, tool in enumerate(self.tools or ()):
            if tool.get("type") in (None, "function") and tool.get("function") is None:
                param = f"tools[{index}].function"
                raise BadRequestError(f"{param} must be an object with a name.", param=param)
        return self

    @model_validator(mode="after")
    def _top_logprobs_need_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise fault("top_logprobs", "top_logprobs is only allowed when 'logprobs' is true")
        return self


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    prompt: Texts
    max_tokens: MaxTokens | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0)] | None = None
