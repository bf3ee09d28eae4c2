"""Lines of every endpoint over the engines that answer them: a body is byte for byte what the endpoint gives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from support.batches import create, outcome, wait_for
from support.server import running_server
from support.wait import SAFETY, until

pytestmark = pytest.mark.slow

CAPITAL = "What is the capital of France?"
GREEDY = {"temperature": 0, "model": "smollm2"}
SPOKEN = [{"role": "user", "content": CAPITAL}]
TALE = ["The river runs to the sea.", "Bread is baked from flour.", "A lighthouse warns ships."]

GENERATED: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": SPOKEN, "max_tokens": 8, "logprobs": True, "top_logprobs": 2, **GREEDY},
        {"messages": SPOKEN, "max_tokens": 4, "response_format": {"type": "json_object"}, **GREEDY},
    ],
    "/v1/completions": [
        {"prompt": CAPITAL, "max_tokens": 8, "echo": True, "logprobs": 1, **GREEDY},
        {"prompt": [[504, 9905], [504, 3575]], "max_tokens": 3, **GREEDY},
    ],
    "/v1/responses": [
        {"input": CAPITAL, "max_output_tokens": 16, "metadata": {"a": "b"}, "store": False, **GREEDY},
        {
            "input": [{"role": "user", "content": CAPITAL}],
            "max_output_tokens": 16,
            "instructions": "Be brief.",
            **GREEDY,
        },
    ],
    "/v1/messages": [
        {"messages": SPOKEN, "max_tokens": 8, **GREEDY},
        {"messages": SPOKEN, "max_tokens": 8, "system": "Be brief.", "stop_sequences": ["Paris"], **GREEDY},
    ],
}
EMBEDDED: dict[str, list[dict[str, Any]]] = {
    "/v1/embeddings": [
        {"model": "minilm", "input": TALE},
        {"model": "minilm", "input": TALE[0], "encoding_format": "base64"},
        {"model": "minilm", "input": [[101, 2314, 102]], "dimensions": 8},
    ],
    "/v1/score": [
        {"model": "minilm", "text_1": "water", "text_2": TALE},
        {"model": "minilm", "text_1": TALE[:2], "text_2": TALE[1:]},
    ],
    "/v1/rerank": [
        {"model": "minilm", "query": "water", "documents": TALE},
        {"model": "minilm", "query": "food", "documents": TALE, "top_n": 1, "return_documents": False},
    ],
}


@pytest.fixture(scope="module")
def generating(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from served("smollm2", tmp_path_factory.mktemp("generating"))


@pytest.fixture(scope="module")
def embedding(minilm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from served("minilm", tmp_path_factory.mktemp("embedding"))


def served(model: str, where: Path) -> Iterator[httpx.Client]:
    """One line at a time: what is computed beside others is rounded otherwise."""
    options = ("--store", where / "portico.db", "--batch-concurrency", "1")
    with running_server(model, *options) as server, httpx.Client(base_url=server.url, timeout=SAFETY) as client:
        yield client


def masked(body: bytes) -> bytes:
    """Without what is drawn anew for every answer: ids and times."""
    body = re.sub(rb'"(created|created_at|completed_at)":[\d.]+', rb'"\1":0', body)
    return re.sub(rb'"((?:request_|response_)?id)":"[^"]+"', rb'"\1":""', body)


class _Response(msgspec.Struct):
    body: msgspec.Raw
    status_code: int


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response


def lines_of(client: httpx.Client, id: str | None) -> dict[str, _Response]:
    """What a file of results says of each line, the bodies as they stand there."""
    data = b"" if id is None else client.get(f"/v1/files/{id}/content").content
    return {one.custom_id: one.response for one in map(msgspec.json.Decoder(_Line).decode, data.splitlines())}


def directly(client: httpx.Client, endpoint: str, body: dict[str, Any]) -> httpx.Response:
    """The endpoint's own answer, when its prompt is cached, as it will be for the line."""
    client.post(endpoint, json=body)
    return client.post(endpoint, json=body)


@pytest.mark.parametrize("endpoint", [*GENERATED, *EMBEDDED])
def test_a_lines_body_is_byte_for_byte_what_the_endpoint_gives(request: pytest.FixtureRequest, endpoint: str) -> None:
    client: httpx.Client = request.getfixturevalue("generating" if endpoint in GENERATED else "embedding")
    good = (GENERATED | EMBEDDED)[endpoint]
    bodies = [*good, {**good[0], "model": "nobody"}, {"model": good[0]["model"]}]
    for number, body in enumerate(bodies):
        direct = directly(client, endpoint, body)
        line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
        batch = wait_for(client, create(client, [line], endpoint))
        outcome(client, batch, ["a"])
        assert (direct.status_code == 200) == (number < len(good)), direct.text
        told = lines_of(client, batch.get("output_file_id")) | lines_of(client, batch.get("error_file_id"))
        assert told["a"].status_code == direct.status_code
        assert masked(bytes(told["a"].body)) == masked(direct.content)


@pytest.mark.parametrize(
    ("endpoint", "asked"), [("/v1/chat/completions", "embedding"), ("/v1/embeddings", "generating")]
)
def test_what_a_model_cannot_do_is_an_error_line_with_the_endpoints_words(
    request: pytest.FixtureRequest, endpoint: str, asked: str
) -> None:
    client: httpx.Client = request.getfixturevalue(asked)
    body = (GENERATED | EMBEDDED)[endpoint][0] | {"model": "minilm" if asked == "embedding" else "smollm2"}
    direct = directly(client, endpoint, body)
    assert direct.status_code >= 400
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    batch = wait_for(client, create(client, [line], endpoint))
    assert "output_file_id" not in batch
    told = lines_of(client, batch["error_file_id"])["a"]
    assert (told.status_code, masked(bytes(told.body))) == (direct.status_code, masked(direct.content))


def test_a_message_batchs_message_is_byte_for_byte_what_the_endpoint_gives(generating: httpx.Client) -> None:
    for params in GENERATED["/v1/messages"]:
        direct = directly(generating, "/v1/messages", params)
        asked = {"requests": [{"custom_id": "a", "params": params}]}
        path = f"/v1/messages/batches/{generating.post('/v1/messages/batches', json=asked).json()['id']}"
        until(lambda path=path: generating.get(path).json()["processing_status"] == "ended")
        (line,) = generating.get(f"{path}/results").content.splitlines()
        before, _, rest = line.partition(b'"message":')
        assert json.loads(line)["result"]["type"] == "succeeded", before
        assert masked(rest) == masked(direct.content) + b"}}"
