"""GGUF metadata: what was written is read, and nothing broken is believed."""

from __future__ import annotations

import contextlib
import struct
from array import array
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.models.gguf import GGUFError, read_gguf
from support.effort import examples
from support.work import calls

VALUES = st.one_of(
    st.booleans(),
    st.text(min_size=1, max_size=20),  # the writer leaves empty strings out
    st.integers(0, 2**32 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.lists(st.text(max_size=8), min_size=1, max_size=8),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8),
)


def write(path: Path, pairs: dict[str, Any], endian: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE) -> Path:
    """By the reference writer."""
    writer = gguf.GGUFWriter(str(path), "llama", endianess=endian)
    for key, value in pairs.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float64(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, array) else value


@settings(max_examples=examples(25))
@given(
    pairs=st.dictionaries(st.text("abc.", min_size=1, max_size=6), VALUES, max_size=6),
    endian=st.sampled_from(list(gguf.GGUFEndian)),
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Any], endian: Any) -> None:
    path = write(tmp_path_factory.mktemp("gguf") / "x.gguf", pairs, endian)
    read = read_gguf(path)
    assert (read.version, read.tensor_count, read.architecture) == (3, 0, "llama")
    assert read.byte_order == ("big" if endian is gguf.GGUFEndian.BIG else "little")
    assert {key: plain(value) for key, value in read.metadata.items()} == {"general.architecture": "llama", **pairs}


def test_number_arrays_take_no_more_than_in_the_file(tmp_path: Path) -> None:
    read = read_gguf(write(tmp_path / "x.gguf", {"scores": [0.5, -1.0], "signs": [True, False]}))
    assert read.metadata["scores"] == array("f", [0.5, -1.0])
    assert read.metadata["signs"] == [True, False]


def raw(version: int, *pairs: tuple[bytes, int, bytes], count: int | None = None) -> bytes:
    length = struct.Struct("<I" if version == 1 else "<Q")
    out = b"GGUF" + struct.pack("<I", version) + length.pack(0) + length.pack(len(pairs) if count is None else count)
    for key, kind, value in pairs:
        out += length.pack(len(key)) + key + struct.pack("<I", kind) + value
    return out


def test_version_1_has_short_lengths(tmp_path: Path) -> None:
    value = struct.pack("<I", 2) + b"hi"
    strings = struct.pack("<II", 8, 2) + struct.pack("<I", 1) + b"a" + struct.pack("<I", 0)
    (tmp_path / "x.gguf").write_bytes(raw(1, (b"key", 8, value), (b"list", 9, strings)))
    assert read_gguf(tmp_path / "x.gguf").metadata == {"key": "hi", "list": ["a", ""]}


def test_bytes_that_are_not_utf_8_survive(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(raw(3, (b"key", 8, struct.pack("<Q", 2) + b"\xff\xfe")))
    assert read_gguf(tmp_path / "x.gguf").metadata["key"].encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_nested_arrays(tmp_path: Path) -> None:
    inner = struct.pack("<IQ2B", 0, 2, 7, 8)
    (tmp_path / "x.gguf").write_bytes(raw(3, (b"key", 9, struct.pack("<IQ", 9, 1) + inner)))
    (value,) = read_gguf(tmp_path / "x.gguf").metadata["key"]
    assert value.tolist() == [7, 8]


PAIRS = {"name": "small", "tokens": ["a", "bb", "ccc"], "types": [1, 2, 3], "flag": True, "size": 7}


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf", PAIRS).read_bytes()
    end = len(whole.rstrip(b"\x00")) - 8  # padding and the last value aside
    for size in range(end):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(GGUFError, match=r"cut\.gguf: (truncated|too short)"):
            read_gguf(tmp_path / "cut.gguf")


def test_an_array_of_strings_cut_short_is_an_error(tmp_path: Path) -> None:
    strings = struct.pack("<IQ", 8, 3) + b"".join(struct.pack("<Q", len(text)) + text for text in (b"a", b"bb", b"ccc"))
    whole = raw(3, (b"key", 9, strings))
    for size in range(len(whole) - len(strings), len(whole)):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(GGUFError, match="truncated"):
            read_gguf(tmp_path / "cut.gguf")


@settings(max_examples=examples(120))
@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_damaged_byte_is_never_more_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    data = bytearray(write(path, PAIRS).read_bytes())
    data[at % len(data)] = byte
    path.write_bytes(data)
    with contextlib.suppress(GGUFError):
        read_gguf(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "too short"),
        (b"GGUF", "too short"),
        (b"PK\x03\x04" + bytes(40), "not a GGUF file"),
        (raw(4), "version 4 is not known"),
        (raw(3, (b"key", 99, b"")), "key: value type 99 is not known"),
        (raw(3, (b"key", 9, struct.pack("<IQ", 99, 1))), "key: value type 99 is not known"),
        (raw(3, (b"key", 9, struct.pack("<IQ", 8, 2**60))), "truncated: an array of"),
        (raw(3, (b"key", 9, struct.pack("<IQ", 4, 2**60))), "truncated"),
        (raw(3, (b"key", 8, struct.pack("<Q", 2**63))), "truncated"),
        (raw(3, count=2**60), "truncated"),
        (raw(3, (b"key", 9, struct.pack("<IQ", 9, 1) * 6)), "arrays nested deeper"),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(GGUFError, match=words) as caught:
        read_gguf(path)
    assert caught.value.message.startswith("bad.gguf: ")


def test_a_quarter_million_tokens_take_a_moment(tmp_path: Path) -> None:
    tokens = [f"token{i}" for i in range(262_144)]
    path = write(tmp_path / "large.gguf", {"tokens": tokens})
    assert read_gguf(path).metadata["tokens"] == tokens
    assert calls(lambda: read_gguf(path)) < 8 * len(tokens)
