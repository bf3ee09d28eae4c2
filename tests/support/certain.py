"""What a real model says whatever the processor, the batch and the place in the cache: words that are no close call."""

from __future__ import annotations

import httpx

from support.server import RunningServer
from support.wait import SAFETY

__all__ = ["CAPITAL", "SURE", "beginning"]

CAPITAL = "What is the capital of France? Answer in one sentence."
SURE = 0.5  # logprob that a token is ahead of the next best; nothing above it has been seen to turn over


def beginning(server: RunningServer) -> str:
    """How every greedy answer to ``CAPITAL`` begins, up to the first close call; it names Paris."""
    asked = {"messages": [{"role": "user", "content": CAPITAL}], "temperature": 0, "max_tokens": 20}
    body = {"model": "smollm2", **asked, "logprobs": True, "top_logprobs": 2}
    answer = httpx.post(server.base_url + "/chat/completions", json=body, timeout=SAFETY).json()
    text = ""
    for entry in answer["choices"][0]["logprobs"]["content"]:
        best, second = (one["logprob"] for one in entry["top_logprobs"])
        if best - second < 2 * SURE:
            break
        text += entry["token"]
    assert "Paris" in text
    return text
