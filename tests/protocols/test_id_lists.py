"""Long lists of ids are read apart from the rest of a body, and it means what it meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_core import from_json

from portico.protocols import id_lists
from portico.protocols.bounds import BATCH, LARGE
from portico.protocols.openai.embeddings import EmbeddingRequest
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.openai.tokens import DetokenizeRequest, detokenized
from portico.protocols.validation import parse_body
from support.generation import tiny_model

LISTS = [
    *("[0]", "[1,2,3]", "[ 1 ,\n2\t]", "[4294967295,7]", "[4294967296]", "[]", "[ ]", "[1,,2]", "[1, ,2]", "[ ,1]"),
    *("[1,2,]", "[01,2]", "[1,02]", "[1 2]", "[-1]", "[1.5]", "[1e3]", "[[1]]", '["a"]', "[1,true]", "[1", "[1]]", "1"),
]
AROUND = [
    '{"tokens":%s}',
    '{"a":"\\"tokens\\":[9]","tokens" : %s,"b":[{}]}',
    '{"a":{"tokens":[9]},"tokens":%s}',
    '{"a\\"tokens":[9],"tokens":%s}',
    '{"tokens":%s,"tokens":"x"}',
    '{"x":{"tokens":%s}}',
    '[{"tokens":%s}]',
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
def test_every_list_in_every_place_and_cut(around: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_lists, "SHORT", 0)
    monkeypatch.setattr(id_lists, "PIECE", piece)
    monkeypatch.setattr(id_lists, "WINDOW", piece)
    for given in LISTS:
        body = (around % given).encode()
        rest, lists = id_lists.taken_out(body, ["tokens"])
        assert _read(rest, lists, body) == _parsed(body), body


@pytest.mark.parametrize("before", ["", '"a":"\\\\"tokens\\\\":[9]",', '"tokens ":[9],', '"b":"tokens",'])
def test_a_list_is_taken_out_wherever_it_stands(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever piece begins in the midst of its name, and whatever looks like it in front."""
    before = before.replace("\\\\", "\\")
    monkeypatch.setattr(id_lists, "SHORT", 3)
    monkeypatch.setattr(id_lists, "WINDOW", 11)
    for space in range(24):
        body = f'{{{" " * space}{before}"tokens":[5,6]}}'.encode()
        rest, lists = id_lists.taken_out(body, ["tokens"])
        (word, ids) = lists["tokens"]
        assert list(ids) == [5, 6]
        assert rest == body.replace(b"[5,6]", f'"{word}"'.encode())
    assert id_lists.taken_out(b'{"tokens":[5]}', ["tokens"]) == (b'{"tokens":[5]}', {}), "it is short"


def _read(rest: bytes, lists: id_lists.IdLists, body: bytes) -> Any:
    fields = _parsed(rest)
    if not id_lists.put_back(fields, lists):
        return _parsed(body)
    return {name: list(one) if name in lists else one for name, one in fields.items()}


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body)
    except ValueError:
        return None


IDS = list(range(LARGE))


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (CompletionRequest, "prompt"),
        (EmbeddingRequest, "input"),
        (DetokenizeRequest, "tokens"),
        (ChatRequest, "allowed_token_ids"),
    ],
)
def test_requests_hold_them_as_any_others(model: Any, field: str) -> None:
    others = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    request = parse_body(model, json.dumps({**others, field: IDS}).encode())
    assert not isinstance(getattr(request, field), list)
    assert list(getattr(request, field)) == IDS
    assert request.model_dump(mode="json", exclude_unset=True)[field] == IDS
    assert request.unknown_fields == ([] if model is ChatRequest else ["messages"])


@pytest.mark.parametrize("skip", [True, False])
def test_many_ids_become_the_text_that_few_become(skip: bool) -> None:
    model = tiny_model()
    ids = (model.tokenizer.encode("a b <|end|> wörld 你好\n") * BATCH)[: BATCH + 100]
    request = DetokenizeRequest(tokens=ids, skip_special_tokens=skip)
    assert detokenized(request, model)["prompt"] == model.tokenizer.decode(ids, skip_special_tokens=skip)
