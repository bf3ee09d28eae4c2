"""One HTTP request and its response, over plain ASGI.

Handlers get an ``Exchange``: it reads the body within the limits, sends whole responses, and hands out the raw ASGI
``send`` for streams, where every layer in between would cost its time on every token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel

from portico.errors import RequestTimeoutError, RequestTooLargeError, UnsupportedMediaTypeError
from portico.generation import Choice, Generation, Model, Watch
from portico.keys import KEY
from portico.keys.accounts import VISIT
from portico.prompting import Prompt
from portico.protocols.bounds import LARGE
from portico.protocols.coding import encoded
from portico.protocols.encoders import BodyEncoder, StreamEncoder
from portico.protocols.ids import fresh
from portico.protocols.rate_limits import anthropic_headers, openai_headers
from portico.protocols.validation import parse_body
from portico.server.http.gate import Bodies, Gate, Held
from portico.server.http.refusals import speaks_anthropic
from portico.threads import Threads
from portico.trace import Trace

__all__ = [
    "EXCHANGE",
    "LATER",
    "ROOT",
    "Answer",
    "ClientGoneError",
    "Exchange",
    "Handler",
    "Onlooker",
    "Receive",
    "Scope",
    "Send",
    "Stage",
]

EXCHANGE = "portico.exchange"  # in a scope: the exchange that it has become
ROOT = "portico.root"  # in a scope: the path under which a proxy serves this server, if that is not empty
LATER = "portico.later"  # in a scope: nobody waits for the answer, so it comes after those that somebody waits for

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)

_LARGE_BODIES = Threads("bodies", 2, waiting=64)


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


class Stage(NamedTuple):
    """One part of a request's way to its admission; times as ``time.perf_counter`` gives them."""

    name: str
    began: float
    ended: float


class Onlooker(Protocol):
    """Sees an answer being made. What it puts around an encoder passes everything on as it is."""

    def submitting(self, generations: Sequence[Generation]) -> None:
        """All is well so far: they go to the engine, with the last changes that are made to them here."""
        ...

    def watch(self, choice: Choice, position: int) -> Watch:
        """Who watches the choice of the generation at ``position``."""
        ...

    def stream(self, encoder: StreamEncoder) -> StreamEncoder: ...

    def body(self, encoder: BodyEncoder) -> BodyEncoder: ...


class Answer(Protocol):
    """An answer that the engine has been asked for; times in the loop's time, 0 where there is none yet."""

    admitted: float
    first_output: float
    finishes: list[str]  # why its choices have ended, so far


class Exchange:
    """A request that is being answered.

    ``stages`` says what its way took so far, for metrics and spans. ``trace`` is its record, None where none is kept.
    ``onlookers`` see its answer being made. ``bodies`` counts what waits to be read. Whoever gives it to a handler
    closes ``place`` afterwards: the place that it takes in ``gate`` once its body is here.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, max_body: int, gate: Gate, bodies: Bodies
    ) -> None:
        self.scope = scope
        self.send = send
        self.receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.request_id = _request_id(self.headers.get(b"x-request-id"))
        self.response_headers: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id.encode("ascii"))]
        self.status = 0  # of the response, once it has started
        self.route = "none"  # the pattern of the path, once it is known
        self.started = time.perf_counter()
        self.stages: list[Stage] = []
        self.model: Model | None = None  # that the prompt is for
        self.prompt_tokens = 0
        self.generations: Sequence[Generation] = ()
        self.further: list[Generation] = []  # that the answer has taken behind those
        self.answer: Answer | None = None  # once it is admitted
        self.trace: Trace | None = None
        self.onlookers: list[Onlooker] = []
        self.place = ExitStack()
        self.large = False  # the body, so that what it takes to read it is not done on the event loop
        self._passed = self.started
        self._max_body = max_body
        self._gate = gate
        self.bodies = bodies

    @property
    def later(self) -> bool:
        """Whether all that somebody waits for goes first; it is not counted with it, either."""
        return LATER in self.scope

    @property
    def root(self) -> str:
        """What goes before this server's paths where clients see them; usually nothing."""
        root: str = self.scope.get(ROOT, "")
        return root

    @property
    def address(self) -> str | None:
        """Where the client is, as far as that is known."""
        client = self.scope.get("client")
        return client[0] if client else None

    @property
    def path_params(self) -> dict[str, Any]:
        """Values of the route's placeholders."""
        params: dict[str, Any] = self.scope.get("path_params", {})
        return params

    @property
    def query(self) -> dict[str, str]:
        """The query string's fields; the last of equal names wins."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def call_it(self, wanted: str | None) -> None:
        """Take the request's id from its body, where no header gave one."""
        if wanted is not None and b"x-request-id" not in self.headers:
            self.request_id = _request_id(wanted.encode("utf-8", "replace"))
            self.response_headers[0] = (b"x-request-id", self.request_id.encode("ascii"))

    async def read(self, parse: Callable[[bytes], Result]) -> Result:
        """What ``parse`` makes of the request body. Raises what it raises, and where the body is over a limit or there
        is no place for it."""
        with self.bodies.holding() as held:
            pieces = await self._body(held)
            if self.later:
                self._gate.later(KEY.get())
            else:
                self.place.enter_context(self._gate.passing(KEY.get()))
            return await self.work(lambda: parse(_whole(pieces)))

    async def request(self, model: type[Body]) -> Body:
        """The request body as ``model``. Raises where it is not one, is over a limit, or there is no place for it."""
        request = await self.read(partial(parse_body, model))
        began = self._stage("validate")
        if self.trace is not None:
            dump = partial(request.model_dump, mode="json", exclude_unset=True)
            self.trace.validated(await self.work(dump), began)
        return request

    async def work(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, whose work grows with the body: in a thread where that is large."""
        if not self.large:
            return function()
        return await self.while_there(_LARGE_BODIES.run(function))

    async def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of ``work``, which grows with the body: cancelled when the client goes, where that is large."""
        return await (self.while_there(work) if self.large else work)

    async def while_there(self, work: Coroutine[Any, Any, Result], timeout: float | None = None) -> Result:
        """The result of ``work``; it is cancelled when the client goes, or is not done after ``timeout`` seconds."""
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(self.disconnected())
        try:
            await asyncio.wait((working, gone), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise ClientGoneError
            raise RequestTimeoutError(f"The request took longer than {timeout:g} seconds.")
        finally:
            working.cancel()
            gone.cancel()

    async def _body(self, held: Held) -> list[bytes]:
        media_type = self.headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if media_type != b"application/json" and not media_type.endswith(b"+json"):
            raise UnsupportedMediaTypeError("The body must be JSON: send 'Content-Type: application/json'.")
        pieces: list[bytes] = []
        async for piece in self.pieces(self._max_body):
            held.grow(len(piece))
            pieces.append(piece)
        self._stage("read")
        self.large = sum(map(len, pieces)) > LARGE
        return pieces

    async def pieces(self, most: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises where that is compressed or has more than ``most`` bytes, before it is read if
        its head says so, and where the client goes."""
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaTypeError("Compressed request bodies are not supported; send it as it is.")
        declared = self.headers.get(b"content-length", b"")
        size = int(declared[:18]) if declared.isdigit() else 0
        if size > most:
            raise _too_large(most)
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > most:
                raise _too_large(most)
            yield piece
            if not message.get("more_body", False):
                return

    # -- what its way was -------------------------------------------------------------------------------------------

    def prompted(self, model: Model, *prompts: Prompt) -> None:
        """The prompts have been rendered and tokenized."""
        began = self._passed
        self._passed = time.perf_counter()
        self.model = model
        self.prompt_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        for prompt in prompts:
            rendered = began + prompt.rendering
            self.stages.append(Stage("template", began, rendered))
            self.stages.append(Stage("tokenize", rendered, rendered + prompt.tokenizing))
            if self.trace is not None:
                self.trace.prompted(prompt, model, began)

    def embedded(self, vectors: Sequence[Sequence[float]]) -> None:
        """The engine has made these of the prompts."""
        began, self._passed = self._passed, time.perf_counter()
        if self.trace is not None:
            self.trace.embedded(vectors, began)

    def decided(self, *generations: Generation) -> None:
        """Everything is decided: sampling, constraint, how the answer will be read."""
        self.generations = generations
        began = self._stage("constrain")
        if self.trace is not None:
            self.trace.decided(generations, began)

    def checked(self) -> None:
        """Its grammar, if it has one, is known to be good; now it goes to the engine."""
        self._stage("check")
        for onlooker in self.onlookers:
            onlooker.submitting(self.generations)

    def admitted(self, answer: Answer) -> None:
        """The engine has taken the request."""
        self.answer = answer
        self._stage("admit")
        if self.trace is not None:
            self.trace.admitted()

    def goes_on(self, prompt: Prompt, model: Model, generation: Generation, answer: Answer) -> None:
        """The answer takes another generation, whose prompt has what came of the last one's calls."""
        self.prompt_tokens += len(prompt.token_ids)
        self.further.append(generation)
        if self.answer is not None:
            answer.finishes = self.answer.finishes  # one list tells of all
        if self.trace is not None:
            self.trace.goes_on(prompt, model, generation)

    def over(self) -> None:
        """It is answered, and all who look on know. What refers to it is let go, so that it is freed at once."""
        self.scope.pop(EXCHANGE, None)
        self.answer = None

    def _stage(self, name: str) -> float:
        began, self._passed = self._passed, time.perf_counter()
        self.stages.append(Stage(name, began, self._passed))
        return began

    # -- the response -----------------------------------------------------------------------------------------------

    async def disconnected(self) -> None:
        """Return when the client is gone, or the response is complete. The body must have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _head(self) -> list[tuple[bytes, bytes]]:
        """The headers of the response, with how its API key stands with its limits."""
        visit = VISIT.get()
        if visit is None:
            return self.response_headers
        anthropic = speaks_anthropic(self.path, self.headers)
        standing = visit.standing()
        told = anthropic_headers(*standing, time.time()) if anthropic else openai_headers(*standing)
        return [*self.response_headers, *told]

    async def respond(self, status: int, body: bytes, media_type: bytes = b"application/json") -> None:
        """Send a whole response."""
        headers = [*self._head(), (b"content-type", media_type), (b"content-length", b"%d" % len(body))]
        self.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def respond_json(self, value: Any, status: int = 200) -> None:
        """Send a JSON response."""
        await self.respond(status, encoded(value))

    async def respond_made(self, make: Callable[[], Any]) -> None:
        """Send what ``make`` returns as JSON; it may be as large as the request."""
        await self.respond(200, await self.work(lambda: encoded(make())))

    async def respond_pieces(self, size: int, pieces: AsyncIterator[bytes], media_type: bytes) -> None:
        """Send a response of ``size`` bytes as they come; of ``pieces`` nothing is read where only the head is wanted.
        What ``pieces`` raises ends the connection, so that the client knows it has not got all."""
        headers = [*self._head(), (b"content-type", media_type), (b"content-length", b"%d" % size)]
        self.status = 200
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.method != "HEAD":
            async for piece in pieces:
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def start_stream(self, media_type: bytes) -> None:
        """Send the head of a streamed response; its body goes through ``send``."""
        headers = [
            *self._head(),
            (b"content-type", media_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),  # tells nginx not to collect the stream
        ]
        self.status = 200
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})


Handler = Callable[[Exchange], Awaitable[None]]


def _whole(pieces: list[bytes]) -> bytes:
    """What they are together; they are gone then."""
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    return body


def _too_large(most: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"The request body is over the limit of {most} bytes.")


def _request_id(given: bytes | None) -> str:
    """The client's ``X-Request-Id`` where it is short and plain, else a new one."""
    if given and len(given) <= 128 and all(33 <= byte <= 126 for byte in given):
        return given.decode("ascii")
    return fresh()
