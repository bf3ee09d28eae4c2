"""The lines of a batch: what is one and what is not, in any pieces; in which order they run; what is told of them."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico import errors
from portico.errors import BadRequestError, PorticoError
from portico.protocols.anthropic import errors as anthropic_errors
from portico.protocols.batches import anthropic, openai
from portico.protocols.batches.failures import cause_of, told_by
from portico.protocols.batches.kinds import KINDS
from portico.protocols.batches.lines import MOST_LINES, FileReader, NewRequest, read_line, run_order
from portico.protocols.batches.record import Problem, Record, Usage
from portico.protocols.openai import errors as openai_errors

CHAT = "/v1/chat/completions"


def line(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    """A line that is one, but for the changes; what is changed to None is left out."""
    whole = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m"}, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def lines(*values: Any) -> bytes:
    """A file of them; text stands as it is."""
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in values)


def read(data: bytes, cut: int = 1 << 30) -> tuple[list[NewRequest], list[Problem]]:
    reader = FileReader(CHAT)
    found = []
    for start in range(0, len(data), cut):
        found += reader.feed(data[start : start + cut])
    found += reader.close()
    return found, reader.problems


WRONG: dict[str, tuple[bytes, list[tuple[str, int | None, str | None]]]] = {
    "empty": (b"", [("empty_file", None, None)]),
    "blank": (b"\n \r\n\t\n", [("empty_file", None, None)]),
    "no JSON": (lines(line(), b"{"), [("invalid_json_line", 2, None)]),
    "no UTF-8": (lines(b'{"custom_id":"\xff"}'), [("invalid_json_line", 1, None)]),
    "deep": (b'{"custom_id":"a","body":' + b"[" * 100_000, [("invalid_json_line", 1, None)]),
    "no object": (lines([1]), [("invalid_json_line", 1, None)]),
    "two in one": (lines(b"{}{}"), [("missing_required_parameter", 1, "custom_id")]),
    "no id": (lines(line(None)), [("missing_required_parameter", 1, "custom_id")]),
    "empty id": (lines(line("")), [("invalid_custom_id", 1, "custom_id")]),
    "long id": (lines(line("x" * 513)), [("invalid_custom_id", 1, "custom_id")]),
    "a number as id": (lines(line(5)), [("invalid_type", 1, "custom_id")]),
    "half a character as id": (lines(b'{"custom_id":"\\ud800"}'), [("invalid_json_line", 1, None)]),
    "the same id": (lines(line(), line("b"), line()), [("duplicate_custom_id", 3, "custom_id")]),
    "no url": (lines(line(url=None)), [("missing_required_parameter", 1, "url")]),
    "another url": (lines(line(url="/v1/embeddings")), [("invalid_url", 1, "url")]),
    "another method": (lines(line(method="GET")), [("invalid_method", 1, "method")]),
    "no body": (lines(line(body=None)), [("missing_required_parameter", 1, "body")]),
    "a body of text": (lines(line(body="hi")), [("invalid_body", 1, "body")]),
    "streamed": (lines(line(body={"stream": True})), [("invalid_body", 1, "body.stream")]),
    "in the background": (lines(line(body={"background": True})), [("invalid_body", 1, "body.background")]),
    "blank in between": (lines(line(), b"", b" ", line("b")), [("invalid_json_line", 2, None)]),
    "several": (
        lines(line(), line(), b"x", line("b")),
        [("duplicate_custom_id", 2, "custom_id"), ("invalid_json_line", 3, None)],
    ),
    "too many": (
        b"".join(b'{"custom_id":"%d","url":"/v1/chat/completions","body":{}}\n' % n for n in range(MOST_LINES + 1)),
        [("too_many_lines", MOST_LINES + 1, None)],
    ),
    "blank without end": (b"\n" * (2 * MOST_LINES + 1), [("too_many_lines", 2 * MOST_LINES + 1, None)]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_is_refused_for_its_lines(name: str) -> None:
    data, problems = WRONG[name]
    _, told = read(data, 64 << 10)
    assert [(one.code, one.line, one.param) for one in told] == problems
    assert all(one.message.endswith(".") for one in told)


def test_not_all_that_is_wrong_is_told() -> None:
    _, told = read(lines(*["x"] * 1000))
    assert len(told) == 20


def test_a_file_that_is_too_large_is_not_read_to_its_end() -> None:
    reader = FileReader(CHAT)
    for n in range(11):
        reader.feed(lines(line(str(n), body={"text": "x" * 20_000_000})) + b"\n")
    assert [one.code for one in reader.problems] == ["file_too_large"]
    reader = FileReader(CHAT)
    for _ in range(40):
        reader.feed(b"x" * (1 << 20))
    assert [(one.code, one.line) for one in reader.problems] == [("line_too_long", 1)]


def test_the_wrong_does_not_come_out_again() -> None:
    """No problem repeats what was sent."""
    secret = "s3cret" * 50
    for one in (line(secret * 3), line(url=secret), line(body=secret), {secret: 1}, secret.encode()):
        _, told = read(lines(one))
        assert told
        assert not any(secret in problem.message for problem in told)


def test_any_pieces_give_the_same_lines() -> None:
    whole = [line(f"a-{n}", body={"model": "☃" * (n % 5), "messages": [{"content": "é" * n}]}) for n in range(20)]
    texts = [json.dumps(one, ensure_ascii=bool(n % 2)).encode() for n, one in enumerate(whole)]
    for end in (b"", b"\n", b"\r\n\n \n"):
        data = b"\xef\xbb\xbf" + b"\r\n".join(texts) + end
        for cut in (1, 2, 3, 7, 64, 1000, 1 << 20):
            found, told = read(data, cut)
            assert told == []
            assert [one.line for one in found] == texts
    requests = [read_line(one.line) for one in found]
    assert [(one.custom_id, one.path, json.loads(one.body)) for one in requests] == [
        (one["custom_id"], CHAT, one["body"]) for one in whole
    ]


def test_a_body_stays_as_it_was_written() -> None:
    body = b'{"model": "m", "temperature": 1.0, "seed": 123456789012345678901234567890, "a":"\\u00e9", "a": 1e400}'
    (found,), told = read(b'{"custom_id":"a","url":"/v1/chat/completions","body":%b}' % body)
    assert told == []
    assert read_line(found.line).body == body


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_what_begins_alike_runs_together(shapes: list[tuple[int, int, int]]) -> None:
    """Places are a permutation; those of one long beginning follow one another; without any the order stays."""
    bodies = [
        {"messages": [{"content": f"{a}" * 300 + f"{b}" * 2000 + f"{c}"}], "temperature": n}
        for n, (a, b, c) in enumerate(shapes)
    ]
    found, _ = read(lines(*[line(str(n), body=body) for n, body in enumerate(bodies)]))
    places = run_order([one.beginning for one in found])
    assert sorted(places) == list(range(len(shapes)))
    order = sorted(range(len(shapes)), key=places.__getitem__)
    for depth in (1, 2):
        seen = [shapes[n][:depth] for n in order]
        assert len(list(itertools.groupby(seen))) == len(set(seen))
    assert run_order([bytes([n] * 6) for n in random.Random(1).sample(range(50), 50)]) == list(range(50))


# -- message batches --------------------------------------------------------------------------------------------------

ASKED = {"custom_id": "a", "params": {"model": "m"}}
REFUSED: dict[str, tuple[Any, str | None]] = {
    "nothing": (b"{}", "requests"),
    "no JSON": (b'{"requests":[', None),
    "none": ({"requests": []}, "requests"),
    "no list": ({"requests": 5}, "requests"),
    "no object": ({"requests": [ASKED, 5]}, "requests[1]"),
    "no id": ({"requests": [{"params": {}}]}, "requests[0].custom_id"),
    "no params": ({"requests": [{"custom_id": "a"}]}, "requests[0].params"),
    "params of text": ({"requests": [{"custom_id": "a", "params": "x"}]}, "requests[0].params"),
    "empty id": ({"requests": [{**ASKED, "custom_id": ""}]}, "requests[0].custom_id"),
    "a bad id": ({"requests": [{**ASKED, "custom_id": "a b"}]}, "requests[0].custom_id"),
    "a newline in it": ({"requests": [{**ASKED, "custom_id": "a\n"}]}, "requests[0].custom_id"),
    "a long id": ({"requests": [{**ASKED, "custom_id": "a" * 65}]}, "requests[0].custom_id"),
    "a number as id": ({"requests": [{**ASKED, "custom_id": 5}]}, "requests[0].custom_id"),
    "the same id": ({"requests": [ASKED, {**ASKED, "custom_id": "b"}, ASKED]}, "requests[2].custom_id"),
    "streamed": ({"requests": [{"custom_id": "a", "params": {"stream": True}}]}, "requests[0].params.stream"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_message_batch_is_refused_as_a_whole(name: str) -> None:
    body, field = REFUSED[name]
    with pytest.raises(BadRequestError) as refused:
        anthropic.read_requests(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refused.value.param == field
    assert field is None or field in refused.value.message


# -- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_tell_are_one_line_of_JSON(kind: str) -> None:
    spoken = KINDS[kind]
    for status, body in ((200, b'{"a":"\\n"}'), (400, b'{"error":{}}')):
        outcome, told = spoken.answered('a"\n☃', "req_1", status, body)
        assert outcome == ("succeeded" if status == 200 else "errored")
        assert body in told
        assert b"\n" not in told
        assert json.loads(told)["custom_id"] == 'a"\n☃'
    for outcome in ("cancelled", "expired"):
        assert json.loads(spoken.unanswered("a", outcome))["custom_id"] == "a"


@pytest.mark.parametrize("kind", KINDS)
def test_why_a_line_failed_is_what_its_endpoint_said(kind: str) -> None:
    """Of every error that there is, in the shapes of both APIs; and of bodies that tell it otherwise."""
    made: list[type[PorticoError]] = [getattr(errors, name) for name in errors.__all__]
    assert len(made) > 10
    for error in [one("Why.", code=code) for one in made for code in (None, "own_code")]:
        assert cause_of(error.status, openai_errors.body(error)) == (error.code or error.type)
        assert cause_of(error.status, anthropic_errors.body(error, "req_1")) == anthropic_errors.error_type(error)
        body = openai_errors.body(error) if kind == "openai" else anthropic_errors.body(error, "req_1")
        outcome, told = KINDS[kind].answered("a-1", "req_1", error.status, body)
        assert outcome == "errored"
        assert told_by(told) == ("a-1", "Why.")
    for odd in (b"{}", b"[]", b'{"error":"text"}', b'{"error":{"code":5}}', b"no JSON", b"\xff"):
        assert cause_of(502, odd) == "status_502"
    assert len(cause_of(500, json.dumps({"error": {"code": "x" * 1000}}).encode())) == 64


USAGES = {
    "chat": (
        {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2}},
        Usage(9, 2, 4, 0),
    ),
    "thinking": (
        {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}},
        Usage(9, 0, 4, 3),
    ),
    "responses": (
        {
            "input_tokens": 9,
            "output_tokens": 4,
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens_details": {"reasoning_tokens": 3},
        },
        Usage(9, 2, 4, 3),
    ),
    "messages": (
        {"input_tokens": 7, "cache_read_input_tokens": 2, "cache_creation_input_tokens": None, "output_tokens": 4},
        Usage(9, 2, 4, 0),
    ),
    "embeddings": ({"prompt_tokens": 9, "total_tokens": 9}, Usage(9, 0, 0, 0)),
    "none": (None, Usage()),
    "odd": ({"prompt_tokens": "many"}, Usage()),
}


@pytest.mark.parametrize("name", USAGES)
def test_tokens_are_counted_whatever_the_endpoint(name: str) -> None:
    usage, counted = USAGES[name]
    _, told = openai.answered("a", "req_1", 200, json.dumps({"usage": usage}).encode())
    assert openai.usage_of(told) == counted


def test_a_record_is_kept_whole() -> None:
    record = Record(
        endpoint=CHAT,
        expires_at=5,
        metadata={"a": "b"},
        headers={"anthropic-beta": "x"},
        counts={"succeeded": 3},
        usage=Usage(1, 2, 3, 4),
        problems=[Problem("a", "b", 3)],
        cancelled_at=7,
    )
    assert Record.of(json.loads(json.dumps(record.kept()))) == record
