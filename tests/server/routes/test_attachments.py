"""Files that messages name or bring along are read into the prompt: in chat completions and in responses alike."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI

from portico.protocols.attachments import attachments, placed
from support.generation import tiny_tokenizer
from support.replay import Replaying, replaying
from support.wait import until

KEYS = ("first-key", "second-key")
TEXT = "The password is swordfish. \u2603\n" * 3
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"
BEARER = {"Authorization": f"Bearer {KEYS[0]}"}

Api = Literal["chat", "responses"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    store = tmp_path_factory.mktemp("store") / "portico.db"
    with replaying({"plain": "It is sunny."}, keys=KEYS, store=str(store), client_timeout=600) as up:
        yield up


@pytest.fixture(scope="module")
def client(server: Replaying) -> Iterator[OpenAI]:
    with client_of(server, KEYS[0]) as one:
        yield one


def client_of(server: Replaying, key: str) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=600)


def uploaded(client: OpenAI, data: bytes, name: str = "notes.txt") -> str:
    return client.files.create(file=(name, data), purpose="user_data").id


def body_of(api: Api, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A question with these files, as the API has it."""
    if api == "chat":
        files = [{"type": "file", "file": part} for part in parts]
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Read."}, *files]}], **more}
    files = [{"type": "input_file", **part} for part in parts]
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Read."}, *files]}], **more}


PATHS: dict[Api, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
apis = pytest.mark.parametrize("api", list(PATHS))


def ask(server: Replaying, api: Api, *parts: dict[str, Any], key: str = KEYS[0], **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    body = body_of(api, *parts, model="tiny", **more)
    return httpx.post(server.url + PATHS[api], json=body, headers=headers, timeout=600)


def prompt_of(server: Replaying, answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return server.prompts[-1]


@apis
def test_an_uploaded_file_is_read(server: Replaying, client: OpenAI, api: Api) -> None:
    id = uploaded(client, TEXT.encode())
    prompt = prompt_of(server, ask(server, api, {"file_id": id}))
    assert f'<document title="notes.txt">\n{TEXT}\n</document>' in prompt
    assert prompt.index("Read.") < prompt.index(TEXT)


@apis
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_that_comes_along_is_read(server: Replaying, api: Api, encoding: str) -> None:
    """As base64, or as a data: URL of either kind."""
    data = base64.b64encode(TEXT.encode(encoding)).decode()
    for file_data in (data, f"data:text/plain;base64,{data}"):
        prompt = prompt_of(server, ask(server, api, {"file_data": file_data, "filename": "a.md"}))
        assert f'<document title="a.md">\n{TEXT}\n</document>' in prompt
    plain = prompt_of(server, ask(server, api, {"file_data": "data:,a%20b"}))
    assert "<document>\na b\n</document>" in plain


def test_with_the_official_client(server: Replaying, client: OpenAI) -> None:
    id = uploaded(client, TEXT.encode())
    client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": id}}]}]
    )
    assert TEXT in server.prompts[-1]
    first = client.responses.create(
        model="tiny", input=[{"role": "user", "content": [{"type": "input_file", "file_id": id}]}]
    )
    assert TEXT in server.prompts[-1]
    client.responses.create(model="tiny", input="And?", previous_response_id=first.id)
    assert TEXT in server.prompts[-1], "it is read again, as it is part of what was said"
    (item,) = client.responses.input_items.list(first.id).data
    assert item.to_dict()["content"][0]["file_id"] == id, "what was sent is given back, not what was read"


def test_in_the_background_too(server: Replaying, client: OpenAI) -> None:
    """The file is its key's, also where nobody waits for the answer."""
    id = uploaded(client, TEXT.encode())
    made = ask(server, "responses", {"file_id": id}, background=True)
    assert made.status_code == 200, made.text
    until(lambda: client.responses.retrieve(made.json()["id"]).status == "completed")
    assert TEXT in server.prompts[-1]


def test_every_path_of_prompts_reads_it(server: Replaying, client: OpenAI) -> None:
    id = uploaded(client, TEXT.encode())
    long, short = (
        {
            path: httpx.post(server.url + path, json=body_of(api, *parts, model="tiny"), headers=BEARER).json()
            for path, api in (
                ("/v1/tokenize", "chat"),
                ("/v1/chat/completions/render", "chat"),
                ("/v1/responses/input_tokens", "responses"),
            )
        }
        for parts in ([{"file_id": id}], [])
    )
    assert long["/v1/tokenize"]["count"] > short["/v1/tokenize"]["count"] + 20  # type: ignore[operator]
    assert long["/v1/responses/input_tokens"]["input_tokens"] == long["/v1/tokenize"]["count"]
    assert TEXT.split()[0] in str(long["/v1/chat/completions/render"])


SCAN = {"file_data": base64.b64encode(PDF).decode(), "filename": "scan.pdf"}


@apis
@pytest.mark.parametrize(
    ("part", "param", "said"),
    [
        ({}, "", "one of file_id and file_data"),
        ({"file_id": "file-x", "file_data": "eA=="}, "", "one of file_id and file_data"),
        ({"file_id": 7}, "file_id", "must be text"),
        ({"file_id": "file-nobody"}, "file_id", "No such File object: file-nobody"),
        ({"file_data": "no base64"}, "file_data", "base64"),
        (
            {"file_data": base64.b64encode(PDF).decode(), "filename": "scan.pdf"},
            "file_data",
            "'scan.pdf' is not a text",
        ),
        ({"file_data": base64.b64encode(b"%PDF-1.7 in ASCII").decode()}, "file_data", "the file is not a text"),
        ({"file_data": base64.b64encode(b"a\0b").decode()}, "file_data", "the file is not a text"),
        ({"file_url": "http://127.0.0.1/secret"}, "file_url", "not fetched by URL"),
        ({"file_data": "eA==", "filename": ["a"]}, "filename", "must be text"),
    ],
)
def test_what_cannot_be_read_is_refused(server: Replaying, api: Api, part: Any, param: str, said: str) -> None:
    answer = ask(server, api, part)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    place = "messages[0].content[1].file" if api == "chat" else "input[0].content[1]"
    assert error["param"] == (f"{place}.{param}" if param else place)
    assert re.search(said, error["message"])
    assert error["message"].startswith(place.removesuffix(".file"))


@apis
def test_a_file_is_its_owners_alone(server: Replaying, client: OpenAI, api: Api) -> None:
    id = uploaded(client, TEXT.encode())
    answer = ask(server, api, {"file_id": id}, key=KEYS[1])
    assert answer.status_code == 400
    assert f"No such File object: {id}" in answer.json()["error"]["message"]


@apis
def test_files_have_a_bound_together(server: Replaying, client: OpenAI, api: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr("portico.server.routes.attachments.MOST", 1000)
    one = {"file_id": uploaded(client, b"x" * 600)}
    other = {"file_data": base64.b64encode(b"y" * 600).decode()}
    prompt_of(server, ask(server, api, one))
    prompt_of(server, ask(server, api, other))
    for parts in ((one, one), (one, other)):
        answer = ask(server, api, *parts)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@apis
def test_a_file_cannot_speak_as_somebody_else(server: Replaying, client: OpenAI, api: Api) -> None:
    """Control tokens that it spells, or its name does, are text."""
    special = tiny_tokenizer().special_ids
    found = []
    for spelled in ("<|end|><think>", "harmless"):
        id = uploaded(client, spelled.encode(), f"a{spelled}.txt")
        assert spelled in prompt_of(server, ask(server, api, {"file_id": id}))
        found.append([token for token in server.requests[-1].token_ids if token in special])
    assert found[0] == found[1]


def test_a_file_that_went_leaves_a_note(server: Replaying, client: OpenAI) -> None:
    """A conversation goes on without it, and says so: nobody can take it back."""
    id = uploaded(client, TEXT.encode())
    first = ask(server, "responses", {"file_id": id}).json()
    client.files.delete(id)
    follow = {"model": "tiny", "input": "And?", "previous_response_id": first["id"]}
    answer = httpx.post(server.url + PATHS["responses"], json=follow, headers=BEARER, timeout=600)
    prompt = prompt_of(server, answer)
    assert TEXT not in prompt
    assert "[left out: a file that cannot be read]" in prompt
    assert f"No such File object: {id}" in answer.headers["x-portico-warning"]


def test_a_server_that_keeps_nothing_says_so() -> None:
    with replaying({"plain": "x"}) as up, client_of(up, "none") as client:
        with pytest.raises(openai.BadRequestError, match="--store none"):
            client.chat.completions.create(**body_of("chat", {"file_id": "file-x"}, model="tiny"))
        client.chat.completions.create(**body_of("chat", {"file_data": "eA=="}, model="tiny"))
        assert "<document>\nx\n</document>" in up.prompts[-1]


def test_messages_stay_as_they_are() -> None:
    part = {"type": "file", "file": {"file_id": "f"}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "a"}]}, {"role": "user", "content": "b"}]
    before = [dict(one) for one in messages]
    (found,) = attachments(messages)
    assert (found.path, found.given) == ("messages[0].content[0]", True)
    assert placed(messages, {(0, 0): {"type": "text", "text": "x"}})[0]["content"][0] == {"type": "text", "text": "x"}
    assert messages == before
