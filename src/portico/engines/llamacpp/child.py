"""The engine's own process: ``python -m portico.engines.llamacpp.child FD PARENT_PID``.

It talks to its parent over the inherited socket FD and lives exactly as long as that socket: end of file ends it, even
in the middle of a native call. Two threads: one reads messages (so requests are answered during a long decode, which
does not hold the interpreter's lock), the main one decodes. Grammars compile in threads of their own.

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
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final

from portico.engines.llamacpp import wire
from portico.engines.llamacpp.embedding import Embedder
from portico.engines.llamacpp.generating import Generator
from portico.engines.llamacpp.grammar import Grammar, GrammarCompiler, GrammarError
from portico.engines.llamacpp.libllama import Library, LlamaError, Model
from portico.events import EngineRequest

_PR_SET_PDEATHSIG: Final = 1
_COMPILING_THREADS: Final = 2


class _Process:
    """The two threads' common ground: the socket, and the queue from the reader to the decoder."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: SimpleQueue[
            wire.Load | wire.Abort | wire.Embed | wire.Flush | tuple[EngineRequest, Grammar | None]
        ] = SimpleQueue()
        self._grammars: GrammarCompiler | None = None
        self._compilers = ThreadPoolExecutor(_COMPILING_THREADS, thread_name_prefix="grammar")
        self._compiling: set[str] = set()
        self._compiling_lock = threading.Lock()

    def send(self, message: wire.FromEngine) -> None:
        frame = wire.encode(message)
        with self._sending:
            self._connection.sendall(frame)

    # -- the reader's thread --------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take messages until the parent is gone; then the process ends, whatever it is doing."""
        frames = wire.FrameReader()
        try:
            while data := self._connection.recv(1 << 18):
                for frame in frames.feed(data):
                    self._receive(wire.to_engine.decode(frame))
        except OSError:
            pass
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    def _receive(self, message: wire.ToEngine) -> None:
        if isinstance(message, wire.Submit):
            request = message.request
            if request.constraint is None:
                self._accept(request, None)
            else:
                with self._compiling_lock:
                    self._compiling.add(request.request_id)
                self._compilers.submit(self._compile, request, request.constraint.lark)
        else:
            if isinstance(message, wire.Abort):
                with self._compiling_lock:
                    self._compiling.discard(message.request_id)
            self._inbox.put(message)

    def _accept(self, request: EngineRequest, grammar: Grammar | None) -> None:
        self.send(wire.Accepted(request.request_id))
        self._inbox.put((request, grammar))

    def _compile(self, request: EngineRequest, lark: str) -> None:
        """Runs in a grammar thread: compile, then accept or reject, unless the request was aborted meanwhile."""
        assert self._grammars is not None
        grammar, reason = None, ""
        try:
            grammar = self._grammars.compile(lark)
        except GrammarError as error:
            reason = str(error)
        except BaseException as error:  # a panic in native code is not an Exception
            reason = f"the grammar compiler failed: {error}"
        with self._compiling_lock:
            wanted = request.request_id in self._compiling
            self._compiling.discard(request.request_id)
            if wanted and grammar is not None:
                self._accept(request, grammar)
            elif wanted:
                self.send(wire.Rejected(request.request_id, f"The grammar cannot be used: {reason}", "constraint"))

    # -- the main thread ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Load what the first message says, then decode for ever."""
        load = self._inbox.get()
        assert isinstance(load, wire.Load)
        model = Model(Library(), load.model_path)
        if load.embedding:
            self._embed(model, load)
        else:
            self._generate(model, load)

    def _generate(self, model: Model, load: wire.Load) -> None:
        engine = Generator(
            model,
            context_length=load.context_length,
            max_sequences=load.max_sequences,
            threads=load.threads,
            batch_tokens=load.batch_tokens,
            cache_tokens=load.cache_tokens,
        )
        self._grammars = GrammarCompiler(model)
        self._ready(model, load, engine.context_length, None, cache_tokens=engine.cache_tokens)
        while True:
            while engine.idle or not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, tuple):
                    engine.submit(*message)
                elif isinstance(message, wire.Abort):
                    engine.abort(message.request_id)
                elif isinstance(message, wire.Flush):
                    self.send(wire.Flushed(message.request_id, engine.flush()))
                elif isinstance(message, wire.Embed):
                    self.send(wire.Rejected(message.request_id, "This model generates; it does not embed.", "model"))
            outputs = engine.step()
            if outputs:
                self.send(wire.Step(outputs))

    def _embed(self, model: Model, load: wire.Load) -> None:
        engine = Embedder(
            model, context_length=load.context_length, threads=load.threads, batch_tokens=load.batch_tokens
        )
        self._ready(model, load, engine.context_length, model.embedding_size)
        while True:
            while engine.idle or not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, wire.Embed):
                    engine.submit(message.request_id, message.inputs)
                elif isinstance(message, wire.Flush):
                    self.send(wire.Flushed(message.request_id, True))  # an embedding is not kept
                elif isinstance(message, wire.Abort):
                    engine.abort(message.request_id)
            for request_id, vectors in engine.step():
                self.send(wire.Embedded(request_id, vectors.tobytes()))

    def _ready(
        self, model: Model, load: wire.Load, context_length: int, embedding_size: int | None, **facts: object
    ) -> None:
        metadata = {**model.description(), "threads": load.threads, **facts}
        self.send(wire.Ready(context_length, model.vocab_size, sorted(model.end_tokens), embedding_size, metadata))


def _die_with(parent: int) -> None:
    """A second belt on Linux: the kernel ends this process with its parent, should the socket ever stay open."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def main() -> None:
    """Serve the parent until it is gone."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    _die_with(int(sys.argv[2]))
    process = _Process(socket.socket(fileno=int(sys.argv[1])))
    threading.Thread(target=process.read, name="reader", daemon=True).start()
    try:
        process.run()
    except LlamaError as error:
        process.send(wire.Failed(str(error)))
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        process.send(wire.Failed(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
