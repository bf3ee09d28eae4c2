"""The metadata of a GGUF file: what the weights are, without touching the weights.

A GGUF file (llama.cpp's container) opens with a header, then key/value pairs, then tensor descriptions and tensor
data; only the first two are read here. Layout, all integers little-endian unless the file was written big-endian:

    "GGUF"  u32 version  u64 tensor count  u64 pair count
    pair:   string key   u32 value type    value
    string: u64 length   UTF-8 bytes
    array:  u32 element type   u64 length  elements

Version 1 wrote counts and lengths as u32; versions 2 and 3 differ only in that 3 may be big-endian.

Strategy: map the file, walk it once. Numbers of an array become one ``array.array``, strings a list; bytes that are not
UTF-8 survive as surrogate escapes (some vocabularies hold raw bytes). Every length is checked against the file before
it is believed, so a truncated or foreign file is a clear error and never a huge allocation.
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from portico.errors import PorticoError

__all__ = ["GGUF", "GGUFError", "read_gguf"]

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
# value type -> struct's code, which is array's, too, except for bool, which is one byte
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_NESTING = 4  # arrays of arrays of …; no writer goes beyond 2


class GGUFError(PorticoError):
    """The file is not GGUF, is truncated, or is of a version this reader does not know."""

    code = "invalid_gguf"


@dataclass(frozen=True)
class GGUF:
    """The head of one GGUF file.

    ``metadata`` maps each key to a ``str``, ``int``, ``float`` or ``bool``; arrays are an ``array.array`` (numbers), a
    list of ``bool`` or ``str``, or a list (nested arrays). In a model split over several files only the first carries
    it all.
    """

    path: Path
    version: int
    byte_order: Literal["little", "big"]
    tensor_count: int
    metadata: Mapping[str, Any]

    @property
    def architecture(self) -> str | None:
        """``general.architecture``: the prefix of the model's own keys (``llama`` in ``llama.context_length``)."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else None


def read_gguf(path: str | Path) -> GGUF:
    """Read the metadata of the GGUF file at ``path``.

    Raises ``GGUFError`` naming the defect, or ``OSError`` where the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        if path.stat().st_size < 16:
            raise GGUFError(f"{path.name}: too short to be a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Reader(path, view).read()


class _Reader:
    """One walk over a mapped file; ``offset`` is where the next value begins."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path = path
        self.view = view
        self.end = len(view)
        self.offset = 0
        self.order: Literal["little", "big"] = "little"
        self.length_size = 8  # bytes of a count or length

    def fail(self, defect: str) -> GGUFError:
        return GGUFError(f"{self.path.name}: {defect}")

    def read(self) -> GGUF:
        magic = self.view[:4]
        if magic != _MAGIC:
            raise self.fail(f"not a GGUF file (it begins with {magic!r}, not {_MAGIC!r})")
        self.offset = 4
        version = self.integer(4)
        if version & 0xFFFF == 0:  # a small number read in the wrong byte order has its bits at the top
            self.order, self.offset = "big", 4
            version = self.integer(4)
        if version not in (1, 2, 3):
            raise self.fail(f"GGUF version {version} is not known; versions 1 to 3 are")
        if version == 1:
            self.length_size = 4
        tensor_count, pairs = self.length(), self.length()
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.string()
            metadata[key] = self.value(self.integer(4), key)
        return GGUF(self.path, version, self.order, tensor_count, metadata)

    def take(self, size: int) -> int:
        """Advance over ``size`` bytes; returns where they begin."""
        start = self.offset
        if size > self.end - start:
            raise self.fail(f"truncated: {size} bytes wanted at offset {start}, the file has {self.end}")
        self.offset = start + size
        return start

    def integer(self, size: int) -> int:
        start = self.take(size)
        return int.from_bytes(self.view[start : start + size], self.order)

    def length(self) -> int:
        return self.integer(self.length_size)

    def string(self) -> str:
        size = self.length()
        start = self.take(size)
        return self.view[start : start + size].decode("utf-8", "surrogateescape")

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            if depth == _MAX_NESTING:
                raise self.fail(f"{key}: arrays nested deeper than {_MAX_NESTING}")
            return self.array(key, depth)
        code = self.number(kind, key)
        size = struct.calcsize(code)
        start = self.take(size)
        return struct.unpack_from((">" if self.order == "big" else "<") + code, self.view, start)[0]

    def number(self, kind: int, key: str) -> str:
        try:
            return _NUMBERS[kind]
        except KeyError:
            raise self.fail(f"{key}: value type {kind} is not known") from None

    def array(self, key: str, depth: int) -> Any:
        kind, count = self.integer(4), self.length()
        if kind == _STRING:
            return self.strings(count)
        if kind == _ARRAY:
            return [self.value(kind, key, depth + 1) for _ in range(count)]
        code = self.number(kind, key)
        start = self.take(count * struct.calcsize(code))
        numbers = array("B" if code == "?" else code, self.view[start : self.offset])
        if code == "?":
            return [number != 0 for number in numbers]
        if self.order != sys.byteorder:
            numbers.byteswap()
        return numbers

    def strings(self, count: int) -> list[str]:
        """``count`` strings in a row: the hot loop, a vocabulary has a quarter of a million of them."""
        if count * self.length_size > self.end - self.offset:
            raise self.fail(f"truncated: an array of {count} strings at offset {self.offset}")
        view, end, offset, order, size = self.view, self.end, self.offset, self.order, self.length_size
        from_bytes = int.from_bytes
        out: list[str] = []
        append = out.append
        for _ in range(count):
            start = offset + size
            offset = start + from_bytes(view[offset:start], order)
            if offset > end:
                raise self.fail(f"truncated: a string of {offset - start} bytes at offset {start}, the file has {end}")
            append(view[start:offset].decode("utf-8", "surrogateescape"))
        self.offset = offset
        return out
