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
        path = _tokenizer_file(path)
    elif not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}: give a model directory or a tokenizer file")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"GGUF"):
        from portico.prompting.tokenizers.gguf import load_gguf

        return load_gguf(path)
    from portico.prompting.tokenizers.huggingface import load_huggingface

    return load_huggingface(path)


def _tokenizer_file(directory: Path) -> Path:
    for pattern in ("tokenizer.json", "*.gguf"):
        found = sorted(directory.glob(pattern))
        if found:
            return found[0]
    raise TokenizerError("no tokenizer in the directory")
