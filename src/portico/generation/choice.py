"""One choice of a request on its way through the line: tokens -> text (decoding) -> events (parsing) -> stop strings.

Rules kept here:
- Stop strings apply to content alone, not to reasoning or arguments; a stop string does not span other events.
- Tokens after the one that completed a stop string are neither shown nor counted.
- The token that ended the sequence is counted (the engine computed it) but not shown, unless asked for.
- Logprobs ride on the next delta; none is lost when text is held back.
- All token ids of an answer are kept, for whoever takes it up should its engine die.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from portico.decoding import Detokenizer, StopStrings
from portico.events import CallArguments, Content, EngineOutput, Event, Finish, Reasoning, TokenLogprob
from portico.generation.alignment import ContentTokens
from portico.generation.spec import GenerationSpec
from portico.parsing import OutputParser
from portico.prompting import Tokenizer

__all__ = ["Choice", "Decoder", "Delta", "Held", "Parser"]


class Delta(Struct):
    """What one engine step meant for one choice, after decoding and parsing.

    ``finish`` is set on a choice's last delta; ``stop_reason`` is then the stop string or stop token id that ended it,
    where it was the client's, and ``stop_token`` the token that ended it, which usage counts and no text shows.
    ``token_ids`` and ``logprobs`` are those of this step and of steps before it that gave no delta; they run parallel
    unless only the logprobs of content are wanted.
    """

    index: int
    events: list[Event]
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob] | None = None
    finish: Finish | None = None
    stop_reason: str | int | None = None
    error: str | None = None
    stop_token: int | None = None

    @property
    def all_token_ids(self) -> list[int]:
        """``token_ids``, and the one that ended the answer."""
        return [*self.token_ids] if self.stop_token is None else [*self.token_ids, self.stop_token]


class Held(Struct, frozen=True):
    """Something that has come and waits inside a part of a choice, with the reason in words."""

    part: str  # decoding, parsing, stop strings
    text: str
    reason: str


class Decoder(Protocol):
    """Tokens to text, as ``Detokenizer`` does it."""

    @property
    def held(self) -> bytes: ...
    def feed(self, ids: Sequence[int]) -> str: ...
    def close(self) -> str: ...


class Parser(Protocol):
    """Text to events, as ``OutputParser`` does it."""

    @property
    def held(self) -> tuple[str, str] | None: ...
    @property
    def in_thought(self) -> bool: ...
    @property
    def in_call(self) -> bool: ...
    @property
    def outcomes(self) -> Mapping[str, int]: ...
    @property
    def recoveries(self) -> Sequence[tuple[str, str]]: ...
    @property
    def special_tokens(self) -> frozenset[str]: ...
    def feed(self, text: str) -> list[Event]: ...
    def close(self, finish_reason: str = "stop") -> list[Event]: ...


class Choice:
    """One of the ``n`` answers: its decoder, its parser, its stop strings."""

    def __init__(self, index: int, spec: GenerationSpec, tokenizer: Tokenizer) -> None:
        self.index = index
        self.finished = False
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.prompt_logprobs: Sequence[TokenLogprob | None] | None = None
        self.cached_tokens: int | None = None
        self.matched_stop: str | None = None
        self._spec = spec
        self._tokenizer = tokenizer
        self._parser: Parser = OutputParser(
            tool_parser=spec.tool_parser,
            reasoning_parser=spec.reasoning_parser,
            tools=spec.tools,
            tool_choice=spec.tool_choice,
            parallel=spec.parallel,
            prompt_tail=spec.prompt_tail,
        )
        self._visible = _spelled_out(tokenizer, self._parser.special_tokens)
        self._detokenizer: Decoder = Detokenizer(
            tokenizer,
            skip_special_tokens=spec.skip_special_tokens,
            visible=self._visible,
            prompt_ids=spec.prompt_ids,
        )
        self._stops = StopStrings(spec.stop, include=spec.include_stop) if spec.stop else None
        self._thinks = spec.reasoning_parser is not None
        self._aligned = ContentTokens() if spec.content_logprobs else None
        self._singly = self._stops is not None or self._aligned is not None
        self._with_logprobs = spec.sampling.logprobs is not None
        self._packed: array[int] | None = array("i", spec.generated)
        self._ids: list[int] = []  # what has come since
        self._told = 0  # how many of those deltas have carried
        self._pending_logprobs: list[TokenLogprob] = []

    @property
    def recoveries(self) -> Counter[str]:
        """What was read although the format does not allow it, by kind."""
        return Counter(kind for kind, _ in self._parser.recoveries)

    @property
    def parser(self) -> str:
        """The name of the format that the answer is read in."""
        return self._spec.tool_parser or self._spec.reasoning_parser or "none"

    @property
    def outcomes(self) -> dict[str, int]:
        """How often parsing saw what (calls, false alarms, …), for metrics."""
        return dict(self._parser.outcomes)

    @property
    def held(self) -> list[Held]:
        """What waits in each part, and why."""
        found = []
        held = self._detokenizer.held
        if held:
            found.append(Held("decoding", held.hex(" "), "the bytes of a character that is not complete"))
        waiting = self._parser.held
        if waiting is not None:
            found.append(Held("parsing", *waiting))
        if self._stops is not None and self._stops.held:
            found.append(Held("stop strings", self._stops.held, "may be the beginning of a stop string"))
        return found

    @property
    def in_call(self) -> bool:
        """Whether the arguments of a call are being read."""
        return self._parser.in_call

    @property
    def token_ids(self) -> list[int] | None:
        """Every token id of the answer so far, those included that the client had before; None once forgotten."""
        return None if self._packed is None else [*self._packed, *self._ids]

    def pack(self) -> int:
        """Have what has been told take 4 bytes a token, or none once forgotten; how many tokens are packed. To be
        called now and then."""
        told = self._told
        if told:
            if self._packed is not None:
                self._packed.fromlist(self._ids[:told])
            del self._ids[:told]
            self._told = 0
        return len(self._packed or ())

    def forget(self) -> None:
        """Keep no token ids from here on."""
        self._packed = None

    def wrap(self, decoder: Callable[[Decoder], Decoder], parser: Callable[[Parser], Parser]) -> None:
        """Put something around the decoder and the parser that lets through what they do."""
        self._detokenizer, self._parser = decoder(self._detokenizer), parser(self._parser)

    def feed(self, output: EngineOutput) -> Delta | None:
        """Take one engine output of this choice; returns what it meant, or None while everything is held back."""
        ids = output.token_ids
        events: list[Event] = []
        if self._singly or (self._thinks and len(ids) > 1):
            used = self._feed_singly(output, events)
        else:
            used = len(ids)
            thinking = self._thinks and self._parser.in_thought
            text = self._detokenizer.feed(ids)
            if text:
                events = self._parser.feed(text)
            if self._thinks and ids:
                self._count_reasoning(thinking, events)
        if output.cached_tokens is not None:
            self.cached_tokens = output.cached_tokens
        if output.prompt_logprobs is not None:
            self.prompt_logprobs = output.prompt_logprobs
        self.completion_tokens += used
        self._ids += ids if used == len(ids) else ids[:used]
        if output.logprobs is not None:
            self._pending_logprobs += output.logprobs[:used]

        if self.matched_stop is not None:
            return self._stopped(events)
        if output.finish_reason is not None:
            return self._end(events, output)
        if not events:
            return None
        return self._delta(events)

    def _feed_singly(self, output: EngineOutput, events: list[Event]) -> int:
        """Feed token by token, so that what a token completes (a stop string, a thought) is known; returns how many
        were used."""
        ids = output.token_ids
        if self._aligned is not None:
            self._aligned.expect(output.logprobs or ())
        for position, token in enumerate(ids):
            thinking = self._parser.in_thought
            text = self._detokenizer.feed((token,))
            new = self._parser.feed(text) if text else []
            self._count_reasoning(thinking, new)
            self._align(text, new)
            if self._stops is None:
                _merge(events, new)
            elif self._apply_stops(events, new):
                return position + 1
        return len(ids)

    def _align(self, text: str, events: Sequence[Event], *, token: bool = True) -> None:
        if self._aligned is not None:
            held = self._parser.held
            self._aligned.feed(text, events, held[0] if held is not None and token else "", token=token)

    def _count_reasoning(self, was_thinking: bool, events: Sequence[Event]) -> None:
        """A token counts as reasoning when it came inside a thought, the end's marker included, or gave some of one."""
        self.reasoning_tokens += was_thinking or (bool(events) and type(events[-1]) is Reasoning)

    def _apply_stops(self, events: list[Event], new: Sequence[Event]) -> bool:
        """Pass ``new`` through the stop strings into ``events``; True when one matched."""
        assert self._stops is not None
        for event in new:
            if isinstance(event, Content):
                text, matched = self._stops.feed(event.text)
                if text:
                    _merge(events, (Content(text),))
                if matched is not None:
                    self.matched_stop = matched
                    return True
                continue
            held = self._stops.close()
            if held:
                _merge(events, (Content(held),))
            _merge(events, (event,))
        return False

    def _end(self, events: list[Event], output: EngineOutput) -> Delta:
        """The engine ended this choice: flush decoder, parser and stop strings."""
        text = self._detokenizer.close()
        stop_reason: str | int | None = None
        if output.stop_token is not None:
            self.completion_tokens += 1
            by_client = output.stop_token in self._spec.sampling.stop_token_ids
            if by_client:
                stop_reason = output.stop_token
            word = self._tokenizer.id_to_token(output.stop_token)
            if (by_client and self._spec.include_stop) or (word is not None and word in self._visible):
                text += word or ""
        reason = output.finish_reason or "stop"
        last = self._parser.feed(text) if text else []
        last = [*last, *self._parser.close(reason)]
        finish = last.pop()
        assert isinstance(finish, Finish)
        self._align(text, last, token=False)
        if self._stops is None:
            _merge(events, last)
        elif self._apply_stops(events, last):
            return self._stopped(events)
        else:
            held = self._stops.close()
            if held:
                _merge(events, (Content(held),))
        self.finished = True
        delta = self._delta(events, finish=finish, stop_reason=stop_reason, error=output.error)
        delta.stop_token = output.stop_token
        return delta

    def _stopped(self, events: list[Event]) -> Delta:
        """A stop string matched: what parsing still holds came after the match and is not shown."""
        self.finished = True
        finish = self._parser.close("stop")[-1]
        assert isinstance(finish, Finish)
        return self._delta(events, finish=finish, stop_reason=self.matched_stop)

    def _delta(
        self,
        events: list[Event],
        finish: Finish | None = None,
        stop_reason: str | int | None = None,
        error: str | None = None,
    ) -> Delta:
        ids = self._ids[self._told :]
        self._told = len(self._ids)
        logprobs: list[TokenLogprob] | None = None
        if self._with_logprobs:
            logprobs, self._pending_logprobs = self._pending_logprobs, []
            if self._aligned is not None:
                logprobs = self._aligned.shown(sum(len(event.text) for event in events if isinstance(event, Content)))
        return Delta(self.index, events, ids, logprobs, finish, stop_reason, error)


@lru_cache(maxsize=64)
def _spelled_out(tokenizer: Tokenizer, names: frozenset[str]) -> frozenset[str]:
    """The special tokens a parser needs to see, ``*`` (any suffix) replaced by the vocabulary's spellings."""
    found = {name for name in names if "*" not in name}
    for name in names - found:
        before, _, after = name.partition("*")
        found |= {token for token in tokenizer.added_tokens if token.startswith(before) and token.endswith(after)}
    return frozenset(found)


def _merge(events: list[Event], new: Sequence[Event]) -> None:
    """Append ``new`` to ``events``, joining neighbours of one kind: one step gives one event per kind and place."""
    for event in new:
        last = events[-1] if events else None
        if isinstance(event, Content) and isinstance(last, Content):
            events[-1] = Content(last.text + event.text)
        elif isinstance(event, Reasoning) and isinstance(last, Reasoning):
            events[-1] = Reasoning(last.text + event.text)
        elif isinstance(event, CallArguments) and isinstance(last, CallArguments) and last.index == event.index:
            events[-1] = CallArguments(event.index, last.json_fragment + event.json_fragment)
        else:
            events.append(event)
