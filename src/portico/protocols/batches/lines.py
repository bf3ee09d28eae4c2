"""The lines of an input file, in pieces: ``{"custom_id", "method", "url", "body"}`` each, and all or none.

A line is refused for what it is, not for what it asks: what its endpoint thinks of the body is found out when it runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from portico.protocols.batches.record import Problem

__all__ = [
    "BODIES",
    "ENDPOINTS",
    "MOST_BYTES",
    "MOST_LINES",
    "FileReader",
    "NewRequest",
    "Request",
    "beginning_of",
    "read_line",
    "run_order",
]

MOST_LINES: Final = 50_000
MOST_BYTES: Final = 200 * 1000 * 1000
LONGEST_LINE: Final = 32 << 20  # bytes
DIGEST: Final = 6  # bytes, of a beginning
LONGEST_ID: Final = 512  # characters
MOST_PROBLEMS: Final = 20  # told at once
BOM: Final = b"\xef\xbb\xbf"

ENDPOINTS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/score",
    "/v1/rerank",
)

CUTS: Final = (256, 1024, 4096, 16384)  # bytes, after which beginnings are compared


class Request(Struct, frozen=True):
    """What a line asks of which path; ``body`` is JSON as it was written."""

    custom_id: str
    path: str
    body: bytes


class NewRequest(Struct, frozen=True):
    """A line of a file, as it was written. ``beginning`` is what its prompt begins like: see ``run_order``."""

    line: bytes
    model: str | None
    beginning: bytes


class _Line(Struct):
    custom_id: str
    body: Raw
    url: str
    method: str = "POST"


class Body(Struct):
    """What is looked at of a body: the fields that must not be there, and those that its prompt begins with."""

    model: Raw | UnsetType = UNSET
    stream: Any = None
    background: Any = None
    tools: Raw | UnsetType = UNSET
    system: Raw | UnsetType = UNSET
    instructions: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    query: Raw | UnsetType = UNSET
    text_1: Raw | UnsetType = UNSET


_LINES = msgspec.json.Decoder(_Line)
BODIES = msgspec.json.Decoder(Body)
_NAMES = msgspec.json.Decoder(str)


class BadLineError(ValueError):
    """A line is none; ``problem`` says why."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, None, param)


def read_line(line: bytes) -> Request:
    """The request of a line that was found to be one."""
    read = _LINES.decode(line)
    return Request(read.custom_id, read.url, bytes(read.body))


def _checked(line: bytes, endpoint: str) -> tuple[str, Body]:
    """Its ``custom_id`` and its body. Raises ``BadLineError`` where it does not belong into a batch of the endpoint."""
    try:
        read = _LINES.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(error) from None
    if not read.custom_id or len(read.custom_id) > LONGEST_ID:
        raise BadLineError("invalid_custom_id", f"'custom_id' must have 1 to {LONGEST_ID} characters.", "custom_id")
    if read.method != "POST":
        raise BadLineError("invalid_method", "'method' must be POST.", "method")
    if read.url != endpoint:
        raise BadLineError("invalid_url", f"'url' must be {endpoint}, the endpoint of this batch.", "url")
    try:
        body = BODIES.decode(read.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadLineError("invalid_body", "'body' must be a JSON object.", "body") from None
    for field in ("stream", "background"):
        if getattr(body, field) not in (None, False):
            raise BadLineError("invalid_body", f"A line cannot ask for '{field}': leave it out.", f"body.{field}")
    return read.custom_id, body


def _refused(error: Exception) -> BadLineError:
    """What is wrong with a line that is no request."""
    missing = re.match(r"Object missing required field `(\w+)`", str(error))
    if missing is not None:
        return BadLineError("missing_required_parameter", f"'{missing[1]}' is missing.", missing[1])
    if isinstance(error, msgspec.ValidationError):
        place = re.search(r" - at `\$\.?(\w*)", str(error))
        if place is None or not place[1]:
            return BadLineError("invalid_json_line", "A line must be a JSON object.")
        return BadLineError("invalid_type", f"'{place[1]}' must be a string.", place[1])
    return BadLineError("invalid_json_line", "The line is not valid JSON.")


def _name(model: Raw | UnsetType) -> str | None:
    try:
        return None if model is UNSET else _NAMES.decode(model)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # its endpoint will say so


def beginning_of(body: Body) -> bytes:
    """Digests of ever longer beginnings of its prompt, so that those of prompts that begin alike begin alike."""
    text = bytearray()
    parts = (body.model, body.tools, body.system, body.instructions, body.messages, body.input, body.prompt, body.query)
    for part in (*parts, body.text_1):
        if not isinstance(part, UnsetType):
            text += memoryview(part)[: CUTS[-1]]
        text += b"\0"
    return b"".join(_digest(text[:cut], DIGEST) for shorter, cut in pairwise((0, *CUTS)) if len(text) > shorter)


def _digest(text: bytes | bytearray, size: int) -> bytes:
    return hashlib.blake2b(text, digest_size=size).digest()


class FileReader:
    """Reads a file's bytes into requests, and says what is wrong with it; after ``problems`` nothing comes any more."""

    def __init__(self, endpoint: str) -> None:
        self.problems: list[Problem] = []
        self._endpoint = endpoint
        self._number = 0  # of lines
        self._blank = 0  # the first of the blank lines that the last ones were
        self._bytes = 0
        self._line: list[bytes] = []  # the pieces of one that is not complete
        self._held = 0  # bytes of them
        self._over = False
        self._requests = 0
        self._ids: set[bytes] = set()  # digests: names may be long

    def feed(self, piece: bytes) -> list[NewRequest]:
        """The requests that are complete with this piece."""
        if self._over:
            return []
        self._bytes += len(piece)
        if self._bytes > MOST_BYTES:
            self._stop(Problem("file_too_large", f"The input file may have at most {MOST_BYTES // 1000**2} MB."))
            return []
        *ends, rest = piece.split(b"\n")
        found = []
        for end in ends:
            self._line.append(end)
            found += self._take(b"".join(self._line))
            self._line, self._held = [], 0
        if rest:
            self._line.append(rest)
            self._held += len(rest)
        if self._held > LONGEST_LINE:
            message = f"A line may have at most {LONGEST_LINE >> 20} MiB."
            self._stop(Problem("line_too_long", message, self._number + 1))
        return [] if self.problems else found

    def close(self) -> list[NewRequest]:
        """The file has ended: the request that no newline ended."""
        found = [] if self._over else self._take(b"".join(self._line))
        if not self._requests and not self.problems:
            self._tell(Problem("empty_file", "The input file has no lines."))
        return [] if self.problems else found

    def _take(self, line: bytes) -> list[NewRequest]:
        if self._over:
            return []
        self._number += 1
        if self._number > 2 * MOST_LINES:
            self._stop(_too_many(self._number))
            return []
        line = (line.removeprefix(BOM) if self._number == 1 else line).strip(b" \t\r")
        if not line:
            self._blank = self._blank or self._number
            return []
        if self._blank:
            self._tell(Problem("invalid_json_line", "The line is blank, and others follow.", self._blank))
            self._blank = 0
        self._requests += 1
        if self._requests > MOST_LINES:
            self._stop(_too_many(self._number))
            return []
        try:
            custom_id, body = _checked(line, self._endpoint)
        except BadLineError as error:
            self._tell(msgspec.structs.replace(error.problem, line=self._number))
            return []
        id = _digest(custom_id.encode("utf-8", "surrogatepass"), 16)
        if id in self._ids:
            message = "The 'custom_id' is that of a line before; each must be unique."
            self._tell(Problem("duplicate_custom_id", message, self._number, "custom_id"))
            return []
        self._ids.add(id)
        return [NewRequest(line, _name(body.model), beginning_of(body))]

    def _tell(self, problem: Problem) -> None:
        self.problems.append(problem)
        self._over = self._over or len(self.problems) >= MOST_PROBLEMS

    def _stop(self, problem: Problem) -> None:
        self.problems.append(problem)
        self._over = True


def _too_many(number: int) -> Problem:
    return Problem("too_many_lines", f"The input file may have at most {MOST_LINES:,} lines.", number)


def run_order(beginnings: Sequence[bytes]) -> list[int]:
    """The place of each line among those that run: prompts that begin alike stand together, so that what they share is
    computed once. Where nothing is shared lines keep their order."""
    first: dict[bytes, int] = {}
    for number, beginning in enumerate(beginnings):
        first.setdefault(beginning[:DIGEST], number)
    places = [0] * len(beginnings)
    order = sorted(range(len(beginnings)), key=lambda number: (first[beginnings[number][:DIGEST]], beginnings[number]))
    for place, number in enumerate(order):
        places[number] = place
    return places
