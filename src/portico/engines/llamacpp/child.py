"""The engine's own process: ``python -m portico.engines.llamacpp.child FD PARENT_PID LOAD``, LOAD in JSON.

It talks to its parent over the inherited socket FD, in the frames of ``shared``, and lives exactly as long as that
socket: end of file ends it, even in the middle of a native call. Two threads: one reads messages (so requests are
answered during a long decode, which does not hold the interpreter's lock), the main one decodes. Grammars compile, and
media are measured and made ready, in threads of their own.

Interrupts are the parent's business: Ctrl-C and SIGTERM reach the whole process group or service, and a server that
drains still needs its engine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import msgspec

from portico.engines import EngineInfo
from portico.engines.llamacpp.embedding import Embedder
from portico.engines.llamacpp.generating import Generator
from portico.engines.llamacpp.grammar import Grammar, GrammarCompiler, GrammarError
from portico.engines.llamacpp.libllama import Library, LlamaError
from portico.engines.llamacpp.model import Adapter, Model
from portico.engines.llamacpp.process import Load
from portico.engines.llamacpp.projector import Projector, Seen
from portico.engines.llamacpp.waiting import Waiting
from portico.engines.resuming import EVERYTHING
from portico.engines.shared import wire
from portico.errors import BadRequestError, EngineError, NotSupportedError, PorticoError
from portico.events import EngineOutput, EngineRequest, Media

_PR_SET_PDEATHSIG: Final = 1
_COMPILING_THREADS: Final = 2

_GENERATING: Final = frozenset(
    {
        *("generate", "logprobs", "logprob_ids", "prompt_logprobs", "constraints", "priority", "thinking_budget"),
        *("cache_salt", "lora"),
    }
)
_EMBEDDING: Final = frozenset({"embed"})


class _Process:
    """The two threads' common ground: the socket, and the queue from the reader to the decoder."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: SimpleQueue[
            wire.Abort
            | wire.Adapt
            | wire.Embed
            | wire.FlushCache
            | wire.Ping
            | tuple[EngineRequest, Grammar | None, Seen | None]
        ] = SimpleQueue()
        self._grammars: GrammarCompiler | None = None
        self._adapters: Mapping[str, Adapter] = {}
        self._eye: tuple[Projector, int, int] | None = None  # with the most that it can take at once, and a token
        self._compilers = ThreadPoolExecutor(_COMPILING_THREADS, thread_name_prefix="grammar")
        self._compiling: set[str] = set()
        self._compiling_lock = threading.Lock()

    def send(self, message: wire.FromHub) -> None:
        frame = wire.encode(message)
        with self._sending:
            self._connection.sendall(frame)

    def refuse(self, number: int, error: PorticoError) -> None:
        self.send(wire.failure(number, error))

    # -- the reader's thread --------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take messages until the parent is gone; then the process ends, whatever it is doing."""
        frames = wire.FrameReader()
        try:
            while data := self._connection.recv(1 << 18):
                for frame in frames.feed(data):
                    self._receive(wire.to_hub.decode(frame))
        except OSError:
            pass
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    def _receive(self, message: wire.ToHub) -> None:
        if isinstance(message, wire.Submit):
            request = msgspec.structs.replace(message.request, request_id=str(message.number))
            if request.lora is not None and request.lora not in self._adapters:
                self.refuse(
                    message.number, BadRequestError(f"There is no adapter '{request.lora[:100]}' here.", param="model")
                )
            elif request.constraint is None and request.media is None:
                self._accept(request, None, None)
            else:
                with self._compiling_lock:
                    self._compiling.add(request.request_id)
                self._compilers.submit(self._prepare, request)
        elif isinstance(message, wire.Expand):
            self._compilers.submit(self._expand, message)
        else:
            if isinstance(message, wire.Abort):
                with self._compiling_lock:
                    self._compiling.discard(str(message.number))
            self._inbox.put(message)

    def _accept(self, request: EngineRequest, grammar: Grammar | None, seen: Seen | None) -> None:
        self.send(wire.Done(int(request.request_id)))
        self._inbox.put((request, grammar, seen))

    def _prepare(self, request: EngineRequest) -> None:
        """Runs in a thread of its own: compile the grammar, look at the media, then accept or refuse, unless the
        request was aborted meanwhile."""
        grammar, seen, refusal = None, None, None
        try:
            if request.constraint is not None:
                grammar = self._compiled(request.constraint.lark, request.generated)
            if request.media is not None:
                seen = self._seen(request.media)
                if len(seen.tokens) != len(request.token_ids):
                    raise BadRequestError("The prompt is not as long as its media make it.", param="prompt")
        except BadRequestError as error:
            refusal = error
        with self._compiling_lock:
            wanted = request.request_id in self._compiling
            self._compiling.discard(request.request_id)
            if wanted and refusal is None:
                self._accept(request, grammar, seen)
            elif wanted and refusal is not None:
                self.refuse(int(request.request_id), refusal)

    def _compiled(self, lark: str, generated: Sequence[int]) -> Grammar:
        assert self._grammars is not None
        try:
            grammar = self._grammars.compile(lark)
            if grammar.takes(generated):
                return grammar
            reason = "what is generated already does not follow it"
        except GrammarError as error:
            reason = str(error)
        except BaseException as error:  # a panic in native code is not an Exception
            reason = f"the grammar compiler failed: {error}"
        raise BadRequestError(f"The grammar cannot be used: {reason}", param="constraint")

    def _seen(self, media: Media) -> Seen:
        if self._eye is None:
            raise NotSupportedError("This model perceives no media; send text only.", param="media")
        projector, most, _ = self._eye
        return projector.place(media, most)

    def _expand(self, message: wire.Expand) -> None:
        try:
            seen = self._seen(message.media)
        except BadRequestError as error:
            self.refuse(message.number, error)
            return
        filler = self._eye[2] if self._eye is not None else 0
        tokens = [token if token >= 0 else filler for token in seen.tokens]
        self.send(wire.Done(message.number, tokens=tokens))

    # -- the main thread ------------------------------------------------------------------------------------------

    def run(self, load: Load) -> None:
        """Load the model, then decode for ever."""
        try:
            model = Model(Library(), load.model_path, load.tuning)
            projector = _projector(model, load)
            engine: Generator | Embedder = (
                _embedder(model, load) if load.embedding else _generator(model, load, projector)
            )
        except LlamaError as error:
            raise EngineError(f"{Path(load.model_path).name} cannot be served: {error}") from error
        if isinstance(engine, Generator):
            if projector is not None:
                self._eye = projector, engine.batch_tokens, max(0, model.eos_token())
            self._adapters = engine.adapters
        self.send(wire.Health(True))
        self.send(wire.facts(_info(model, load, engine, projector), True))
        if isinstance(engine, Generator):
            self._grammars = GrammarCompiler(model)
            self._generate(engine)
        else:
            self._embed(engine)

    def _generate(self, engine: Generator) -> None:
        waiting = Waiting()
        while True:
            while engine.idle or not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, tuple):
                    self._submit(engine, *message)
                elif isinstance(message, wire.Abort):
                    engine.abort(str(message.number))
                elif isinstance(message, wire.Ping):
                    self.send(wire.Pong(engine.cache_usage))
                elif isinstance(message, wire.FlushCache):
                    self.send(wire.Done(message.number, flushed=engine.flush()))
                elif isinstance(message, wire.Adapt):
                    self._adapt(engine, message)
                elif isinstance(message, wire.Embed):
                    error = NotSupportedError("This model generates; it does not embed.", param="model")
                    self.refuse(message.number, error)
            waiting.look(time.monotonic())
            outputs = engine.step()
            if outputs:
                self.send(wire.step(outputs))

    def _submit(self, engine: Generator, request: EngineRequest, grammar: Grammar | None, seen: Seen | None) -> None:
        if request.lora is None or request.lora in engine.adapters:
            engine.submit(request, grammar, seen)
        else:  # it went while the grammar was compiled
            gone = f"The adapter '{request.lora}' has been unloaded."
            self.send(wire.step([EngineOutput(request.request_id, (), finish_reason="error", error=gone)]))

    def _adapt(self, engine: Generator, message: wire.Adapt) -> None:
        try:
            engine.adapt(message.name, message.path)
        except LlamaError as error:
            self.refuse(message.number, BadRequestError(f"{str(error)[0].upper()}{str(error)[1:]}.", param="lora_path"))
        else:
            self.send(wire.Done(message.number))

    def _embed(self, engine: Embedder) -> None:
        waiting = Waiting()
        while True:
            while engine.idle or not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, wire.Embed):
                    engine.submit(message.number, message.inputs)
                elif isinstance(message, wire.Ping):
                    self.send(wire.Pong())
                elif isinstance(message, wire.FlushCache):
                    self.send(wire.Done(message.number, flushed=True))  # an embedding is not kept
                elif isinstance(message, wire.Adapt):
                    self.refuse(
                        message.number, NotSupportedError("This model embeds; it takes no adapters.", param="model")
                    )
                elif isinstance(message, wire.Abort):
                    engine.abort(message.number)
            waiting.look(time.monotonic())
            for job in engine.step():
                self.send(wire.Done(job.number, job.vectors.tobytes(), job.lengths))


def _projector(model: Model, load: Load) -> Projector | None:
    if load.projector_path is None:
        return None
    try:
        return Projector(model, load.projector_path, load.threads)
    except LlamaError as error:
        raise EngineError(f"{Path(load.projector_path).name} cannot be used: {error}") from error


def _generator(model: Model, load: Load, projector: Projector | None) -> Generator:
    return Generator(
        model,
        context_length=load.context_length,
        max_sequences=load.max_sequences,
        threads=load.threads,
        batch_tokens=load.batch_tokens,
        cache_tokens=load.cache_tokens,
        projector=projector,
        adapters=load.adapters,
    )


def _embedder(model: Model, load: Load) -> Embedder:
    return Embedder(model, context_length=load.context_length, threads=load.threads, batch_tokens=load.batch_tokens)


def _info(model: Model, load: Load, engine: Generator | Embedder, projector: Projector | None) -> EngineInfo:
    generates = isinstance(engine, Generator)
    perceives = set()
    if projector is not None:
        senses = {"image": projector.sees, "audio": projector.hears}
        perceives = {name for name, able in senses.items() if able}
    facts = {"cache_tokens": engine.cache_tokens} if isinstance(engine, Generator) else {}
    return EngineInfo(
        model=load.model_id,
        context_length=engine.context_length,
        vocab_size=model.vocab_size,
        capabilities=_GENERATING | perceives if generates else _EMBEDDING,
        eos_token_ids=model.end_tokens,
        resumes=EVERYTHING if generates else frozenset(),
        media_places=projector is not None,
        audio_rate=projector.audio_rate if projector is not None else 0,
        embedding_size=None if generates else model.embedding_size,
        adapters=tuple(engine.adapters) if isinstance(engine, Generator) else (),
        metadata={"engine": "llama.cpp", **model.description(), "threads": load.threads, **facts},
    )


def _die_with(parent: int) -> None:
    """A second belt on Linux: the kernel ends this process with its parent, should the socket ever stay open."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def main() -> None:
    """Serve the parent until it is gone."""
    for ignored in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(ignored, signal.SIG_IGN)
    _die_with(int(sys.argv[2]))
    process = _Process(socket.socket(fileno=int(sys.argv[1])))
    threading.Thread(target=process.read, name="reader", daemon=True).start()
    try:
        process.run(msgspec.json.decode(sys.argv[3], type=Load))
    except EngineError as error:
        process.refuse(wire.NOBODY, error)
    except LlamaError as error:
        process.refuse(wire.NOBODY, EngineError(str(error)))
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        process.refuse(wire.NOBODY, EngineError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
