"""The words that pass between the boxes: small values, no behaviour.

Engines take an ``EngineRequest`` and give ``EngineOutput``; parsing gives ``Event``. Everything that crosses a box
border is defined here and nowhere else, so a box can be read, tested and replaced knowing only this page.
They are msgspec structs: cheap to make (one per streamed event), compared by type and value, and ready for msgpack
where an engine lives in another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct, field

__all__ = [
    "CallArguments",
    "CallEnd",
    "CallStart",
    "Constraint",
    "Content",
    "EngineOutput",
    "EngineRequest",
    "Event",
    "Finish",
    "FinishReason",
    "Media",
    "Medium",
    "Message",
    "Reasoning",
    "SamplingParams",
    "ThoughtBudget",
    "TokenLogprob",
    "ToolCall",
]

# -- towards an engine ------------------------------------------------------------------------------------------------


class ThoughtBudget(Struct, frozen=True):
    """How many tokens the thoughts of an answer may have together, and what then ends them.

    ``open``: the prompt has opened a thought, so its first token is the answer's first. Otherwise one begins with one
    of ``openers``, as the first thing of the answer or after another thought. It ends with one of ``closers``, or, when
    the ``tokens`` are used up, with ``close``: token ids that follow then, whatever the model would rather say.
    """

    tokens: int
    close: tuple[int, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    open: bool = False


class SamplingParams(Struct, frozen=True):
    """How an engine picks tokens. Neutral values switch a rule off; every value is already range-checked.

    Token counts are tokens, temperatures are dimensionless, biases and penalties are added to logits.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 is off
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()  # token sequences that must not appear
    stop_token_ids: frozenset[int] = frozenset()  # beside the model's own end-of-generation tokens
    ignore_eos: bool = False
    logprobs: int | None = None  # None: none; 0: the sampled token's; N: also the N most likely
    logprob_ids: tuple[int, ...] = ()  # with logprobs: these in place of the most likely ones, in this order
    prompt_logprobs: int | None = None
    thought: ThoughtBudget | None = None  # None: thoughts end by themselves


class Constraint(Struct, frozen=True):
    """A grammar that the engine enforces while it samples, from the first token on.

    ``lark`` is a grammar in llguidance's Lark dialect; ``structural_tag`` is the same promise as vLLM's structural tag
    (JSON object), for engines that take that instead.
    """

    lark: str
    structural_tag: Mapping[str, Any] | None = None


class Medium(Struct, frozen=True):
    """One image or sound of a prompt, decoded. ``digest`` names its content: equal digests, equal media.

    Of an image, ``data`` are its pixels row by row, three bytes each (red, green, blue), ``size`` is width and height.
    Of a sound, ``data`` are its samples as 32-bit floats of this machine's byte order, one channel, and ``size`` is
    their number and how many there are in a second. Without ``data`` it can be measured, not perceived.
    """

    kind: Literal["image", "audio"]
    data: bytes
    size: tuple[int, int]
    digest: str


class Media(Struct, frozen=True, weakref=True):
    """What a prompt was before its media were given room in it: the tokens as written, and the media in order.

    ``places`` says before which token each stands; it is empty where the tokens themselves say so, by placeholders that
    the engine knows.
    """

    token_ids: Sequence[int]
    items: tuple[Medium, ...]
    places: tuple[int, ...] = ()


class EngineRequest(Struct, frozen=True):
    """One sequence to generate: exact prompt token ids in, sampling rules beside them.

    A request for ``n`` choices is ``n`` of these; engines share the common prompt by prefix reuse. ``generated`` are
    tokens of its answer that exist already, from an engine that was lost: fewer than ``max_tokens``. They count for
    every rule and are not given out again, nor are ``cached_tokens`` and ``prompt_logprobs``; only an engine whose
    ``EngineInfo.resumes`` covers the request gets any. With ``media``, ``token_ids`` are what ``Perceives.expand`` made
    of these, so that a prompt is as long as it will be computed.
    """

    request_id: str
    token_ids: Sequence[int]
    sampling: SamplingParams
    constraint: Constraint | None = None
    priority: int = 0  # lower is served first
    cache_salt: str | None = None  # prefixes are shared only between equal salts
    lora: str | None = None
    data_parallel_rank: int | None = None
    trace_headers: Mapping[str, str] | None = None
    generated: Sequence[int] = ()
    cache_key: str | None = None  # requests with the same one have much of their prompts in common
    media: Media | None = None


# -- from an engine ---------------------------------------------------------------------------------------------------

FinishReason = Literal["stop", "length", "abort", "error", "lost"]


class TokenLogprob(NamedTuple):
    """Natural-log probability of a token under the model's raw distribution, with the most likely alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # (token id, logprob), most likely first, or those of ``logprob_ids``


class EngineOutput(Struct):
    """What one engine step gave one request. Steps are delivered as a list: one batch for all requests.

    ``token_ids`` never contains the stop token that ended the sequence; that one is in ``stop_token``.
    ``logprobs`` runs parallel to ``token_ids``. ``finish_reason`` is set on the last output of a request only.
    ``cached_tokens`` (prompt tokens found in a prefix cache) and ``prompt_logprobs`` (None for the first prompt token)
    come with the first output. ``error`` explains, in words fit for a client, finish reason ``error``; or ``lost``: the
    engine is gone, and what it gave is good, so that another may take the answer up.
    """

    request_id: str
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None
    stop_token: int | None = None
    cached_tokens: int | None = None
    prompt_logprobs: Sequence[TokenLogprob | None] | None = None
    error: str | None = None


# -- from parsing -----------------------------------------------------------------------------------------------------


class Reasoning(Struct, frozen=True, gc=False):
    """Text of the model's thinking."""

    text: str


class Content(Struct, frozen=True, gc=False):
    """Text of the answer."""

    text: str


class CallStart(Struct, frozen=True, gc=False):
    """A tool call begins; ``index`` is its position in this answer, ``id`` unique in it."""

    index: int
    id: str
    name: str


class CallArguments(Struct, frozen=True, gc=False):
    """The next piece of a call's arguments; all pieces of one index concatenate to JSON text."""

    index: int
    json_fragment: str


class CallEnd(Struct, frozen=True, gc=False):
    """The call's arguments are complete."""

    index: int


class Finish(Struct, frozen=True, gc=False):
    """The last event of an answer. ``reason`` is what the client is told before protocol spelling."""

    reason: Literal["stop", "length", "tool_calls", "abort", "error"]


Event: TypeAlias = Reasoning | Content | CallStart | CallArguments | CallEnd | Finish


# -- the fold of a stream ---------------------------------------------------------------------------------------------


class ToolCall(Struct):
    """One tool call; ``arguments`` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    complete: bool = True  # False when the answer ended inside the arguments


class Message(Struct):
    """What a whole stream of events amounts to: the non-streaming answer."""

    reasoning: str = ""
    content: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
