"""Trying constraints out where that can do no harm: in a process that is killed when it takes too long.

The verdict on a grammar does not change, so verdicts are remembered, by the hash of the grammar.
"""

from __future__ import annotations

import hashlib

import msgspec
from llguidance import LLTokenizer

from portico.child import Children, answer_questions
from portico.constraints.cache import BoundedCache
from portico.constraints.lark import field_of
from portico.constraints.trial import Vocabulary, byte_vocabulary, try_out
from portico.errors import BadRequestError
from portico.events import Constraint

__all__ = ["Checker"]

CPU_SECONDS = 1.0  # building a matcher and some masks; ordinary grammars take 10 to 30 ms
WALL_SECONDS = 10.0  # for a machine that is busy with other things
MEMORY = 512 * 1024 * 1024  # bytes beyond what the process holds with its vocabulary
REMEMBERED = 2048


class _Verdict(msgspec.Struct):
    error: str | None = None
    param: str | None = None
    code: str | None = None


class Checker:
    """Says whether an engine can follow a constraint. Blocks; any thread may call it.

    One per vocabulary; without one, a token per byte stands in. The process starts with the first new grammar, or
    with ``start()``.
    """

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self._children = Children(__name__, _Verdict, seconds=WALL_SECONDS, greeting=vocabulary or byte_vocabulary())
        self._verdicts = BoundedCache[_Verdict](entries=REMEMBERED, size=1_000_000)

    def start(self) -> None:
        """Start the process ahead of the first question."""
        self._children.start()

    def check(self, constraint: Constraint) -> None:
        """Raises ``BadRequestError``, on the request field at fault, for a constraint that cannot be followed: its
        grammar does not compile, nothing satisfies it, or it needs too much time or memory."""
        key = hashlib.sha256(constraint.lark.encode()).digest()
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._ask(constraint.lark)
            self._verdicts.put(key, verdict, len(key) + len(verdict.error or ""))
        if verdict.error is not None:
            raise BadRequestError(verdict.error, param=verdict.param, code=verdict.code)

    def close(self) -> None:
        """End the process; idempotent."""
        self._children.close()

    def _ask(self, lark: str) -> _Verdict:
        try:
            verdict = self._children.ask(lark)
        except BadRequestError as error:
            return _Verdict(error.message, error.param, error.code)
        if verdict is not None:
            return verdict
        param = field_of(lark)
        problem = "is too complex to be enforced: trying it out takes too much time or memory"
        return _Verdict(f"{param or 'The grammar of this request'} {problem}.", param, "invalid_grammar")


def _serve() -> None:
    """The process: try out every grammar that comes."""
    tokenizer: list[LLTokenizer] = []

    def greet(vocabulary: Vocabulary) -> None:
        tokenizer.append(vocabulary.build())

    def work(lark: str) -> _Verdict:
        try_out(lark, tokenizer[0])
        return _Verdict()

    answer_questions(work, str, greet=greet, greetings=Vocabulary, cpu_seconds=CPU_SECONDS, memory=MEMORY)


if __name__ == "__main__":
    _serve()
