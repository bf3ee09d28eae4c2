"""The HTTP/2 client over real connections: peers that are none, that leave, fall silent, take few calls, and TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from portico.engines.grpc import GrpcEngine
from portico.engines.grpc.http2 import Call, Channel, RpcError
from portico.engines.grpc.http2 import channel as channel_module
from portico.engines.grpc.http2.call import framed
from portico.engines.grpc.http2.frames import ACK, END_STREAM, Frame, Kind, frame
from portico.errors import BadRequestError
from portico.server.grpc.server import Tls
from support.certificates import write_pair
from support.grpc import calling, hosting
from support.http2 import HEAD, Peer, fields, opening, peer, well
from support.wait import SAFETY, eventually


def answering(one: Peer, heard: Frame) -> None:
    """Answer every request with what it asks."""
    kind, flags, number, payload = heard
    if kind == Kind.DATA and flags & END_STREAM:
        one.say(well(number, payload[5:]))


def nothing(one: Peer, heard: Frame) -> None:
    """Say no more."""


async def asked(channel: Channel, message: bytes = b"hi", seconds: float = SAFETY) -> list[bytes]:
    return await channel.ask("/a/b", message, seconds=seconds)


async def told_of(target: str, word: str) -> None:
    """Return when an engine says why its host is not used."""
    engine = GrpcEngine(target)
    starting = asyncio.create_task(engine.start())
    await eventually(lambda: word in engine._hosts[0].trouble.lower())
    assert not engine.healthy
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await engine.close()


@pytest.mark.parametrize(
    ("first", "word"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "http/2"),
        (b"\0" * 100, "begin"),
        (opening() + frame(Kind.PUSH_PROMISE, 1, bytes(8)), "pushes"),
        (opening(max_concurrent_streams=0), "takes no calls"),
    ],
)
async def test_who_speaks_something_else_is_told_of(first: bytes, word: str) -> None:
    async with peer(nothing, first) as (address, _):
        channel = Channel(address)
        with pytest.raises(RpcError, match=f"(?i){word}") as caught:
            await asked(channel)
        assert caught.value.code == "UNAVAILABLE"
        await channel.close()
        await told_of(f"grpc://{address}", word)


async def test_who_says_nothing_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "CONNECT_SECONDS", 0.1)
    async with peer(nothing, b"") as (address, _):
        channel = Channel(address)
        with pytest.raises(RpcError, match="does not answer"):
            await asked(channel)
        await channel.close()


async def test_who_falls_silent_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for a sign of life first, and who gives one may be silent for long."""
    monkeypatch.setattr(channel_module, "LOOK_SECONDS", 10 * SAFETY)  # the test looks
    lives = True

    def living(one: Peer, heard: Frame) -> None:
        if heard[0] == Kind.PING and lives:
            one.say(frame(Kind.PING, 0, heard[3], ACK))

    async with peer(living) as (address, peers):
        channel = Channel(address)
        asking = asyncio.create_task(asked(channel))
        await eventually(lambda: peers and len(peers[0].heard) == 2)
        socket = channel._current
        assert socket is not None
        socket._look()
        for _ in range(3):
            socket._look()
            await eventually(lambda: socket._heard)
            socket._look()
        lives = False
        socket._look()
        socket._look()
        with pytest.raises(RpcError, match="fallen silent"):
            await asking
        await channel.close()


async def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    def slowly(one: Peer, heard: Frame) -> None:
        if heard[3] != framed(b"never"):
            answering(one, heard)

    async with peer(slowly) as (address, peers):
        channel = Channel(address)
        assert await asked(channel) == [b"hi"]
        with pytest.raises(RpcError) as caught:
            await asked(channel, b"never", seconds=0.2)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        await eventually(lambda: peers[0].heard[-1][0] == Kind.RST_STREAM)
        assert any(b"200m" in one[3] for one in peers[0].heard), "it was told how long we wait"
        assert await asked(channel) == [b"hi"]
        await channel.close()


async def test_who_leaves_ends_what_it_has_and_the_next_call_finds_another_connection() -> None:
    async with peer(nothing) as (address, peers):
        channel = Channel(address)
        first = asyncio.create_task(asked(channel))
        await eventually(lambda: peers and len(peers[0].heard) == 2)
        peers[0].say(frame(Kind.GOAWAY, 0, (1).to_bytes(4, "big") + bytes(4)))
        await eventually(lambda: channel._current is not None and channel._current.connection.leaving)
        second = asyncio.create_task(asked(channel))
        await eventually(lambda: len(peers) == 2 and len(peers[1].heard) == 2)
        peers[0].say(well(1, b"one"))
        assert await first == [b"one"]
        peers[1].say(well(1, b"two"))
        assert await second == [b"two"]
        await eventually(lambda: len(channel._sockets) == 1)
        await channel.close()
        assert not channel._sockets


async def test_who_takes_few_calls_at_once_gets_more_connections() -> None:
    async with peer(answering, opening(max_concurrent_streams=2)) as (address, peers):
        channel = Channel(address)
        answers = await asyncio.gather(*(asked(channel, str(n).encode()) for n in range(7)))
        assert answers == [[str(n).encode()] for n in range(7)]
        assert len(peers) >= 2
        await channel.close()


async def test_who_breaks_off_takes_its_calls_along_and_no_others() -> None:
    ends: list[Any] = []

    class Noting(Call):
        def over(self, error: RpcError | None) -> None:
            ends.append(error and error.code)

    async with peer(nothing) as (address, peers):
        channel = Channel(address)
        for _ in range(3):
            await channel.begin(Noting(), "/a/b", b"x")
        await eventually(lambda: len(peers[0].heard) == 6)
        peers[0].say(fields(1, *HEAD))
        peers[0].leave()
        await eventually(lambda: len(ends) == 3)
        assert ends == ["UNAVAILABLE"] * 3
        again = asyncio.create_task(asked(channel))
        await eventually(lambda: len(peers) == 2 and len(peers[1].heard) == 2)
        peers[1].say(well(1))
        assert await again == []
        await channel.close()


async def test_an_answer_is_bounded() -> None:
    async with peer(answering) as (address, _):
        channel = Channel(address)
        with pytest.raises(RpcError, match="too large"):
            await channel.ask("/a/b", bytes(2000), seconds=SAFETY, most=1999)
        assert await channel.ask("/a/b", bytes(2000), seconds=SAFETY, most=2000) == [bytes(2000)]
        await channel.close()


@pytest.mark.parametrize("target", ["grpc://host", "portico://host:", "grpcs://[::1]"])
def test_an_engine_needs_a_port(target: str) -> None:
    with pytest.raises(BadRequestError, match="port"):
        GrpcEngine(target)


def test_a_key_that_no_call_can_carry_is_refused() -> None:
    with pytest.raises(BadRequestError, match="key"):
        GrpcEngine("grpc://host:1", key="naïve")


@pytest.mark.parametrize("kind", ["grpcs", "porticos"])
async def test_tls(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HTTP/2 agreed in its handshake, and only where the certificate is trusted and for that name."""
    certificate, private = write_pair(tmp_path, "engine")
    up: Any = {"grpcs": calling, "porticos": hosting}[kind]
    async with up({"a": "x"}, tls=Tls(certificate, private)) as server:
        address = f"127.0.0.1:{server.port}"
        monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
        engine = GrpcEngine(f"{kind}://{address}")
        await engine.start()
        await engine.close()
        monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
        await told_of(f"{kind}://{address}", "certificate")


async def test_tls_without_http2_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path, "engine")
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(pair[0]))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)
    async with peer(answering, tls=context) as (address, _):
        channel = Channel(address, secure=True)
        with pytest.raises(RpcError, match="HTTP/2 over TLS"):
            await asked(channel)
        await channel.close()
        context.set_alpn_protocols(["h2"])
        channel = Channel(address, secure=True)
        assert await asked(channel) == [b"hi"]
        await channel.close()
