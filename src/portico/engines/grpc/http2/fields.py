"""Header fields (HPACK, RFC 7541). Pure.

Ours are written as literals that enter no table (section 6.2.2): a request's are a few hundred bytes once per answer,
and what does not change from call to call is encoded once. The peer's are read by the ``hpack`` library.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from hpack import Decoder, HPACKError

from portico.engines.grpc.http2.frames import Broken, Code

__all__ = ["MOST_FIELD_BYTES", "FieldReader", "Fields", "encode"]

Fields: TypeAlias = dict[str, str]  # of a name that comes twice the last counts

MOST_FIELD_BYTES: Final = 64 << 10  # of one block, before and after decoding
_MOST_PIECES: Final = 64  # frames that one block may come in
_LITERAL: Final = b"\x00"


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """The fields as (part of) a block; names are in lower case. Raises ``ValueError`` for what no field may hold."""
    block = bytearray()
    for name, value in fields:
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"The value of '{name}' has characters that no header field may have.")
        block += _LITERAL + _text(name) + _text(value)
    return bytes(block)


def _text(text: str) -> bytes:
    """Its length in a prefix of seven bits (section 5.1), and the text as it is."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text.encode("ascii")
    length = bytearray((127,))
    size -= 127
    while size >= 128:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes(length) + text.encode("ascii")


class FieldReader:
    """Reads blocks of fields, each in one piece or several. All of a connection's must come by, in their order."""

    def __init__(self) -> None:
        self._decoder = Decoder(MOST_FIELD_BYTES)
        self._block = b""
        self._pieces = 0

    def feed(self, piece: bytes, *, last: bool) -> Fields | None:
        """The fields, when their last piece is there. Raises ``Broken`` for what cannot be read and what has no end."""
        self._block += piece
        self._pieces += 1
        if len(self._block) > MOST_FIELD_BYTES or self._pieces > _MOST_PIECES:
            raise Broken(Code.ENHANCE_YOUR_CALM, "its header fields have no end")
        if not last:
            return None
        block, self._block, self._pieces = self._block, b"", 0
        try:
            pairs = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, f"its header fields cannot be read ({error})") from None
        return {str(name, "latin-1"): str(value, "latin-1") for name, value in pairs}
