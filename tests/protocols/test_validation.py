"""Request bodies of every protocol: what is an integer, which field an error names, which fields are reported."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import Field, model_validator

from portico.errors import BadRequestError
from portico.protocols.anthropic.schema import CountTokensRequest, MessagesRequest
from portico.protocols.bounds import Items
from portico.protocols.openai.embeddings import EmbeddingRequest
from portico.protocols.openai.schema import ChatRequest, CompletionRequest
from portico.protocols.openai.scoring import RerankRequest
from portico.protocols.openai.tokens import DetokenizeRequest, TokenizeRequest
from portico.protocols.validation import Keys, RequestModel, fault, field_path, parse_body, parse_fields

MESSAGES = [{"role": "user", "content": "Hi"}]
SMALLEST: dict[type[RequestModel], dict[str, Any]] = {
    ChatRequest: {"messages": MESSAGES, "logprobs": True},
    CompletionRequest: {"prompt": "Hi"},
    MessagesRequest: {"model": "m", "messages": MESSAGES, "max_tokens": 5},
    CountTokensRequest: {"model": "m", "messages": MESSAGES},
    EmbeddingRequest: {"input": "Hi"},
    RerankRequest: {"query": "Hi", "documents": ["a"]},
    TokenizeRequest: {"prompt": "Hi"},
    DetokenizeRequest: {"tokens": [1]},
}
WHOLE = [
    (model, name)
    for model in SMALLEST
    for name, field in model.model_fields.items()
    if "int" in str(field.annotation) and "list" not in str(field.annotation) and "bool" not in str(field.annotation)
]

# What a field may hold in place of what it should, and bodies that are none
MISFITS = [None, True, 0, -1, 2.0, 1.5, 2**70, "x", [], {}, [1], [None], [1.0], [True], ["a"], [[1]], [{}], {"a": 1.5},
           {"type": "x"}, [{"type": "text", "text": "a"}], float("nan"), float("inf")]  # fmt: skip
NO_BODIES = [
    b"{",
    b"nul",
    b'{"a":1,}',
    b"{} x",
    b"[" * 500,
    b'{"model":"\xff"}',
    b'{"model":"\\ud800"}',
    b'"x"',
    b"\xef\xbb\xbf{}",
]

FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


def parse(model: type[RequestModel], **fields: Any) -> Any:
    body = {**SMALLEST[model], **fields}
    by_body = parse_body(model, json.dumps(body).encode())
    assert parse_fields(model, body) == by_body
    return by_body


@pytest.mark.parametrize("model", SMALLEST, ids=lambda model: model.__name__)
def test_large_bodies_are_read_as_small_ones_are(model: type[RequestModel], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(body: bytes) -> object:
        try:
            return repr(parse_body(model, body))
        except BadRequestError as error:
            return error.message, error.param, error.code

    bodies = [json.dumps({**SMALLEST[model], name: one}) for name in model.model_fields for one in MISFITS]
    all_bodies = [*(body.encode() for body in bodies), *NO_BODIES]
    small = list(map(read, all_bodies))
    monkeypatch.setattr("portico.protocols.validation.LARGE", 0)
    assert list(map(read, all_bodies)) == small
    assert len({str(one) for one in small}) > len(NO_BODIES)


class TestWholeNumbers:
    def test_the_protocols_have_some(self) -> None:
        assert {model for model, _ in WHOLE} > {ChatRequest, CompletionRequest, MessagesRequest}

    @pytest.mark.parametrize(("model", "name"), WHOLE, ids=lambda one: getattr(one, "__name__", one))
    def test_a_whole_float_is_an_integer(self, model: type[RequestModel], name: str) -> None:
        value = getattr(parse(model, **{name: 2.0}), name)
        assert value == 2
        assert type(value) is int

    @pytest.mark.parametrize(("model", "name"), WHOLE, ids=lambda one: getattr(one, "__name__", one))
    @pytest.mark.parametrize("value", [2.5, "2", True, 1e400], ids=repr)
    def test_nothing_else_is(self, model: type[RequestModel], name: str, value: object) -> None:
        with pytest.raises(BadRequestError) as caught:
            parse_fields(model, {**SMALLEST[model], name: value})
        assert caught.value.param == name

    @pytest.mark.parametrize("prompt", [[1.0, 2], [[1, 2.0], [3.0]]])
    def test_inside_lists_too(self, prompt: object) -> None:
        found = parse(CompletionRequest, prompt=prompt, max_tokens=2.0)
        assert json.dumps([found.prompt, found.max_tokens]) == json.dumps([prompt, 2]).replace(".0", "")

    def test_inside_objects_too(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 2048.0}
        assert parse(MessagesRequest, thinking=thinking).thinking.budget_tokens == 2048

    def test_inside_lists_of_objects_too(self) -> None:
        many = [{**GOOD, "size": one} for one in (3.0, 0, 2.0, 4.0)]
        found = parse_fields(Outer, {"inner": {**GOOD, "size": 1.0}, "many": many, "first": many})
        assert found.first is not None
        for items in (found.many, found.first):
            assert [repr(one.size) for one in (found.inner, *items)] == ["1", "3", "0", "2", "4"]
        assert [one["size"] for one in many] == [3.0, 0, 2.0, 4.0], "what was given stays as it is"

    def test_a_schema_stays_as_it_was_written(self) -> None:
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": 2.0}}}
        found = parse(ChatRequest, max_tokens=2.0, response_format=schema)
        assert json.dumps(found.response_format) == json.dumps(schema)

    def test_what_is_wrong_beside_it_is_told(self) -> None:
        with pytest.raises(BadRequestError) as caught:
            parse(ChatRequest, max_tokens=2.0, temperature="hot")
        assert caught.value.param == "temperature"


class TestFaults:
    @pytest.mark.parametrize(
        ("model", "fields", "param"),
        [
            (ChatRequest, {"top_logprobs": 3, "logprobs": False}, "top_logprobs"),
            (ChatRequest, {"stream_options": {"include_usage": True}}, "stream_options"),
            (CompletionRequest, {"stream_options": {}}, "stream_options"),
            (ChatRequest, {"max_tokens": 0}, "max_tokens"),
            (ChatRequest, {"max_completion_tokens": -2}, "max_completion_tokens"),
            (ChatRequest, {"top_p": -0.1}, "top_p"),
            (TokenizeRequest, {"messages": MESSAGES}, "prompt"),
            (MessagesRequest, {"output_format": FORMAT, "output_config": {"format": FORMAT}}, "output_format"),
        ],
    )  # fmt: skip
    def test_every_refusal_names_a_field(self, model: type[RequestModel], fields: dict[str, Any], param: str) -> None:
        with pytest.raises(BadRequestError) as caught:
            parse(model, **fields)
        assert caught.value.param == param
        assert param in caught.value.message


class Inner(RequestModel):
    kind: str
    size: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _checked(self) -> Inner:
        if self.kind == "wrong":
            raise fault("size.of.it", "No good.")
        if self.kind == "bad":
            raise ValueError("bad")
        return self


class Outer(RequestModel):
    inner: Inner
    some: list[int] | str | None = None
    many: Annotated[list[Inner], Field(default_factory=list)]
    first: Items[Inner] | None = None  # is refused at its first wrong one
    flag: bool = False


GOOD = {"kind": "a"}
WORDS: list[tuple[Any, str | None, str, str]] = [  # a body, the param, the code and the words of its error
    (b"", None, "invalid_json", "The request body is empty; send a JSON object."),
    (b"{", None, "invalid_json", "The request body is not valid JSON: EOF while parsing an object at line 1 column 1."),
    ([], None, "invalid_type", "Invalid request body: Input should be an object."),
    ({}, "inner", "missing_required_parameter", "Missing required field 'inner'."),
    ({"inner": {}}, "inner.kind", "missing_required_parameter", "Missing required field 'inner.kind'."),
    ({"inner": 3}, "inner", "invalid_type", "Invalid 'inner': Input should be an object."),
    ({"inner": GOOD, "flag": "x"}, "flag", "invalid_type", "Invalid 'flag': Input should be a valid boolean."),
    ({"inner": {**GOOD, "size": -1}}, "inner.size", "invalid_value",
     "Invalid 'inner.size': Input should be greater than or equal to 0."),
    ({"inner": GOOD, "many": 1}, "many", "invalid_type", "Invalid 'many': Input should be a valid array."),
    ({"inner": GOOD, "many": [GOOD, {"kind": "wrong"}]}, "many[1].size.of.it", "invalid_value",
     "Invalid 'many[1].size.of.it': No good."),
    ({"inner": {"kind": "bad"}}, "inner", "invalid_value", "Invalid 'inner': bad."),
    ({"inner": GOOD, "some": [1, "x"]}, "some[1]", "invalid_type",
     "Invalid 'some[1]': Input should be a valid integer. Invalid 'some': Input should be a valid string."),
    ({"inner": GOOD, "many": [{}] * 3}, "many[0].kind", "missing_required_parameter",
     " ".join(f"Missing required field 'many[{n}].kind'." for n in range(3))),
    ({"inner": GOOD, "many": [{}] * 5}, "many[0].kind", "missing_required_parameter",
     " ".join(f"Missing required field 'many[{n}].kind'." for n in range(3)) + " (2 more problems.)"),
    ({"inner": {**GOOD, "size": 2.0}, "flag": 1.5}, "flag", "invalid_type",
     "Invalid 'flag': Input should be a valid boolean."),
    ({"inner": {**GOOD, "size": 2.5}, "many": [{**GOOD, "size": 2.0}]}, "inner.size", "invalid_type",
     "Invalid 'inner.size': Input should be a valid integer."),
    ({"inner": GOOD, "first": [{}] * 5}, "first[0].kind", "missing_required_parameter",
     "Missing required field 'first[0].kind'."),
    ({"inner": {**GOOD, "size": 2.5}}, "inner.size", "invalid_type",
     "Invalid 'inner.size': Input should be a valid integer."),
    ({"inner": {**GOOD, "size": -2.0}}, "inner.size", "invalid_value",
     "Invalid 'inner.size': Input should be greater than or equal to 0."),
]  # fmt: skip


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("body", "param", "code", "words"), WORDS, ids=[str(one[0])[:60] for one in WORDS])
def test_the_words_of_a_refusal(
    body: Any, param: str | None, code: str, words: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same whether the body is validated as JSON or as the objects of Python, and nothing of the input in it."""
    if large:
        monkeypatch.setattr("portico.protocols.validation.LARGE", 0)
    with pytest.raises(BadRequestError) as caught:
        parse_body(Outer, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (caught.value.param, caught.value.code) == (param, code)
    if large and body == b"{":  # another parser, which says it in its own words
        assert caught.value.message.startswith("The request body is not valid JSON: EOF")
    else:
        assert caught.value.message == words


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ((), ""),
        (("a", 0, "b"), "a[0].b"),
        ((0, 1, "a"), "[0][1].a"),
        (("a", "list[int]", 3), "a[3]"),
        (("a", "str"), "a"),
        (("content", "TextPart", "text"), "content.text"),
        (("a", "function-after[x(), y]", "b c", "", "_d"), "a._d"),
        (("x" * 300,), "x" * 200),
    ],
)
def test_a_path_is_that_of_the_body(location: tuple[int | str, ...], path: str) -> None:
    assert field_path(location) == path


def test_what_is_known_of_an_object() -> None:
    inner = Keys.of("a")
    assert Keys.of("x", "y", z=inner) == Keys(frozenset({"x", "y", "z"}), {"z": inner})
    assert Keys.of() == Keys(frozenset(), {})


class TestUnknownFields:
    @pytest.mark.parametrize(
        ("model", "fields", "unknown"),
        [
            (ChatRequest, {"temprature": 1, "stream": None, "user": "me"}, ["temprature"]),
            (ChatRequest, {"stream": True, "stream_options": {"include_usge": True}}, ["stream_options.include_usge"]),
            (ChatRequest, {"response_format": {"type": "text", "shema": {}}}, ["response_format.shema"]),
            (
                ChatRequest,
                {"response_format": {"type": "json_schema", "json_schema": {"schema": {"x": 1}, "strcit": True}}},
                ["response_format.json_schema.strcit"],
            ),
            (CompletionRequest, {"structured_outputs": {"regex": "a", "backend": "x"}}, ["structured_outputs.backend"]),
            (ChatRequest, {"tool_choice": {"type": "function", "function": {"name": "f", "x": 1}}},
             ["tool_choice.function.x"]),
            (RerankRequest, {"documents": ["a", {"text": "b", "title": "t"}]}, ["documents[1].title"]),
            (MessagesRequest, {"thinking": {"type": "adaptive", "depth": 3}, "x": 1}, ["x", "thinking.depth"]),
            (MessagesRequest, {"output_config": {"format": {**FORMAT, "name": "n"}}}, ["output_config.format.name"]),
            (MessagesRequest, {"tool_choice": {"type": "auto", "stirct": True}}, ["tool_choice.stirct"]),
            (
                MessagesRequest,
                {
                    "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "tl": 1}}],
                    "tools": [{"name": "f", "input_schema": {"x": 1}, "desciption": "d", "strict": None}],
                    "messages": [
                        {"role": "user", "content": "Hi", "name": "me"},
                        {"role": "user", "content": [{"type": "text", "text": "a", "citations": None, "bold": True}]},
                        {
                            "role": "user",
                            "content": [
                                {"type": "document", "source": {"type": "text", "data": "d", "x": 1}, "citations": {}}
                            ],
                        },
                    ],
                },
                [
                    "messages[0].name",
                    "messages[1].content[0].bold",
                    "messages[2].content[0].source.x",
                    "messages[2].content[0].citations",
                    "system[0].cache_control.tl",
                    "tools[0].desciption",
                ],
            ),
        ],
    )  # fmt: skip
    def test_are_named_however_deep_they_stand(
        self, model: type[RequestModel], fields: dict[str, Any], unknown: list[str]
    ) -> None:
        assert parse(model, **fields).unknown_fields == unknown
