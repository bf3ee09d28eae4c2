"""Requests are told apart by API, route and model, and clients cannot make labels."""

from __future__ import annotations

import re
from collections import Counter

import httpx

from portico.server.observe.apis import api_of
from portico.server.routes.batches.openai import BODIES as BATCHES
from portico.server.routes.paths import BODIES
from support.replay import replaying
from support.wait import SAFETY

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def test_labels_are_of_bounded_number() -> None:
    with (
        replaying({"a": "Hello."}, names=("tiny", "alias"), patterns=("*",), adapters=("adapter",)) as up,
        httpx.Client(base_url=up.url, timeout=SAFETY) as client,
    ):
        for model in ("tiny", "alias", "adapter", *(f"made-up-{n}" for n in range(20))):
            assert client.post("/v1/chat/completions", json={**CHAT, "model": model}).json()["model"] == model
        client.post("/v1/messages", json={**CHAT, "model": "tiny"})
        for n in range(5):
            client.get("/livez")
            client.get(f"/nowhere/{n}")
        page = client.get("/metrics").text
    counted: Counter[tuple[str, str, str]] = Counter()
    for labels, value in re.findall(r"^portico_requests_total\{(.+)\} (\S+)$", page, re.M):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted[found["api"], found["route"], found["model"]] += int(float(value))
    assert counted == {
        ("openai", "/v1/chat/completions", "tiny"): 22,
        ("openai", "/v1/chat/completions", "adapter"): 1,
        ("anthropic", "/v1/messages", "tiny"): 1,
        ("probe", "/livez", ""): 5,
        ("none", "none", ""): 5,
    }
    assert "made-up" not in page


def test_every_path_that_takes_a_body_is_of_an_api() -> None:
    assert BATCHES.keys() <= BODIES.keys()
    assert {api_of(path) for path, _ in BODIES} == {"openai", "anthropic", "responses"}
    assert [api_of(path) for path in ("/readyz", "/", "/play", "/metrics")] == ["probe", "server", "page", "server"]
