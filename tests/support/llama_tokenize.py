"""What llama.cpp makes of texts, asked in a process of its own: a bad vocabulary may abort the library.

    python support/llama_tokenize.py < request.json > answer.json

The request is ``{"files": [path, …], "texts": [text, …]}``; the answer has for every file its token lists with special
tokens parsed and as plain text, what is put around "x", and the tokens that end a generation; or null where llama.cpp
does not load it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_int32, c_void_p
from pathlib import Path
from typing import Any

import pytest


def llama_tokenize(files: Sequence[Path], texts: Sequence[str]) -> list[dict[str, Any] | None]:
    """One answer for each file; skips where the library is not to be had."""
    request = json.dumps({"files": [str(file) for file in files], "texts": list(texts)})
    done = subprocess.run(
        [sys.executable, __file__],
        input=request,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_WAIT_POLICY": "passive"},
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"libllama cannot be loaded here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    answers: list[dict[str, Any] | None] = json.loads(done.stdout)
    return answers


def _main() -> None:
    try:
        from portico.engines.llamacpp.libllama import Library

        library = Library()  # kept for as long as libllama is used, which logs into it
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(77)
    c = library.c
    tokens = POINTER(c_int32)
    c.llama_tokenize.restype = c_int32
    c.llama_tokenize.argtypes = (c_void_p, c_char_p, c_int32, tokens, c_int32, c_bool, c_bool)
    c.llama_model_free.argtypes = (c_void_p,)
    c.llama_model_free.restype = None
    request = json.load(sys.stdin)
    answers: list[dict[str, Any] | None] = []
    for file in request["files"]:
        parameters = c.llama_model_default_params()
        parameters.vocab_only = True
        model = c.llama_model_load_from_file(file.encode(), parameters)
        if not model:
            answers.append(None)
            continue
        vocabulary = c.llama_model_get_vocab(model)

        def encode(text: str, around: bool, parse: bool, vocabulary: int = vocabulary) -> list[int]:
            data = text.encode()
            out = (c_int32 * (len(data) + 16))()
            count = c.llama_tokenize(vocabulary, data, len(data), out, len(out), around, parse)
            return list(out[:count])

        answers.append(
            {
                "parsed": [encode(text, False, True) for text in request["texts"]],
                "plain": [encode(text, False, False) for text in request["texts"]],
                "around": encode("x", True, True),
                "ends": [i for i in range(c.llama_vocab_n_tokens(vocabulary)) if c.llama_vocab_is_eog(vocabulary, i)],
            }
        )
        c.llama_model_free(model)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _main()
