"""How much a message may hold, looked at before it is decoded: two bytes of it can be an object of a hundred.

The wire format is protobuf's: https://protobuf.dev/programming-guides/encoding. Nothing here decides whether the bytes
are the message; the decoder does.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from portico.errors import BadRequestError
from portico.protocols.bounds import LARGE, MOST_IDS
from portico.threads import checkpoint
from portico.values import MOST_VALUES

__all__ = ["check_bounds"]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_CONTINUED = bytes(range(128, 256))  # bytes of a number that are not its last
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def check_bounds(data: bytes, message: Descriptor) -> None:
    """Raise ``BadRequestError`` naming the field with which ``data`` holds more values than a request may."""
    if len(data) <= LARGE:
        return
    values = numbers = 0
    waiting = [(0, len(data), message)]
    while waiting:
        position, end, kind = waiting.pop()
        while position < end:
            values += 1
            if values % 1024 == 0:
                checkpoint()
            tag, position = _varint(data, position, end)
            field = kind.fields_by_number.get(tag >> 3)
            size = {FIXED64: 8, FIXED32: 4}.get(tag & 7, 0)
            if tag & 7 == VARINT:
                _, position = _varint(data, position, end)
            elif tag & 7 == LENGTH:
                size, position = _varint(data, position, end)
                last = min(position + size, end)
                if field is not None and field.message_type is not None:
                    waiting.append((position, last, field.message_type))
                elif field is not None and field.type not in _TEXTS:
                    numbers += len(data[position:last].translate(None, _CONTINUED))
            position += size
            if values > MOST_VALUES or numbers > MOST_IDS:
                most = MOST_VALUES if values > MOST_VALUES else MOST_IDS
                name = field.name if field is not None else None
                raise BadRequestError(
                    f"A request may hold {most:,} values (items and fields, nested ones included); send less.",
                    param=name,
                    code="too_many_values",
                )


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at ``position`` and where it ends; what is no number ends at ``end``."""
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    return 0, end
