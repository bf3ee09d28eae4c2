"""A child process: ``python llamacpp_embed.py MODEL.gguf`` reads a JSON list of ``[text, token ids]`` and prints a JSON
list of ``[token ids, vector]``: the text in llama.cpp's own tokenizer, and what the model makes of the given ids.

A process of its own, because a native crash or a hanging destructor must not reach the test run.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

import xllamacpp


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.embedding = True
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.warmup = False
    server = xllamacpp.Server(params)
    result = []
    for text, ids in json.load(sys.stdin):
        request = urllib.request.Request(
            f"{server.listening_address}/tokenize",
            json.dumps({"content": text, "add_special": True}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            tokens = json.load(response)["tokens"]
        answer = server.handle_embeddings({"input": ids, "encoding_format": "float"})
        result.append([tokens, answer["data"][0]["embedding"]])
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
