"""Tokenizers of every kind behind one interface: ``load_tokenizer(path)`` reads whatever a model came with.

What a path holds is decided by its content, not its name:

    a directory              tokenizer.json, else tekken.json, a SentencePiece, tiktoken or RWKV file, a GGUF file
    a JSON object            ``tokenizer.json`` (it has a ``model``) or Mistral's tekken (it has a ``vocab`` of bytes)
    "GGUF"                   a GGUF file: the tokenizer is rebuilt from its metadata
    a protocol buffer        a SentencePiece model, Mistral's ``tokenizer.model.v*`` included
    base64, space, number    a tiktoken rank file
    number, literal, number  an RWKV vocabulary
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from portico.prompting.tokenizers.base import ChatTemplates, SpecialTokens, Tokenizer, TokenizerError
from portico.prompting.tokenizers.byte_table import ByteTable

__all__ = ["ByteTable", "ChatTemplates", "SpecialTokens", "Tokenizer", "TokenizerError", "load_tokenizer"]


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer at ``path``: a directory, or any of the files listed above.

    Raises ``TokenizerError`` where there is none or it cannot be read, naming what was looked for.
    """
    path = Path(path)
    if path.is_dir():
        return _from_directory(path)
    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path.name!r}: give a model directory or a tokenizer file")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"GGUF"):
        from portico.prompting.tokenizers.gguf import load_gguf

        return load_gguf(path)
    if head.lstrip()[:1] == b"{":
        return _from_json(path)
    if _TIKTOKEN_LINE.match(head):
        from portico.prompting.tokenizers.tiktoken import load_tiktoken

        return load_tiktoken(path)
    if _RWKV_LINE.match(head):
        from portico.prompting.tokenizers.rwkv import load_rwkv

        return load_rwkv(path)
    if head.startswith(b"\x0a"):  # field 1 of the protocol buffer: the first piece
        from portico.prompting.tokenizers.sentencepiece import load_sentencepiece

        return load_sentencepiece(path)
    raise TokenizerError(
        f"{path.name} is no tokenizer that is known here: expected tokenizer.json, tekken.json, a GGUF file, "
        "a SentencePiece model, a tiktoken rank file or an RWKV vocabulary"
    )


_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
_RWKV_LINE = re.compile(rb"\d+ b?['\"].*['\"] \d+\r?\n")


def _from_json(path: Path) -> Tokenizer:
    from portico.prompting.tokenizers.huggingface import load_huggingface

    if path.name == "tokenizer.json":  # spares reading megabytes of JSON twice
        return load_huggingface(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise TokenizerError(f"{path.name} is not valid JSON: {error}") from error
    if "model" in content:
        return load_huggingface(path)
    if "vocab" in content and "config" in content:
        from portico.prompting.tokenizers.tekken import load_tekken

        return load_tekken(path, content)
    raise TokenizerError(f"{path.name} is JSON, but neither a tokenizer.json (no model) nor a tekken.json (no vocab)")


_IN_DIRECTORY = (
    "tokenizer.json",
    "tekken.json",
    "tokenizer.model*",
    "*.model",
    "*.model.v*",
    "*.tiktoken",
    "*vocab*.txt",
    "*.gguf",
)


def _from_directory(directory: Path) -> Tokenizer:
    for pattern in _IN_DIRECTORY:
        found = sorted(file for file in directory.glob(pattern) if file.is_file())
        if found:
            return load_tokenizer(found[0])
    raise TokenizerError(f"no tokenizer in {directory.name!r}: looked for {', '.join(_IN_DIRECTORY)}")
