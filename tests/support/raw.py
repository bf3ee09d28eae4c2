"""HTTP by hand: what a careful client library would never send."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from support.wait import SAFETY

__all__ = ["Answer", "raw", "request"]


@dataclass(frozen=True)
class Answer:
    """What came back. ``statuses`` has one number per response on the connection; ``closed`` tells who hung up;
    ``sent`` is how many pieces went out before."""

    data: bytes
    closed: bool
    sent: int

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", self.data)]

    @property
    def status(self) -> int:
        """That of the only response."""
        (status,) = self.statuses
        return status

    @property
    def json(self) -> Any:
        """The body of the last response."""
        return json.loads(self.data.rpartition(b"\r\n\r\n")[2])


def raw(url: str, *pieces: bytes, patience: float = SAFETY, pause: float = 0.0, end: bool = False) -> Answer:
    """Send ``pieces``, ``pause`` seconds apart, and read until the server hangs up or is silent for ``patience``.

    ``end`` closes our half of the connection after the last piece.
    """
    where = urlsplit(url)
    assert where.hostname is not None
    sent = 0
    data, closed = b"", False
    with socket.create_connection((where.hostname, where.port or 80)) as connection:
        connection.settimeout(patience)
        try:
            for position, piece in enumerate(pieces):
                if position:
                    time.sleep(pause)
                connection.sendall(piece)
                sent += 1
            if end:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server hung up early; what it said is read below
        try:
            while chunk := connection.recv(1 << 16):
                data += chunk
            closed = True
        except TimeoutError:
            pass
        except OSError:
            closed = True
    return Answer(data, closed, sent)


def request(
    method: str, path: str | bytes, body: bytes | None = None, headers: Sequence[tuple[str, str | bytes]] = ()
) -> bytes:
    """One request, byte for byte. A body brings its length and its type, unless ``headers`` says them."""
    target = path if isinstance(path, bytes) else path.encode("latin-1")
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        lines.append(b"Host: localhost")
    lines += [
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, value in headers
    ]
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
    if body is not None and "content-type" not in names:
        lines.append(b"Content-Type: application/json")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")
