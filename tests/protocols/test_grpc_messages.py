"""The pure halves of gRPC: what requests become, what deltas become, and that the messages fit others' programs."""

from __future__ import annotations

import io
import json
import zipfile
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import BadRequestError
from portico.events import (
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    EngineOutput,
    Event,
    Finish,
    Reasoning,
    SamplingParams,
    TokenLogprob,
)
from portico.generation import Delta
from portico.prompting import load_tokenizer
from portico.protocols.grpc import inference, vllm_engine
from portico.protocols.grpc.tokenizer_files import tokenizer_zip
from portico.protocols.openai import chat, completions
from portico.protos import inference_pb2 as pb
from portico.protos import smg_common_pb2, vllm_engine_pb2
from portico.protos import vllm_engine_pb2 as engine
from portico.values import MOST_VALUES
from support.generation import answers, tiny_model, tiny_tokenizer

# -- VllmEngine -------------------------------------------------------------------------------------------------------


def generate_request(ids: list[int] = [1, 2, 3], **sampling: Any) -> engine.GenerateRequest:  # noqa: B006
    return engine.GenerateRequest(
        request_id="r",
        tokenized=engine.TokenizedInput(input_ids=ids),
        sampling_params=engine.SamplingParams(**sampling),
        stream=True,
    )


def test_zeros_are_neutral() -> None:
    spec = vllm_engine.generation(generate_request(), [1, 2, 3], tiny_model(), "x").spec
    assert spec.sampling == SamplingParams(max_tokens=4093)
    assert spec.n == 1
    assert not spec.stop


@given(
    st.floats(0, 2, width=32),
    st.floats(2**-10, 1, width=32),
    st.integers(0, 100),
    st.integers(1, 4000),
    st.lists(st.integers(0, 255), max_size=4),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(0, 2**31 - 1),
    st.dictionaries(st.integers(0, 255), st.floats(-100, 100, width=32), max_size=3),
)
def test_every_sampling_rule_arrives(
    temperature: float,
    top_p: float,
    top_k: int,
    max_tokens: int,
    stops: list[int],
    logprobs: int | None,
    seed: int | None,
    bias: dict[int, float],
) -> None:
    request = generate_request(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
        stop_token_ids=stops,
        logprobs=logprobs,
        seed=seed,
        logit_bias=bias,
    )
    sampling = vllm_engine.generation(request, [1, 2, 3], tiny_model(), "x").spec.sampling
    assert sampling == SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
        stop_token_ids=frozenset(stops),
        logprobs=logprobs,
        seed=seed,
        logit_bias=bias,
    )


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 100}, "logprobs"),
        ({"n": 1000}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": [99999]}, "stop_token_ids"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"max_tokens": 0}, None),
        ({"json_schema": "{"}, "structured_outputs.json"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ],
)
def test_bad_values_are_named(sampling: dict[str, Any], param: str | None) -> None:
    model = tiny_model(capabilities=frozenset({"generate", "logprobs", "constraints"}))
    if param is None:
        vllm_engine.generation(generate_request(**sampling), [1, 2], model, "x")
        return
    with pytest.raises(BadRequestError) as caught:
        vllm_engine.generation(generate_request(**sampling), [1, 2], model, "x")
    assert caught.value.param == param


@pytest.mark.parametrize(
    "constraint",
    [
        {"json_schema": '{"type": "object"}'},
        {"json_object": True},
        {"regex": "[a-z]+"},
        {"choice": engine.ChoiceConstraint(choices=["yes", "no"])},
        {"grammar": 'root ::= "a" | "b"'},
        {"grammar": 'start: "a" | "b"'},
        {"structural_tag": '{"type": "structural_tag", "format": {"type": "regex", "pattern": "a+"}}'},
    ],
)
def test_every_constraint_becomes_a_grammar(constraint: dict[str, Any]) -> None:
    model = tiny_model(capabilities=frozenset({"generate", "constraints"}))
    spec = vllm_engine.generation(generate_request(**constraint), [1, 2], model, "x").spec
    assert spec.constraint is not None
    assert "start" in spec.constraint.lark


def test_media_and_other_caches_are_refused() -> None:
    for request in (
        engine.GenerateRequest(mm_inputs=engine.MultimodalInputs()),
        engine.GenerateRequest(media_refs=engine.MediaRefs()),
        engine.GenerateRequest(kv_transfer_params_json="{}"),
        engine.GenerateRequest(),
    ):
        with pytest.raises(BadRequestError):
            vllm_engine.prompt(request)


TOKENS = st.lists(st.integers(0, 255), max_size=5)


@given(st.lists(TOKENS, min_size=1, max_size=5), st.booleans(), st.none() | st.just(256), st.booleans(), st.booleans())
def test_answers_carry_every_token_once(
    steps: list[list[int]], stream: bool, stop_token: int | None, with_logprobs: bool, lagging: bool
) -> None:
    """Chunks concatenate to what the engine gave, also when they are joined for a client that lags; the complete of an
    answer that was not streamed is the same."""
    generation = vllm_engine.generation(
        generate_request(logprobs=0 if with_logprobs else None), [1, 2, 3], tiny_model(), "x"
    )
    encoder = vllm_engine.GenerateEncoder(generation, stream=stream)
    responses = []
    for position, ids in enumerate(steps):
        logprobs = [TokenLogprob(token, -0.5) for token in ids] if with_logprobs else None
        output = EngineOutput("x-0", ids, logprobs=logprobs, cached_tokens=2 if position == 0 else None)
        if position == len(steps) - 1:
            output.finish_reason, output.stop_token = "stop", stop_token
        delta = generation.choices[0].feed(output)
        assert delta is not None
        responses += encoder.feed(delta)
    if lagging:
        responses = encoder.joined(responses)
        assert len(responses) <= 2
    complete = responses.pop().complete
    expected = [token for ids in steps for token in ids]
    told = [one for ids in steps for one in ids]
    if stop_token is not None:
        expected.append(stop_token)
    if stream:
        chunks = [response.chunk for response in responses]
        assert [token for chunk in chunks for token in chunk.token_ids] == expected
        assert sum(chunk.completion_tokens for chunk in chunks) == len(expected)
        found = [token for chunk in chunks for token in chunk.output_logprobs.token_ids]
    else:
        assert not responses
        assert list(complete.output_ids) == expected
        found = list(complete.output_logprobs.token_ids)
    assert found == (told if with_logprobs else [])
    assert complete.finish_reason == "stop"
    assert complete.cached_tokens == 2
    assert complete.prompt_tokens == 3
    assert complete.WhichOneof("matched_stop") is None


def test_a_stop_string_ends_the_ids() -> None:
    tokenizer = tiny_tokenizer()
    generation = vllm_engine.generation(generate_request(stop=["END"]), [1], tiny_model(), "x")
    delta = generation.choices[0].feed(EngineOutput("x-0", tokenizer.encode("one END two")))
    assert delta is not None
    *_, last = vllm_engine.GenerateEncoder(generation, stream=True).feed(delta)
    assert tokenizer.decode(last.complete.output_ids) == "one END"
    assert last.complete.matched_stop_str == "END"


@pytest.mark.parametrize("module", ["vllm_engine_pb2", "common_pb2"])
def test_messages_are_those_of_the_published_protocol(module: str) -> None:
    """Field by field: number, type, label; what is ours is there, under the same name."""
    pytest.importorskip("smg_grpc_proto", reason="the published stubs are not installed: pip install smg-grpc-proto")
    proto = descriptor_pb2.FileDescriptorProto()
    ours = smg_common_pb2 if module == "common_pb2" else vllm_engine_pb2
    theirs = _published(module)
    ours.DESCRIPTOR.CopyToProto(proto)
    assert proto.package == theirs.package
    published = {message.name: message for message in theirs.message_type}
    for message in proto.message_type:
        fields = {one.name: one for one in published[message.name].field}
        for one in message.field:
            if one.name.startswith("portico_"):
                assert one.number >= 1000, "what is Portico's own is where nothing is published"
                assert one.number not in {other.number for other in fields.values()}
                continue
            other = fields[one.name]
            assert (one.number, one.type, one.label) == (other.number, other.type, other.label), one.name
            assert one.type_name.split(".")[-1] == other.type_name.split(".")[-1]
    for service in proto.service:
        (other_service,) = [one for one in theirs.service if one.name == service.name]
        calls = {one.name: one for one in other_service.method}
        for call in service.method:
            assert call.input_type == calls[call.name].input_type
            assert call.output_type == calls[call.name].output_type
            assert call.server_streaming == calls[call.name].server_streaming


def _published(module: str) -> descriptor_pb2.FileDescriptorProto:
    """The published description, read off the source: one process cannot hold two descriptions of the same name."""
    from importlib.util import find_spec

    spec = find_spec(f"smg_grpc_proto.generated.{module}")
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        source = file.read()
    start = source.index("AddSerializedFile(") + len("AddSerializedFile(")
    serialized = eval(source[start : source.index("')", start) + 1])
    return descriptor_pb2.FileDescriptorProto.FromString(serialized)


def test_generated_code_is_up_to_date() -> None:
    """The descriptions in the package are what the checked-in code was generated from."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    import tempfile
    from importlib import resources
    from pathlib import Path

    from portico.protos import generate

    root = generate.HERE.parent.parent
    own = resources.files("grpc_tools") / "_proto"
    for name in ("inference", "vllm_engine", "smg_common"):
        with tempfile.NamedTemporaryFile() as file:
            proto = str(generate.HERE / f"{name}.proto")
            assert protoc.main(["protoc", f"-I{root}", f"-I{own}", f"-o{file.name}", proto]) == 0
            (fresh,) = descriptor_pb2.FileDescriptorSet.FromString(Path(file.name).read_bytes()).file
        made = descriptor_pb2.FileDescriptorProto()
        import_module(f"portico.protos.{name}_pb2").DESCRIPTOR.CopyToProto(made)
        fresh.ClearField("source_code_info")
        for one in fresh.message_type:
            for inner in one.field:
                inner.ClearField("json_name")
        for message in _all_messages(fresh):
            for inner in message.field:
                inner.ClearField("json_name")
        assert made == fresh, f"{name}.proto has changed: run python -m portico.protos.generate"


def _all_messages(holder: Any) -> list[Any]:
    found = []
    for message in getattr(holder, "message_type", None) or getattr(holder, "nested_type", ()):
        found += [message, *_all_messages(message)]
    return found


# -- the tokenizer ----------------------------------------------------------------------------------------------------


def test_a_tokenizer_survives_the_zip(tmp_path: Any) -> None:
    tokenizer = tiny_tokenizer()
    files = tokenizer_zip(tokenizer)
    assert files == tokenizer_zip(tokenizer)
    zipfile.ZipFile(io.BytesIO(files)).extractall(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.encode("Grüße 🚀<|end|>") == tokenizer.encode("Grüße 🚀<|end|>")
    assert again.special_tokens == tokenizer.special_tokens
    assert again.eos_token_ids == tokenizer.eos_token_ids
    assert (tmp_path / "config.json").read_text() == "{}"


# -- Inference --------------------------------------------------------------------------------------------------------


def test_a_conversation_means_the_same_in_both_spellings() -> None:
    request = pb.ChatRequest(
        model="tiny",
        messages=[
            pb.Message(role="user", content="hi"),
            pb.Message(
                role="assistant", reasoning="hm", tool_calls=[pb.ToolCall(id="c", name="f", arguments='{"a": 1}')]
            ),
            pb.Message(role="tool", tool_call_id="c", content="2"),
            pb.Message(role="user", parts=[pb.Part(text="and?"), pb.Part(image_url="data:image/png;base64,AA")]),
        ],
        tools=[pb.Tool(name="f", description="d", parameters='{"type": "object"}', strict=True)],
        tool_choice=pb.ToolChoice(name="f"),
        parallel_tool_calls=False,
        sampling=pb.Sampling(temperature=0.5, max_tokens=7, stop=["x"], n=2, logprobs=3, logit_bias={5: 1.0}),
        reasoning_effort="low",
        template_kwargs='{"k": [1]}',
    )
    checked = inference.chat_request(request)
    assert checked.messages == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            "reasoning": "hm",
        },
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            ],
        },
    ]
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert checked.tools == [{"type": "function", "function": function}]
    assert checked.tool_choice == {"type": "function", "function": {"name": "f"}}
    assert checked.chat_template_kwargs == {"k": [1]}
    assert (checked.temperature, checked.max_tokens, checked.stop, checked.n) == (0.5, 7, ["x"], 2)
    assert (checked.logprobs, checked.top_logprobs, checked.logit_bias) == (True, 3, {"5": 1.0})


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (pb.ChatRequest(), "messages"),
        (pb.ChatRequest(messages=[pb.Message(role="user")], tools=[pb.Tool(name="f", parameters="[")]), "tools[0]"),
        (pb.ChatRequest(messages=[pb.Message(role="user")], template_kwargs="[]"), "template_kwargs"),
        (pb.ChatRequest(messages=[pb.Message(role="user")], sampling=pb.Sampling(top_p=1.5)), "top_p"),
        (pb.ChatRequest(messages=[pb.Message(role="user")], reasoning_effort="a lot"), "reasoning_effort"),
    ],
)
def test_bad_conversations_are_named(request_: pb.ChatRequest, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        inference.chat_request(request_)
    assert str(caught.value.param).startswith(param)


@given(answers(logprobs=True))
def test_every_event_has_its_message(deltas: list[Delta]) -> None:
    """Messages read back are the events that went in, with their logprobs, and one finish at the end."""
    request = inference.chat_request(pb.ChatRequest(messages=[pb.Message(role="user", content="hi")]))
    model = tiny_model()
    prompt = model.prompter.render_chat(request.messages)
    encoder = inference.EventEncoder(chat.generation(request, prompt, model, "x"))
    messages = [message for delta in deltas for message in encoder.feed(delta)]
    wanted = [event for delta in deltas for event in (*delta.events, delta.finish) if event is not None]
    assert [event for message in messages for event in _read(message)] == wanted
    logprobs = [one for delta in deltas for one in delta.logprobs or ()]
    assert [one.token_id for message in messages for one in message.logprobs] == [one.token_id for one in logprobs]
    assert messages[-1].WhichOneof("event") == "finish"
    stop = deltas[-1].stop_reason
    assert messages[-1].finish.WhichOneof("stopped_by") == (
        None if stop is None else "stop" if isinstance(stop, str) else "stop_token_id"
    )


@given(answers(logprobs=True), st.data())
def test_joined_events_mean_the_same(deltas: list[Delta], data: st.DataObject) -> None:
    """Two choices, events of both in any order: for each the same text, calls and logprobs, in fewer messages."""
    request = inference.chat_request(pb.ChatRequest(messages=[pb.Message(role="user", content="hi")]))
    model = tiny_model()
    prompt = model.prompter.render_chat(request.messages)
    encoder = inference.EventEncoder(chat.generation(request, prompt, model, "x"))
    choices = [[message for delta in deltas for message in encoder.feed(delta)] for _ in range(2)]
    messages = []
    while any(choices):
        choice = data.draw(st.sampled_from([index for index, left in enumerate(choices) if left]))
        message = choices[choice].pop(0)
        message.choice = choice
        messages.append(message)
    wanted = _told(messages)
    joined = encoder.joined(messages)
    assert _told(joined) == wanted
    for choice in range(2):
        mine = [message for message in joined if message.choice == choice]
        kinds = [message.WhichOneof("event") for message in mine]
        assert not any(a == b and a in ("content", "reasoning") for a, b in pairwise(kinds))


def _told(messages: list[pb.Event]) -> dict[int, list[Any]]:
    """By choice: the events with neighbouring pieces of a text joined, then the tokens of the logprobs."""
    found: dict[int, list[Any]] = {}
    tokens: dict[int, list[int]] = {}
    for message in messages:
        mine = found.setdefault(message.choice, [])
        tokens.setdefault(message.choice, []).extend(one.token_id for one in message.logprobs)
        for event in _read(message):
            match (mine[-1] if mine else None), event:
                case (Content(before), Content(text)):
                    mine[-1] = Content(before + text)
                case (Reasoning(before), Reasoning(text)):
                    mine[-1] = Reasoning(before + text)
                case (CallArguments(index, before), CallArguments(other, text)) if index == other:
                    mine[-1] = CallArguments(index, before + text)
                case _:
                    mine.append(event)
    return {choice: [*mine, tokens[choice]] for choice, mine in found.items()}


def _read(message: pb.Event) -> list[Event]:
    match message.WhichOneof("event"):
        case "content":
            return [Content(message.content)]
        case "reasoning":
            return [Reasoning(message.reasoning)]
        case "call_start":
            return [CallStart(message.call_start.index, message.call_start.id, message.call_start.name)]
        case "call_arguments":
            return [CallArguments(message.call_arguments.index, message.call_arguments.json_fragment)]
        case "call_end":
            return [CallEnd(message.call_end.index)]
        case "finish":
            name = pb.Finish.Reason.Name(message.finish.reason).lower()
            return [Finish(name)]  # type: ignore[arg-type]
    return []


def test_a_completion_without_a_bound_fills_the_context() -> None:
    model = tiny_model()
    checked = inference.completion_request(pb.CompleteRequest(text="hi"), model)
    prompt = model.prompter.encode("hi")
    (generation,) = completions.generations(checked, [prompt], model, "x")
    assert generation.spec.sampling.max_tokens == model.context_length - 2
    ids = inference.completion_request(pb.CompleteRequest(tokens=pb.TokenIds(ids=[1, 2])), model)
    assert ids.prompt == [1, 2]


def test_formats_become_structured_outputs() -> None:
    messages = [pb.Message(role="user", content="hi")]
    schema = json.dumps({"type": "object"})
    for wanted, found in (
        (pb.Format(json_schema=schema), {"json": schema}),
        (pb.Format(choice=pb.Choices(choices=["a"])), {"choice": ["a"]}),
        (pb.Format(regex="a"), {"regex": "a"}),
        (pb.Format(json_object=True), {"json_object": True}),
    ):
        assert inference.chat_request(pb.ChatRequest(messages=messages, format=wanted)).structured_outputs == found


@pytest.mark.parametrize("where", ["template_kwargs", "tools"])
def test_values_of_json_texts_are_counted_together(where: str) -> None:
    most = '{"a":[' + ",".join(["{}"] * (MOST_VALUES // 2)) + "]}"
    twice = [pb.Tool(name=f"f{n}", parameters=most) for n in range(2 if where == "tools" else 1)]
    request = pb.ChatRequest(messages=[pb.Message(role="user", content="x")], tools=twice)
    if where == "template_kwargs":
        request.template_kwargs = most
    with pytest.raises(BadRequestError) as refused:
        inference.chat_request(request)
    assert refused.value.code == "too_many_values"
