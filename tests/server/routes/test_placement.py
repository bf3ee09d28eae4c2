"""What a request says of its place at the engine (adapter, priority, cache, rank) arrives there as it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from portico.config import Settings
from portico.errors import BadRequestError
from portico.server.observe.metrics import Metrics
from portico.server.process.assemble import assemble
from support.replay import replaying

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"prompt": ["hi", "ho"], "max_tokens": 3}),
    ("/v1/messages", CHAT),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), CALLS)
def test_an_adapter_is_chosen_as_the_model(path: str, body: dict[str, Any], stream: bool) -> None:
    with replaying({"a": "hello"}, adapters=["pirate", "poet"]) as server:
        for name, lora in (("tiny", None), ("poet", "poet"), ("pirate", "pirate")):
            server.requests.clear()
            response = httpx.post(server.url + path, json={**body, "model": name, "stream": stream})
            assert response.status_code == 200, response.text
            assert f'"model":"{name}"' in response.text.replace('": "', '":"')
            assert {request.lora for request in server.requests} == {lora}
        assert httpx.post(server.url + path, json={**body, "model": "nobody"}).status_code == 404


def test_adapters_are_listed_after_their_model() -> None:
    with replaying({"a": "hello"}, names=["tiny", "small"], adapters=["pirate"]) as server:
        cards = httpx.get(server.url + "/v1/models").json()["data"]
        assert [(card["id"], card.get("parent")) for card in cards] == [
            ("tiny", None),
            ("small", None),
            ("pirate", "tiny"),
        ]
        assert httpx.get(server.url + "/v1/models/pirate").json()["parent"] == "tiny"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_priority_and_salt_arrive(path: str) -> None:
    body = dict(CALLS)[path]
    with replaying({"a": "hello"}) as server:
        httpx.post(server.url + path, json={**body, "priority": -7, "cache_salt": "mine", "n": 2})
        httpx.post(server.url + path, json=body)
        asked = [(request.priority, request.cache_salt) for request in server.requests]
        assert set(asked[: len(asked) * 2 // 3]) == {(-7, "mine")}
        assert set(asked[len(asked) * 2 // 3 :]) == {(0, None)}
        for wrong in ({"cache_salt": ""}, {"cache_salt": "x" * 200}, {"priority": 1 << 63}, {"priority": "soon"}):
            assert httpx.post(server.url + path, json={**body, **wrong}).status_code == 400


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_each_key_has_a_salt_of_its_own(path: str, body: dict[str, Any]) -> None:
    """Where the engine knows salts, and the request brings none."""
    able = frozenset({"generate", "cache_salt"})
    with replaying({"a": "hello"}, keys=["one", "two"], capabilities=able) as server:
        salts = {}
        for key in ("one", "two", "one"):
            server.requests.clear()
            httpx.post(server.url + path, json={"model": "tiny", **body}, headers={"x-api-key": key}).raise_for_status()
            found = {request.cache_salt for request in server.requests}
            assert len(found) == 1
            assert salts.setdefault(key, found) == found
        assert None not in salts["one"]
        assert salts["one"] != salts["two"]
        if path != "/v1/messages":
            server.requests.clear()
            httpx.post(server.url + path, json={**body, "cache_salt": "mine"}, headers={"x-api-key": "one"})
            assert {request.cache_salt for request in server.requests} == {"mine"}
    with replaying({"a": "hello"}, capabilities=able) as server:
        httpx.post(server.url + path, json={"model": "tiny", **body}).raise_for_status()
        assert {request.cache_salt for request in server.requests} == {None}


@pytest.mark.parametrize(("path", "body"), CALLS)
def test_headers_say_rank_and_priority(path: str, body: dict[str, Any]) -> None:
    with replaying({"a": "hello"}) as server:
        said = {"X-data-parallel-rank": "3", "X-Vllm-Priority": "-2"}
        httpx.post(server.url + path, json={**body, "model": "tiny", "priority": 5}, headers=said)
        assert {(request.data_parallel_rank, request.priority) for request in server.requests} == {(3, -2)}
        server.requests.clear()
        httpx.post(server.url + path, json={**body, "model": "tiny"})
        assert {(request.data_parallel_rank, request.priority) for request in server.requests} == {(None, 0)}
        for name, value in (
            ("X-data-parallel-rank", "-1"),
            ("X-data-parallel-rank", "one"),
            ("X-Vllm-Priority", "9" * 99),
        ):
            refused = httpx.post(server.url + path, json={**body, "model": "tiny"}, headers={name: value})
            assert refused.status_code == 400
            assert name.lower() in refused.text


def adapter(path: Path) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text("{}")
    return path


@pytest.mark.parametrize("engine", ["grpc://127.0.0.1:1", "replay:/dev/null"])
async def test_other_engines_refuse_adapters_at_start(engine: str, tmp_path: Path) -> None:
    settings = Settings(engine=engine, lora=[f"a={adapter(tmp_path / 'a')}"], api_key=[SecretStr("k")])
    with pytest.raises(BadRequestError, match="--lora and --lora-dir are for") as caught:
        await assemble(settings, Metrics())
    assert caught.value.param == "lora"


async def test_adapters_that_are_not_there_are_refused_at_start(tmp_path: Path) -> None:
    found = adapter(tmp_path / "a")
    for given in (["a"], ["=x"], [f"a={tmp_path / 'b'}"], [f"a={found}", f"a={found}"]):
        for engine in ("vllm", "llamacpp"):  # which takes no directory
            with pytest.raises(BadRequestError, match=r"--lora takes|Two adapters"):
                await assemble(Settings(engine=engine, model=str(tmp_path), lora=given), Metrics())
