"""SmolLM2's vocabulary, and walks through a grammar over it: tokens at random out of what the mask allows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from portico.constraints import Vocabulary
from portico.models.gguf import read_gguf

CONTROL = 3  # GGUF's type of tokens that are not text


def read_vocabulary(gguf: Path) -> Vocabulary:
    """The tokens of a byte-level BPE vocabulary, out of a GGUF file."""
    metadata = read_gguf(gguf).metadata
    byte = _byte_of_character()
    types = [int(kind) for kind in metadata["tokenizer.ggml.token_type"]]
    words = metadata["tokenizer.ggml.tokens"]
    tokens = [
        word.encode() if kind == CONTROL else bytes(byte[character] for character in word)
        for word, kind in zip(words, types, strict=True)
    ]
    special = [index for index, kind in enumerate(types) if kind == CONTROL]
    return Vocabulary(tokens, special, int(metadata["tokenizer.ggml.eos_token_id"]))


def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest is counted from U+0100."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


class Endless(AssertionError):
    """A writer that picks at random has not come to an end, though the grammar may have one."""


class Model:
    """A model that writes whatever a grammar lets it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.tokenizer: LLTokenizer = vocabulary.build()
        self.names = {vocabulary.tokens[index].decode(): index for index in vocabulary.special}
        self._closing = np.array([bool(token) and not token.strip(b'"}])>') for token in vocabulary.tokens])
        self._length = np.array([len(token) for token in vocabulary.tokens])

    def matcher(self, lark: str) -> LLMatcher:
        matcher = LLMatcher(self.tokenizer, lark, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def accepts(self, lark: str, text: str) -> bool:
        """Whether ``text`` (special tokens by name) is all that the grammar asks for."""
        matcher = self.matcher(lark)
        ids = self.encode(text)
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    def begins(self, lark: str, text: str) -> bool:
        """Whether a text of the grammar may begin with ``text``."""
        ids = self.encode(text)
        return self.matcher(lark).try_consume_tokens(ids) == len(ids)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            at, name = min(((text.find(name), name) for name in self.names if name in text), default=(len(text), ""))
            ids += self.tokenizer.tokenize_str(text[:at]) if at else []
            ids += [self.names[name]] if name else []
            text = text[at + len(name) :]
        return ids

    def write(self, lark: str, seed: int, free: int = 40, limit: int = 4000, stops: Sequence[str] = ()) -> str:
        """A text of the grammar: ``free`` tokens as they come, then those that bring it to an end.

        ``stops`` are texts that end free text, which chance would not find. Fails if the grammar is not at its end
        after ``limit`` tokens, or allows nothing before.
        """
        endings = [self.encode(stop) for stop in stops]
        choice = random.Random(seed)
        matcher = self.matcher(lark)
        written: list[int] = []
        while len(written) < limit:
            allowed = np.flatnonzero(np.frombuffer(matcher.compute_logit_bias(), dtype=np.uint8))
            assert not matcher.is_error(), matcher.get_error()
            if matcher.is_accepting() and (len(written) >= free or choice.random() < 0.2 or matcher.is_stopped()):
                return self.decode(written)
            allowed = allowed[allowed != self.vocabulary.eos]
            assert len(allowed), f"nothing may follow {self.decode(written)!r}"
            if len(written) >= free:
                ending = choice.choice(endings) if endings else []
                if ending and matcher.validate_tokens(ending) == len(ending):
                    matcher.consume_tokens(ending)
                    written += ending
                    continue
                closing = allowed[self._closing[allowed]]
                single = allowed[self._length[allowed] == 1]
                allowed = next(some for some in (closing, single, allowed)[choice.randrange(2) :] if len(some))
            token = int(choice.choice(allowed))
            matcher.consume_token(token)
            written.append(token)
        tail = b"".join(self.vocabulary.tokens[token] for token in written[-50:])
        raise Endless(f"no end after {limit} tokens: {tail!r}")

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.vocabulary.tokens[token] for token in ids).decode()
