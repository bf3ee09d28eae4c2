"""One request's artifacts, as they are made.

The server tells a trace of every stage that it passes; each stage is made from the one before. From the engine on,
``ChoiceTrace`` follows each choice (see ``choices``) and the encoders follow the bytes (see ``wire``).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from portico.events import Medium
from portico.generation import Choice, Generation, Model
from portico.prompting import Prompt
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.trace.artifacts import Artifact, Head, Lane
from portico.trace.asked import asked
from portico.trace.choices import ChoiceTrace
from portico.trace.record import Clock, Record, spelled
from portico.trace.wire import TracedBody, TracedStream

__all__ = ["Trace"]

SECRET_HEADER = re.compile(rb"auth|cookie|key|token|secret|password|credential|signature")


class Trace(Record):
    """The record of one HTTP request, from its head to the last byte of its response."""

    def __init__(self, head: Head, clock: Clock, began: float, tell: Callable[[Head], None]) -> None:
        super().__init__(head, clock, began)
        self._tell = tell  # of a head that has changed
        self._body: list[bytes] = []
        self._asked: list[int] = []  # what the prompt is made from
        self._prompts: list[int] = []
        self._open: list[Artifact] = []  # stages that are not over
        self._per_generation = 1
        self._before = 0  # choices of generations that are over

    # -- the way in ---------------------------------------------------------------------------------------------------

    def requested(self, headers: Mapping[bytes, bytes]) -> None:
        """The head of the request. Keys are not recorded."""
        shown: Any = [
            [name.decode("latin-1"), "…" if SECRET_HEADER.search(name) else value.decode("latin-1")]
            for name, value in headers.items()
        ]
        data = {"method": self.head.method, "path": self.head.path, "headers": shown}
        label = f"{self.head.method} {self.head.path}"
        self.latest = [self.add("request", "http_request", label, data, source="server", at=0.0, took=None)]

    def received(self, piece: bytes, last: bool) -> None:
        """A piece of the request's body."""
        request = self.artifacts[0]
        request.took = self.now
        self._body.append(piece)
        if last:
            body, self._body = b"".join(self._body), []
            if self.head.redacted:
                request.data["characters"] = len(body)
            else:
                request.data.update(spelled(body, "body"))
                self.size += len(body)
            self.changed(request)

    def validated(self, fields: Mapping[str, Any], began: float) -> None:
        """The body is legal; ``fields`` are those the client set."""
        self.head.model = fields.get("model")
        self.head.stream = bool(fields.get("stream"))
        self.head.tools = len(fields.get("tools") or ())
        if not self.head.redacted:
            self.head.asked = asked(fields)
        self._stage("request", "validated", f"{len(fields)} fields", {"fields": dict(fields)}, "protocols", began)
        self._asked = self.latest
        self._tell(self.head)

    def prompted(self, prompt: Prompt, model: Model, began: float) -> None:
        """The prompt, as text and as tokens."""
        self.tokenizer = model.tokenizer
        self.head.model = self.head.model or model.name
        of, at = self._asked, began - self._began
        if prompt.text:
            label = f"{len(prompt.text)} characters"
            of = [
                self.add(
                    "prompt", "prompt", label, {"text": prompt.text}, "prompting", of=of, at=at, took=prompt.rendering
                )
            ]
        if prompt.perceived is not None:
            seen = zip(prompt.perceived.items, prompt.thumbnails, strict=True)
            of = [*of, *(self._medium(medium, thumbnail, at) for medium, thumbnail in seen)]
        label = f"{len(prompt.token_ids)} tokens"
        data: dict[str, Any] = {"ids": list(prompt.token_ids), "tail": prompt.tail}
        at += prompt.rendering
        took = prompt.tokenizing
        self._prompts.append(self.add("prompt", "prompt_tokens", label, data, "prompting", of=of, at=at, took=took))
        self.latest = self._prompts
        self.head.prompt_tokens = (self.head.prompt_tokens or 0) + len(prompt.token_ids)
        self._tell(self.head)

    def _medium(self, medium: Medium, thumbnail: bytes, at: float) -> int:
        """An image or a sound of the prompt."""
        data: dict[str, Any] = {"kind": medium.kind, "size": list(medium.size), "digest": medium.digest}
        if thumbnail:
            data["thumbnail"] = f"data:image/png;base64,{base64.b64encode(thumbnail).decode()}"
        first, second = medium.size
        label = f"image, {first} x {second}" if medium.kind == "image" else f"sound, {first / second:.1f} s"
        return self.add("prompt", "medium", label, data, "media", of=self._asked, at=at)

    def embedded(self, vectors: Sequence[Sequence[float]], began: float) -> None:
        """What the engine has made of the prompts, all of them at once: a vector each."""
        at = began - self._began
        took = self.now - at
        sources = [[one] for one in self._prompts] or [self.latest] * len(vectors)
        self.latest = [
            self.add(
                "tokens", "embedding", f"{len(vector)} numbers", {"vector": vector}, "engines", of=of, at=at, took=took
            )
            for vector, of in zip(vectors, sources, strict=True)
        ]

    def follows(self, response: str, previous: str | None, conversation: str | None, background: bool) -> None:
        """What is made is the response of that id, and comes behind another one, or into a conversation."""
        head = self.head
        head.response, head.previous, head.conversation = response, previous, conversation
        head.background = background
        self._tell(head)

    def decided(self, generations: Sequence[Generation], began: float) -> None:
        """What the answer is held to. The grammar, if there is one, is tried out next."""
        spec = generations[0].spec
        self._per_generation = spec.n
        if spec.constraint is not None:
            data = {"lark": spec.constraint.lark}
            self._stage("prompt", "constraint", "a grammar for the answer", data, "constraints", began, join=True)

    def submitting(self, generations: Sequence[Generation]) -> None:
        """All is well so far: the request goes to the engine."""
        self._close_stages()
        spec = generations[0].spec
        self._before = len(self.choices)
        choices = [choice for generation in generations for choice in generation.choices]
        self.choices += choices
        data = {
            "request_id": spec.request_id,
            "choices": len(choices),
            "tool_parser": spec.tool_parser,
            "reasoning_parser": spec.reasoning_parser,
            "sampling": msgspec.to_builtins(spec.sampling, str_keys=True),
        }
        self._stage("prompt", "submitted", "handed to the engine", data, "server", self._clock())
        self.submitted_as = self.latest

    def admitted(self) -> None:
        """The engine has taken it."""
        self._close_stages()

    def watch(self, choice: Choice, position: int) -> ChoiceTrace:
        """Who follows the choice of the generation at ``position``."""
        return ChoiceTrace(self, choice, self._before + position * self._per_generation + choice.index)

    def goes_on(self, prompt: Prompt, model: Model, generation: Generation) -> None:
        """The answer takes another generation, whose prompt has what came of the last one's calls."""
        self._asked, self._prompts = self.finishes[-1:], []
        self.prompted(prompt, model, self._clock() - prompt.rendering - prompt.tokenizing)
        self.decided([generation], self._clock())
        self.submitting([generation])

    def stream(self, encoder: StreamEncoder) -> StreamEncoder:
        """The encoder of a stream, with what it makes recorded."""
        return TracedStream(encoder, self)

    def body(self, encoder: BodyEncoder) -> BodyEncoder:
        """The encoder of a whole body, with what it makes recorded."""
        return TracedBody(encoder, self)

    # -- the way out --------------------------------------------------------------------------------------------------

    def started(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The head of the response goes out."""
        shown = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
        self.head.status = status
        data = {"status": status, "headers": shown}
        self.add("wire", "response", f"status {status}", data, "server", of=self.latest)

    def sent(self, data: bytes, last: bool) -> None:
        """These bytes of the response's body go to the connection."""
        if data:
            of = self.frames or self.made or self.latest
            self.add("wire", "chunk", f"{len(data)} bytes", {**spelled(data), "last": last}, "server", of=of)
            self.frames = []

    def ended(self, state: Literal["ok", "refused", "failed", "gone"]) -> None:
        """The response is complete, or nobody is there to read it."""
        self.head.state = state
        self.head.seconds = self.now
        request = self.artifacts[0]
        if request.took is None:
            request.took = 0.0
        for artifact in self.artifacts:
            if artifact.took is None:
                artifact.took = self.now - artifact.at
                self.changed(artifact)
        self.changed(request)
        self._tell(self.head)

    def _stage(
        self, lane: Lane, kind: str, label: str, data: dict[str, Any], source: str, began: float, join: bool = False
    ) -> None:
        at = began - self._began
        goes_on = kind in ("constraint", "submitted")
        made = self.add(lane, kind, label, data, source, of=self.latest, at=at, took=None if goes_on else self.now - at)
        if goes_on and made >= 0:
            self._open.append(self.artifacts[made])
        self.latest = [*self.latest, made] if join else [made]

    def _close_stages(self) -> None:
        for artifact in self._open:
            artifact.took = self.now - artifact.at
            self.changed(artifact)
        self._open = []
