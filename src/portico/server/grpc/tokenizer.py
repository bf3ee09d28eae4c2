"""The files of a tokenizer, as a call sends them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final

from portico.prompting import Tokenizer
from portico.protocols.grpc.tokenizer_files import tokenizer_zip
from portico.protos import smg_common_pb2 as common

__all__ = ["TokenizerFiles"]

CHUNK: Final = 64 << 10  # bytes of the zip file in one message


class TokenizerFiles:
    """Makes the zip file in a thread, and keeps that of the tokenizer that was asked for last."""

    def __init__(self) -> None:
        self._tokenizer: Tokenizer | None = None
        self._zipped = b""

    async def chunks(self, tokenizer: Tokenizer) -> AsyncIterator[common.GetTokenizerChunk]:
        """The messages. Raises ``NotSupportedError`` before the first where the tokenizer has no such form."""
        if tokenizer is not self._tokenizer:
            zipped = await asyncio.to_thread(tokenizer_zip, tokenizer)
            self._tokenizer, self._zipped = tokenizer, zipped
        return _chunks(self._zipped, hashlib.sha256(self._zipped).hexdigest())


async def _chunks(files: bytes, digest: str) -> AsyncIterator[common.GetTokenizerChunk]:
    for start in range(0, len(files), CHUNK):
        last = start + CHUNK >= len(files)
        yield common.GetTokenizerChunk(data=files[start : start + CHUNK], sha256=digest if last else "")
