"""The fast encoder beside the reference one, used only where both give the same ids.

``fastokens`` encodes byte-level and SentencePiece-style BPE several times faster than ``tokenizers`` and reads the same
``tokenizer.json``, but building it costs a second or two and tens of megabytes. So it is built behind the first texts,
in a thread that holds nobody up, or at once by ``warm()``. Before it may answer it must agree with the reference on
every probe; a tokenizer it refuses, or on which one id differs, stays with the reference for good. Callers cannot tell
which one answered, except by time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["FastEncoder"]

log = logging.getLogger(__name__)

_START_AFTER = 4_096  # characters encoded: who asks for little has no use for 30 to 100 MB

PROBES: Sequence[str] = (
    "",
    " ",
    "  two  spaces   three\t tab\n\n  newline \r\n end ",
    "The quick brown fox can't, won't, shouldn't've: I'M HERE, THEY'RE THERE.",
    "x = [i**2 for i in range(1_000_000)] # 3.14159e-10 0xDEADBEEF 1234567890 00001",
    "def f(a, *, b=None) -> \"x\":\n\treturn {'k': [a, b]}  \n\n\n#end",
    "Crème brûlée naïve Ångström ﬁn ½ e\u0301 İstanbul ß ǅ Ω ЭТО",
    "日本語のテキスト、中文文本。한국어 텍스트 ไทย हिन्दी العربية עברית",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🚀🚀 🇩🇪 ☃️ \u200b\u200d\ufeff\u00a0\u2003\u3000",
    "\x00\x01\x1b[0m\x7f\u0085\u2028 \ufffd 𝔘𝔫𝔦 \U0010fffd",
    "<s> </s> <|im_start|>user\n<|im_end|> [INST] <pad> <unk> ▁ ▁▁the Ġ <0x0A>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa !!!!!!!!!!???.....-----=====_____",
)


class FastEncoder:
    """Builds and vouches for a ``fastokens`` tokenizer; ``ready`` is its encode function, or None.

    ``build`` makes the ``fastokens`` object (its exceptions mean refusal), ``reference(text, parse_special)`` is the
    encoding to be matched, ``samples`` are texts to agree on beside the built-in probes.
    """

    def __init__(
        self, build: Callable[[], Any], reference: Callable[[str, bool], list[int]], samples: Sequence[str] = ()
    ) -> None:
        self._build = build
        self._reference = reference
        self._samples = samples
        self._seen = 0
        self._lock = threading.Lock()
        self._settled = False
        self.ready: Callable[[str, bool], list[int]] | None = None

    def count(self, characters: int) -> None:
        """Take note of text that the reference encoded; enough of it starts the building."""
        if self._settled:
            return
        self._seen += characters
        if self._seen > _START_AFTER and self._lock.acquire(blocking=False):
            self._lock.release()
            self._seen = 0
            threading.Thread(target=self.prepare, name="portico-fast-encoder").start()

    def prepare(self) -> None:
        """Build and check now, once; later calls wait for the first and return."""
        with self._lock:
            if self._settled:
                return
            self.ready = self._vouched()
            self._settled = True

    def _vouched(self) -> Callable[[str, bool], list[int]] | None:
        try:
            tokenizer = self._build()
        except ImportError:
            return None
        except Exception as refusal:  # whatever it says, the reference still stands
            log.info("fastokens does not read this tokenizer (%s); encoding stays with the reference", refusal)
            return None

        def encode(text: str, parse_special: bool) -> list[int]:
            ids: list[int] = tokenizer.encode(text, split_special_tokens=not parse_special).ids
            return ids

        for probe in (*PROBES, *self._samples):
            for parse_special in (True, False):
                if list(encode(probe, parse_special)) != self._reference(probe, parse_special):
                    log.info("fastokens differs from the reference on a probe; encoding stays with the reference")
                    return None
        return encode
