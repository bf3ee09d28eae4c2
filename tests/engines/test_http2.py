"""The HTTP/2 client without a network: what it reads does not depend on how it is cut, what it sends keeps to the
peer's windows, and what is no HTTP/2 is told."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.engines.grpc.http2 import call as call_module
from portico.engines.grpc.http2 import connection as connection_module
from portico.engines.grpc.http2.call import Call, framed
from portico.engines.grpc.http2.connection import CONNECTION_WINDOW, STREAM_WINDOW, Connection
from portico.engines.grpc.http2.fields import MOST_FIELD_BYTES, encode
from portico.engines.grpc.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MOST_PAYLOAD,
    PADDED,
    PREFACE,
    PRIORITY_FIELDS,
    Broken,
    Code,
    FrameReader,
    Kind,
    frame,
    number_frame,
)
from portico.engines.grpc.http2.status import RpcError
from support.http2 import HEAD, fields, opening, well


class Heard(Call):
    """A call that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def accepted(self, fields: dict[str, str]) -> None:
        self.told.append("accepted")

    def message(self, data: bytes) -> None:
        self.told.append(data)

    def over(self, error: RpcError | None) -> None:
        self.told.append((error.code, error.details) if error is not None else "well")


def calling(count: int = 1, first: bytes = b"") -> tuple[Connection, list[Heard]]:
    """A connection to a peer that has begun, with so many calls."""
    connection = Connection(lambda: None)
    connection.receive(first or opening())
    calls = [Heard() for _ in range(count)]
    for one in calls:
        one.begin(connection, encode([(":path", "/a/b")]), framed(b"ask"), ends=True)
    return connection, calls


def sent(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """The frames that are to be sent."""
    return FrameReader().feed(connection.take().removeprefix(PREFACE))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted({place % (len(data) + 1) for place in at}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def named(value: object) -> str:
    """What a case is called: by what comes of it, for its bytes are long."""
    return "" if isinstance(value, bytes) else str(value)


# -- what is read -----------------------------------------------------------------------------------------------------

CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)
NOISE = [
    frame(Kind.PING, 0, b"12345678"),
    opening(max_frame_size=20_000),
    frame(Kind.SETTINGS, 0, flags=ACK),
    frame(0x42, 7, b"of another time"),
    number_frame(Kind.WINDOW_UPDATE, 0, 5),
    frame(Kind.PRIORITY, 1, bytes(5)),
]


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[list[Any]]]:
    """What a server says to three calls, woven into each other, and what each is told by it."""
    encoder = Encoder()
    woven: list[list[tuple[str, Any]]] = []
    expected: list[list[Any]] = []
    for number in (1, 3, 5):
        messages = draw(st.lists(st.binary(max_size=30) | st.just(b"long" * 5000), max_size=4))
        code, details = draw(st.sampled_from([("0", ""), ("3", "Grüße, 100%"), ("8", "")]))
        data = b"".join(map(framed, messages))
        parts = [part for part in cut(data, draw(CUTS)) if part]
        parts = [part[at : at + 9000] for part in parts for at in range(0, len(part), 9000)]
        said = "".join(c if c.isascii() and c != "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in details)
        woven.append([
            ("fields", (number, HEAD, 0)),
            *(("data", (number, part)) for part in parts),
            ("fields", (number, (("grpc-status", code), ("grpc-message", said)), END_STREAM)),
        ])  # fmt: skip
        name = {"3": "INVALID_ARGUMENT", "8": "RESOURCE_EXHAUSTED"}.get(code)
        expected.append(["accepted", *messages, (name, details) if name else "well"])
    said_bytes = bytearray()
    while any(woven):
        kind, what = draw(st.sampled_from([rest for rest in woven if rest])).pop(0)
        if kind == "data":
            number, part = what
            pad = draw(st.sampled_from([None, 0, 7]))
            padded = part if pad is None else bytes((pad,)) + part + bytes(pad)
            said_bytes += frame(Kind.DATA, number, padded, 0 if pad is None else PADDED)
        else:
            number, pairs, flags = what
            first, *more = cut(encoder.encode(pairs), draw(st.lists(st.integers(0, 99), max_size=2)))
            if draw(st.booleans()):
                first, flags = bytes((3,)) + bytes(5) + first + bytes(3), flags | PADDED | PRIORITY_FIELDS
            said_bytes += frame(Kind.HEADERS, number, first, flags | (0 if more else END_HEADERS))
            for place, piece in enumerate(more, 1):
                said_bytes += frame(Kind.CONTINUATION, number, piece, END_HEADERS if place == len(more) else 0)
        said_bytes += draw(st.sampled_from([b"", *NOISE]))
    return bytes(said_bytes), expected


@given(answers(), CUTS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_cut_of_the_bytes_gives_the_same_messages(
    said: tuple[bytes, list[list[Any]]], at: list[int], finely: bool
) -> None:
    data, expected = said
    connection, calls = calling(3)
    pieces = [data[place : place + 1] for place in range(len(data))] if finely and len(data) < 2000 else cut(data, at)
    for piece in pieces:
        connection.receive(piece)
    assert [one.told for one in calls] == expected
    assert connection.idle


def test_a_peer_that_keeps_to_the_windows_is_never_kept_waiting() -> None:
    """More than all windows at once, on one stream and on all together."""
    connection, calls = calling(2)
    sent(connection)
    message = framed(bytes(3 * CONNECTION_WINDOW // 2))
    room = {0: CONNECTION_WINDOW, 1: STREAM_WINDOW, 3: STREAM_WINDOW}
    for number in (1, 3):
        connection.receive(fields(number, *HEAD))
        for start in range(0, len(message), MOST_PAYLOAD):
            part = message[start : start + MOST_PAYLOAD]
            for one in (0, number):
                room[one] -= len(part)
                assert room[one] >= 0
            connection.receive(frame(Kind.DATA, number, part))
            for kind, _, one, payload in sent(connection):
                assert kind == Kind.WINDOW_UPDATE
                room[one] += int.from_bytes(payload, "big")
    assert [[len(told) for told in one.told[1:]] for one in calls] == [[3 * CONNECTION_WINDOW // 2]] * 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (fields(1, *HEAD, ("grpc-status", "5"), ("grpc-message", "no%20%ff"), ends=True), ("NOT_FOUND", "no \ufffd")),
        (fields(1, *HEAD, ("grpc-status", "0"), ends=True), "well"),
        (fields(1, *HEAD, ("grpc-status", "77"), ends=True), ("UNKNOWN", "")),
        (fields(1, *HEAD, ("grpc-status", "²"), ends=True), ("UNKNOWN", "")),
        (fields(1, *HEAD, ends=True), ("INTERNAL", "without a status")),
        (fields(1, (":status", "503"), ("content-type", "text/html"), ends=True), ("UNAVAILABLE", "503")),
        (fields(1, (":status", "404"), ("content-type", "text/html")), ("UNIMPLEMENTED", "404")),
        (fields(1, (":status", "200"), ("content-type", "text/html")), ("UNKNOWN", "none of gRPC")),
        (fields(1, (":status", "103")) + fields(1, *HEAD) + fields(1, ("grpc-status", "0"), ends=True), "well"),
        (fields(1, *HEAD) + frame(Kind.DATA, 1, b"", END_STREAM), ("INTERNAL", "without a status")),
        (fields(1, *HEAD) + frame(Kind.DATA, 1, framed(b"x")[:3]) + fields(1, ("grpc-status", "0"), ends=True),
         ("INTERNAL", "middle")),
        (fields(1, *HEAD) + frame(Kind.DATA, 1, b"\1\0\0\0\0"), ("INTERNAL", "compressed")),
        (fields(1, *HEAD) + frame(Kind.DATA, 1, b"\0\xff\xff\xff\xff"), ("INTERNAL", "too long")),
        (frame(Kind.DATA, 1, framed(b"x")), ("INTERNAL", "before")),
        (number_frame(Kind.RST_STREAM, 1, Code.REFUSED_STREAM), ("UNAVAILABLE", "REFUSED")),
        (number_frame(Kind.RST_STREAM, 1, Code.CANCEL), ("CANCELLED", "CANCEL")),
        (number_frame(Kind.RST_STREAM, 1, 9999), ("INTERNAL", "9999")),
        (frame(Kind.GOAWAY, 0, bytes(8)), ("UNAVAILABLE", "leaving")),
    ],
    ids=named,
)  # fmt: skip
def test_how_a_call_ends(said: bytes, told: Any) -> None:
    connection, (one, other) = calling(2)
    connection.receive(said)
    last = one.told[-1]
    assert last == told if told == "well" else (last[0] == told[0] and told[1] in last[1]), last
    assert sum(not isinstance(event, bytes) and event != "accepted" for event in one.told) == 1
    if not connection.leaving:  # what follows is for others
        connection.receive(frame(Kind.DATA, 1, b"late") + well(3, b"fine"))
        assert other.told == ["accepted", b"fine", "well"]
        assert one.told[-1] == last


def test_who_leaves_ends_what_it_has_begun() -> None:
    connection, calls = calling(3)
    connection.receive(frame(Kind.GOAWAY, 0, (3).to_bytes(4, "big") + bytes(4)))
    assert connection.full
    assert [one.told for one in calls] == [[], [], [("UNAVAILABLE", "it is leaving, and has not begun this")]]
    connection.receive(well(1, b"a") + well(3, b"b"))
    assert [one.told[-1] for one in calls[:2]] == ["well", "well"]
    assert connection.idle


# -- what is no HTTP/2 ------------------------------------------------------------------------------------------------

ENDLESS = [frame(Kind.HEADERS, 1, bytes(9)), *[frame(Kind.CONTINUATION, 1)] * 100]
BOMB = Encoder().encode([("x", "y" * 4000)]) + b"\xbe" * 100  # a reference to the long field, a hundred times


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Code.FRAME_SIZE_ERROR),
        (frame(Kind.DATA, 1, bytes(MOST_PAYLOAD + 1)), Code.FRAME_SIZE_ERROR),
        (frame(Kind.DATA, 0, b"x"), Code.PROTOCOL_ERROR),
        (frame(Kind.DATA, 2, b"x"), Code.PROTOCOL_ERROR),
        (frame(Kind.DATA, 99, b"x"), Code.PROTOCOL_ERROR),
        (frame(Kind.DATA, 1, b"", PADDED), Code.PROTOCOL_ERROR),
        (frame(Kind.DATA, 1, b"\x09x", PADDED), Code.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, 1, b"\0\0", END_HEADERS | PRIORITY_FIELDS), Code.FRAME_SIZE_ERROR),
        (frame(Kind.HEADERS, 1, b"\x7f\xff\xff", END_HEADERS), Code.COMPRESSION_ERROR),
        (frame(Kind.HEADERS, 99, b"", END_HEADERS), Code.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, 1, b"") + frame(Kind.PING, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, 1, b"") + frame(Kind.CONTINUATION, 3, b"", END_HEADERS), Code.PROTOCOL_ERROR),
        (frame(Kind.CONTINUATION, 1, b"", END_HEADERS), Code.PROTOCOL_ERROR),
        (b"".join(ENDLESS), Code.ENHANCE_YOUR_CALM),
        (frame(Kind.HEADERS, 1, bytes(9)) + frame(Kind.CONTINUATION, 1, bytes(MOST_PAYLOAD)) * 5,
         Code.ENHANCE_YOUR_CALM),
        (frame(Kind.HEADERS, 1, BOMB, END_HEADERS), Code.COMPRESSION_ERROR),
        (frame(Kind.RST_STREAM, 1, b"x"), Code.FRAME_SIZE_ERROR),
        (number_frame(Kind.RST_STREAM, 99, 0), Code.PROTOCOL_ERROR),
        (frame(Kind.SETTINGS, 0, b"12345"), Code.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, bytes(6), ACK), Code.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 1), Code.PROTOCOL_ERROR),
        (opening(initial_window_size=1 << 31), Code.FLOW_CONTROL_ERROR),
        (opening(max_frame_size=5), Code.PROTOCOL_ERROR),
        (frame(Kind.PUSH_PROMISE, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frame(Kind.PING, 0, b"1"), Code.FRAME_SIZE_ERROR),
        (frame(Kind.GOAWAY, 0, b"1"), Code.FRAME_SIZE_ERROR),
        (number_frame(Kind.WINDOW_UPDATE, 0, 0), Code.PROTOCOL_ERROR),
        (number_frame(Kind.WINDOW_UPDATE, 0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        (number_frame(Kind.WINDOW_UPDATE, 1, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        (frame(Kind.WINDOW_UPDATE, 1, b"1"), Code.FRAME_SIZE_ERROR),
    ],
    ids=named,
)  # fmt: skip
def test_a_peer_that_breaks_the_rules_is_told_so(said: bytes, code: Code) -> None:
    connection, _ = calling()
    with pytest.raises(Broken) as caught:
        connection.receive(said)
    assert caught.value.code == code
    assert caught.value.why


def test_who_does_not_begin_as_it_must_is_told() -> None:
    for said in (frame(Kind.PING, 0, bytes(8)), frame(Kind.SETTINGS, 0, flags=ACK)):
        with pytest.raises(Broken, match="begin"):
            Connection(lambda: None).receive(said)


def test_who_asks_and_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MOST_HELD", 2500)
    pings = frame(Kind.PING, 0, bytes(8)) * 100
    connection, _ = calling()
    for _ in range(10):  # who reads may ask as much as it likes
        connection.receive(pings)
        connection.take()
    connection.hold(True)
    connection.receive(pings)
    with pytest.raises(Broken, match="reads nothing"):
        connection.receive(pings)


@given(st.binary(max_size=200), CUTS)
@settings(max_examples=60, deadline=None)
def test_no_bytes_do_worse_than_break_it(said: bytes, at: list[int]) -> None:
    for begun in (b"", opening(), opening() + fields(1, *HEAD)):
        connection, _ = calling()
        with suppress(Broken):
            for piece in cut(begun + said, at):
                connection.receive(piece)


# -- what is sent -----------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 70_000),
    st.lists(st.binary(min_size=1, max_size=40_000), max_size=4),
    st.lists(
        st.tuples(st.sampled_from(["all", "one", "settings", "held", "free"]), st.integers(1, 60_000)), max_size=12
    ),
)
@settings(max_examples=40, deadline=None)
def test_what_is_sent_keeps_to_the_windows_and_arrives(
    window: int, messages: list[bytes], grants: list[tuple[str, int]]
) -> None:
    connection = Connection(lambda: None)
    connection.receive(opening(initial_window_size=window))
    room, stream_room, data, ended, headers = 65_535, window, b"", 0, 0
    one = Heard()
    one.begin(connection, encode([(":path", "/" + "a" * 20_000)]), b"", ends=False)
    for message in messages:
        one.send(message)
    one.ends = True
    one.send(b"")

    def take() -> None:
        nonlocal room, stream_room, data, ended, headers
        for kind, flags, number, payload in sent(connection):
            headers += kind in (Kind.HEADERS, Kind.CONTINUATION)
            if kind == Kind.DATA:
                assert number == 1
                room -= len(payload)
                stream_room -= len(payload)
                assert not payload or (room >= 0 and stream_room >= 0)
                data += payload
                ended += flags & END_STREAM

    take()
    for kind, more in [*grants, ("free", 0), *[("one", 60_000), ("all", 60_000)] * 6]:
        if kind == "all":
            connection.receive(number_frame(Kind.WINDOW_UPDATE, 0, more))
            room += more
        elif kind == "one" and not one.closed:
            connection.receive(number_frame(Kind.WINDOW_UPDATE, 1, more))
            stream_room += more
        elif kind == "settings":
            connection.receive(opening(initial_window_size=more))
            stream_room += more - window
            window = more
        elif kind in ("held", "free"):
            connection.hold(kind == "held")
        take()
    assert data == b"".join(map(framed, [*messages, b""]))
    assert ended == 1
    assert headers == 2


def test_what_is_asked_is_a_request() -> None:
    connection, _ = calling()
    frames = [one for one in sent(connection) if one[2]]
    assert [one[:3] for one in frames] == [(Kind.HEADERS, END_HEADERS, 1), (Kind.DATA, END_STREAM, 1)]
    assert frames[1][3] == framed(b"ask")
    assert list(Decoder().decode(frames[0][3])) == [(":path", "/a/b")]
    for value in ("Grüße", "a\r\nb", "\0"):
        with pytest.raises(ValueError, match="name"):
            encode([("name", value)])
    for size in (0, 126, 127, 128, 254, 255, 16_510, MOST_FIELD_BYTES // 2):
        assert list(Decoder().decode(encode([("a", "v" * size)]))) == [("a", "v" * size)]


def test_who_is_cancelled_hears_nothing_more_and_its_peer_is_told() -> None:
    connection, (one, other) = calling(2)
    sent(connection)
    one.cancel()
    assert sent(connection) == [(Kind.RST_STREAM, 0, 1, int(Code.CANCEL).to_bytes(4, "big"))]
    connection.receive(well(1, b"late") + well(3, b"fine"))
    assert (one.told, other.told) == ([], ["accepted", b"fine", "well"])
    one.cancel()
    one.send(b"x")
    assert sent(connection) == []


def test_who_ends_a_message_is_not_given_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, (one,) = calling()
    monkeypatch.setattr(one, "message", lambda data: (one.told.append(data), one.cancel()))
    connection.receive(fields(1, *HEAD) + frame(Kind.DATA, 1, framed(b"a") + framed(b"b")))
    assert one.told == ["accepted", b"a"]


def test_a_long_message_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "MOST_MESSAGE", 10)
    connection, (one,) = calling()
    connection.receive(fields(1, *HEAD))
    for part in (b"0123456789", b"0123456789a"):
        connection.receive(b"".join(frame(Kind.DATA, 1, bytes((byte,))) for byte in framed(part)))
    assert one.told[:2] == ["accepted", b"0123456789"]
    assert "too long" in one.told[2][1]
