"""Trying a grammar out: does it compile, and can masks be computed from it in reasonable time?

llguidance limits the size of what it builds, not the time: there are schemas of a hundred characters that it works on
for minutes, or that compile at once and then need a second for every token. Nothing but doing it tells. So a trial
builds the matcher that an engine would build, over the engine's vocabulary, and takes some steps with tokens picked by
a fixed random sequence. It may take forever; ``isolation`` runs it where it can be killed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from msgspec import Struct

from portico.constraints.lark import field_of
from portico.errors import BadRequestError

__all__ = ["Vocabulary", "try_out"]

WALKS, STEPS = 2, 64
_LIMITS = LLParserLimits(verbose_errors=False)
_PLACE = re.compile(r"(?:at )?(\d+)\(\d+\): ")
_TOO_LARGE = re.compile(r"too (?:big|large|complex|many)|max is|fuel|limit", re.IGNORECASE)


class Vocabulary(Struct, frozen=True):
    """The tokens of a model: ``tokens[id]`` is what the token adds to the text, as bytes; ``special`` are the ids of
    those that are not text; ``eos`` ends an answer."""

    tokens: Sequence[bytes]
    special: Sequence[int]
    eos: int

    def build(self) -> LLTokenizer:
        """The same for llguidance. Takes about a quarter of a second for 50,000 tokens."""
        return LLTokenizer(TokenizerWrapper(_Tokens(self)))


def byte_vocabulary() -> Vocabulary:
    """A token for every byte, and one that ends the answer: for where no model's vocabulary is at hand."""
    return Vocabulary([bytes([byte]) for byte in range(256)] + [b"<eos>"], [256], 256)


class _Tokens:
    """What ``TokenizerWrapper`` asks for. Text is split greedily; only tokens that the grammar forces are split."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.eos
        self.bos_token_id = None
        self.tokens = vocabulary.tokens
        self.special_token_ids = list(vocabulary.special)
        hidden = set(self.special_token_ids)
        self._ids = {token: index for index, token in enumerate(vocabulary.tokens) if token and index not in hidden}
        self._longest = max(map(len, self._ids))

    def __call__(self, text: bytes) -> list[int]:
        ids, at = [], 0
        while at < len(text):
            for end in range(min(len(text), at + self._longest), at, -1):
                if (found := self._ids.get(text[at:end])) is not None:
                    ids.append(found)
                    at = end
                    break
            else:
                at += 1  # a byte that this vocabulary cannot write
        return ids


def try_out(lark: str, tokenizer: LLTokenizer) -> None:
    """Build the matcher and take some steps. Raises ``BadRequestError``, on the field that the fault comes from."""
    import numpy as np  # ten megabytes: only in the process that tries

    matcher = LLMatcher(tokenizer, lark, log_level=0, limits=_LIMITS)
    if matcher.is_error():
        raise _explained(lark, matcher.get_error())
    ends = set(tokenizer.eos_tokens)
    for walk in range(WALKS):
        choice = random.Random(walk)
        steps = matcher.deep_copy()
        for step in range(STEPS):
            allowed = np.flatnonzero(np.frombuffer(steps.compute_logit_bias(), dtype=np.uint8))
            if not step and ends.issuperset(allowed.tolist()):
                raise _explained(lark, "nothing satisfies it")
            if steps.is_error():
                raise _explained(lark, steps.get_error())
            if not len(allowed) or steps.is_stopped():
                break
            steps.consume_token(int(choice.choice(allowed)))


def _explained(lark: str, error: str) -> BadRequestError:
    """llguidance's message as ours: the field instead of our line, no excerpt of the grammar."""
    place = _PLACE.match(error)
    param = field_of(lark, int(place[1]) if place else None)
    problem = error[place.end() :] if place else error
    problem = re.split(r"\n +\d+ \| ", problem)[0]
    problem = (
        problem.partition(": Regex is empty")[0]
        .removeprefix("failed to compile JSON schema: ")
        .replace("<non-verbose/>", "")
    )
    if "regex parse error" in problem or "\nerror: " in problem:
        problem = f"a regular expression is not supported: {problem.rpartition('error: ')[2]}"
    problem = " ".join(problem.split()).rstrip(" .")[:300]
    if _TOO_LARGE.search(problem):
        problem = f"it is too large or too complex to be enforced ({problem})"
    return BadRequestError(
        f"{param or 'The grammar of this request'} cannot be compiled: {problem}.", param=param, code="invalid_grammar"
    )
