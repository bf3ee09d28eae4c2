"""The server's side of HTTP/2, as far as tests of the client need it: bytes, and a peer on a port that says what a test
wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext

from hpack import Encoder

from portico.engines.grpc.http2.call import framed
from portico.engines.grpc.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Frame,
    FrameReader,
    Kind,
    Setting,
    frame,
    settings_frame,
)

__all__ = ["HEAD", "Peer", "fields", "opening", "peer", "well"]

HEAD = ((":status", "200"), ("content-type", "application/grpc"))


def fields(number: int, *pairs: tuple[str, str], ends: bool = False, encoder: Encoder | None = None) -> bytes:
    """A stream's header fields, in one frame."""
    block = (encoder or Encoder()).encode(pairs)
    return frame(Kind.HEADERS, number, block, END_HEADERS | (END_STREAM if ends else 0))


def opening(**settings: int) -> bytes:
    """What a server begins with."""
    return settings_frame({Setting[name.upper()]: value for name, value in settings.items()})


def well(number: int, *messages: bytes) -> bytes:
    """A whole answer that ends well."""
    data = b"".join(frame(Kind.DATA, number, framed(message)) for message in messages)
    return fields(number, *HEAD) + data + fields(number, ("grpc-status", "0"), ends=True)


class Peer:
    """One connection that was made to the port: ``say`` answers, ``heard`` is what has come, settings and such left
    out."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.heard: list[Frame] = []
        self._writer = writer

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    def leave(self) -> None:
        """Close without a word."""
        self._writer.close()


@asynccontextmanager
async def peer(
    answer: Callable[[Peer, Frame], None], first: bytes | None = None, tls: SSLContext | None = None
) -> AsyncIterator[tuple[str, Sequence[Peer]]]:
    """A port, and those who came; each gets ``first``, and ``answer`` is called for every frame that it sends."""
    peers: list[Peer] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = Peer(writer)
        peers.append(one)
        one.say(opening() if first is None else first)
        frames = FrameReader()
        try:
            await reader.readexactly(len(PREFACE))
            while data := await reader.read(1 << 16):
                for kind, flags, number, payload in frames.feed(data):
                    if kind == Kind.SETTINGS and not flags & ACK and first != b"":
                        one.say(frame(Kind.SETTINGS, 0, flags=ACK))
                    elif kind not in (Kind.SETTINGS, Kind.WINDOW_UPDATE):
                        one.heard.append((kind, flags, number, payload))
                        answer(one, one.heard[-1])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(come, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", peers
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
