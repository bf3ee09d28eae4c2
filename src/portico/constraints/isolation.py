"""Trying constraints out where that can do no harm: in processes that are killed when they take too long.

The verdict on a grammar does not change, so verdicts are remembered, by the hash of the grammar.

A grammar that was made to cost takes its second, and then its process has to be started again; whoever waits behind
forty of them waits long. So there are two lanes. Grammars in which nothing can be costly, as most are (no regular
expression of the client's, no grammar of his own, not large), have a process that never sees another kind.
"""

from __future__ import annotations

import hashlib
import json
import re

import msgspec
from llguidance import LLTokenizer

from portico.child import Children, answer_questions
from portico.constraints.cache import BoundedCache
from portico.constraints.lark import field_of
from portico.constraints.schema.bounds import FORMAT_PATTERNS
from portico.constraints.trial import Vocabulary, byte_vocabulary, try_out
from portico.errors import BadRequestError
from portico.events import Constraint

__all__ = ["Checker", "is_plain"]

CPU_SECONDS = 1.0  # building a matcher and some masks; ordinary grammars take 10 to 30 ms
WALL_SECONDS = 60.0  # for a machine that is busy with other things: what computes ends by its processor time
MEMORY = 512 * 1024 * 1024  # bytes beyond what the process holds with its vocabulary
REMEMBERED = 2048
COSTLY = 2  # processes for grammars that may be costly
PLAIN_SIZE = 16_000  # characters of a grammar that is not large

# What a client's own expressions stand in. The bounds that we put into schemas do not count.
_OURS = re.compile(
    "|".join(re.escape(f'"pattern": {json.dumps(pattern)}') for pattern in FORMAT_PATTERNS.values())
    + r'|"multipleOf": 1e-09|"\^\(\?:\[\\\\s\\\\S\]\{0,\d+\}\)\$"'
)
_RISKY = re.compile(r'"pattern": "|"allOf": \[|"multipleOf": \d|"\^|^(?:PATTERN|TEXT|verbatim)_', re.MULTILINE)


def is_plain(constraint: Constraint) -> bool:
    """Whether nothing in a grammar can be costly to compile or to follow."""
    lark = constraint.lark
    ours = lark.startswith("start: ")  # a grammar of the client's own begins with its field
    return ours and len(lark) <= PLAIN_SIZE and not _RISKY.search(_OURS.sub("", lark))


class _Verdict(msgspec.Struct):
    error: str | None = None
    param: str | None = None
    code: str | None = None


class Checker:
    """Says whether an engine can follow a constraint. Blocks; any thread may call it.

    One per vocabulary; without one, a token per byte stands in. The processes start with the first new grammars, one
    also with ``start()``.
    """

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        def children(count: int) -> Children[_Verdict]:
            greeting = vocabulary or byte_vocabulary()
            return Children(__name__, _Verdict, seconds=WALL_SECONDS, greeting=greeting, count=count)

        self._plain, self._costly = children(1), children(COSTLY)
        self._verdicts = BoundedCache[_Verdict](entries=REMEMBERED, size=1_000_000)

    def start(self) -> None:
        """Start the process of the plain ones ahead of the first question."""
        self._plain.start()

    def knows(self, constraint: Constraint) -> bool:
        """Whether the verdict is known; raises as ``check`` does where it is bad. Does not block."""
        verdict = self._verdicts.get(_key(constraint))
        if verdict is not None and verdict.error is not None:
            raise BadRequestError(verdict.error, param=verdict.param, code=verdict.code)
        return verdict is not None

    def check(self, constraint: Constraint) -> None:
        """Raises ``BadRequestError``, on the request field at fault, for a constraint that cannot be followed: its
        grammar does not compile, nothing satisfies it, or it needs too much time or memory."""
        if not self.knows(constraint):
            verdict = self._ask(constraint)
            key = _key(constraint)
            self._verdicts.put(key, verdict, len(key) + len(verdict.error or ""))
            self.knows(constraint)

    def close(self) -> None:
        """End the processes; idempotent."""
        self._plain.close()
        self._costly.close()

    def _ask(self, constraint: Constraint) -> _Verdict:
        children = self._plain if is_plain(constraint) else self._costly
        try:
            verdict = children.ask(constraint.lark)
        except BadRequestError as error:
            return _Verdict(error.message, error.param, error.code)
        if verdict is not None:
            return verdict
        param = field_of(constraint.lark)
        problem = "is too complex to be enforced: trying it out takes too much time or memory"
        return _Verdict(f"{param or 'The grammar of this request'} {problem}.", param, "invalid_grammar")


def _key(constraint: Constraint) -> bytes:
    return hashlib.sha256(constraint.lark.encode()).digest()


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
