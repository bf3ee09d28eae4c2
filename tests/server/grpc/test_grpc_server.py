"""The gRPC server over real channels: answers, status codes, keys, TLS, health, reflection, drain."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from portico.engines.replay import Script
from portico.errors import BadRequestError, OverloadedError
from portico.keys import Key, hash_of
from portico.keys.audit import Audit
from portico.protos import inference_pb2 as pb
from portico.protos import smg_common_pb2 as common
from portico.protos import vllm_engine_pb2 as engine
from portico.protos.inference_pb2_grpc import InferenceStub
from portico.protos.vllm_engine_pb2_grpc import VllmEngineStub
from portico.server.grpc import server as grpc_server
from portico.server.grpc.server import Tls
from support.generation import tiny_tokenizer
from support.grpc import calling
from support.wait import eventually

Code = grpc.StatusCode
TOKENIZER = tiny_tokenizer()


def request_for(text: str = "say hello", *, stream: bool = True, **sampling: Any) -> engine.GenerateRequest:
    return engine.GenerateRequest(
        request_id="r",
        tokenized=engine.TokenizedInput(original_text=text, input_ids=TOKENIZER.encode(text)),
        sampling_params=engine.SamplingParams(**sampling),
        stream=stream,
    )


def chat_for(text: str = "hi", **fields: Any) -> pb.ChatRequest:
    return pb.ChatRequest(messages=[pb.Message(role="user", content=text)], **fields)


async def collected(call: Any) -> list[Any]:
    return [message async for message in call]


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (rest(call) if hasattr(call, "read") else call)
    return caught.value


async def rest(call: Any) -> list[Any]:
    """What is left of a stream from which messages have been read."""
    found = []
    while (message := await call.read()) is not grpc.aio.EOF:
        found.append(message)
    return found


# -- VllmEngine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_generate_gives_the_engines_ids(stream: bool) -> None:
    answer = "Grüße aus Köln 🚀!"
    async with calling({"a": answer}) as up:
        responses = await collected(VllmEngineStub(up.channel).Generate(request_for(stream=stream, logprobs=1)))
    *chunks, last = responses
    ids = [token for one in chunks for token in one.chunk.token_ids] if stream else list(last.complete.output_ids)
    assert ids == TOKENIZER.encode(answer)
    assert last.complete.finish_reason == "stop"
    assert last.complete.prompt_tokens == len("say hello")
    logprobs = [one for c in chunks for one in c.chunk.output_logprobs.token_ids] if stream else None
    assert (logprobs or list(last.complete.output_logprobs.token_ids)) == ids


async def test_choices_stop_strings_text_and_the_end_token() -> None:
    scripts = {
        "a": "one END two",
        "ends": Script(TOKENIZER.encode("done"), stop_token=TOKENIZER.eos_token_id),
    }
    async with calling(scripts) as up:
        stub = VllmEngineStub(up.channel)
        responses = await collected(stub.Generate(request_for(n=2, stop=["END"])))
        completes = [one.complete for one in responses if one.WhichOneof("response") == "complete"]
        assert sorted(one.index for one in completes) == [0, 1]
        assert all(one.matched_stop_str == "END" for one in completes)
        for index in range(2):
            ids = [t for one in responses if one.chunk.index == index for t in one.chunk.token_ids]
            assert TOKENIZER.decode(ids) == "one END"
        (whole,) = await collected(stub.Generate(engine.GenerateRequest(text="[[ends]]")))
        assert list(whole.complete.output_ids) == [*TOKENIZER.encode("done"), TOKENIZER.eos_token_id]
        assert whole.complete.completion_tokens == 5


async def test_constraints_reach_the_engine() -> None:
    async with calling({"a": "yes"}) as up:
        request = request_for(choice=engine.ChoiceConstraint(choices=["yes", "no"]))
        await collected(VllmEngineStub(up.channel).Generate(request))
        (given,) = up.requests
        assert given.constraint is not None
        assert "yes" in given.constraint.lark


async def test_abort_ends_the_stream_with_abort() -> None:
    async with calling({"a": "x" * 50_000}, interval=0.01) as up:
        stub = VllmEngineStub(up.channel)
        call = stub.Generate(request_for())
        assert (await call.read()).WhichOneof("response") == "chunk"
        await stub.Abort(engine.AbortRequest(request_ids=["nobody", "r"]))
        *_, last = await rest(call)
        assert last.complete.finish_reason == "abort"
        assert up.line.in_flight == 0
        assert await call.code() == Code.OK


async def test_nobody_aborts_what_another_key_asked_for() -> None:
    async with calling({"a": "x" * 2000}, keys=["one", "two"], interval=0.01) as up:
        stub = VllmEngineStub(up.channel)
        mine, others = (("x-api-key", "one"),), (("x-api-key", "two"),)
        calls = [stub.Generate(request_for(), metadata=whose) for whose in (mine, others)]
        for call in calls:
            assert (await call.read()).WhichOneof("response") == "chunk"
        await stub.Abort(engine.AbortRequest(request_ids=["r"]), metadata=others)
        assert (await rest(calls[1]))[-1].complete.finish_reason == "abort"
        assert up.line.in_flight == 1
        assert (await calls[0].read()).WhichOneof("response") == "chunk"
        calls[0].cancel()


async def test_calls_take_places_too() -> None:
    async with calling({"a": "x" * 2000}, keys=["one", "two"], interval=0.01, max_per_key=1) as up:
        vllm, own = VllmEngineStub(up.channel), InferenceStub(up.channel)
        mine, others = (("x-api-key", "one"),), (("x-api-key", "two"),)
        call = vllm.Generate(request_for(), metadata=mine)
        await call.read()
        assert (await refused(own.Chat(chat_for(), metadata=mine))).code() == Code.RESOURCE_EXHAUSTED
        await vllm.GetServerInfo(engine.GetServerInfoRequest(), metadata=mine)
        await own.CountTokens(pb.CountTokensRequest(text="x"), metadata=others)
        call.cancel()


async def test_cancelling_a_call_aborts_at_the_engine() -> None:
    async with calling({"a": "x" * 50_000}, interval=0.01) as up:
        call = VllmEngineStub(up.channel).Generate(request_for(n=3))
        await call.read()
        assert up.line.in_flight == 1
        call.cancel()
        await eventually(lambda: not up.line.in_flight and not up.engine._playing)


async def test_facts_loads_tokenizer_and_embeddings() -> None:
    async with calling({"a": "x" * 50_000}, interval=0.05) as up:
        stub = VllmEngineStub(up.channel)
        info = await stub.GetModelInfo(engine.GetModelInfoRequest())
        assert (info.served_model_name, info.max_context_length, info.is_generation) == ("tiny", 4096, True)
        assert list(info.eos_token_ids) == sorted(TOKENIZER.eos_token_ids)
        call = stub.Generate(request_for())
        await call.read()
        (load,) = (await stub.GetLoads(engine.GetLoadsRequest())).loads
        assert (load.num_running_reqs, load.num_waiting_reqs) == (1, 0)
        server = await stub.GetServerInfo(engine.GetServerInfoRequest())
        assert (server.active_requests, server.server_type) == (1, "portico")
        call.cancel()
        assert (await stub.HealthCheck(engine.HealthCheckRequest())).healthy
        assert not (await stub.FlushCache(common.FlushCacheRequest())).success
        chunks = await collected(stub.GetTokenizer(common.GetTokenizerRequest()))
        files = b"".join(chunk.data for chunk in chunks)
        assert chunks[-1].sha256 == hashlib.sha256(files).hexdigest()
        assert "tokenizer.json" in zipfile.ZipFile(io.BytesIO(files)).namelist()
        vector = await stub.Embed(engine.EmbedRequest(tokenized=engine.TokenizedInput(input_ids=[1, 2, 3])))
        assert (len(vector.embedding), vector.embedding_dim, vector.prompt_tokens) == (16, 16, 3)


# -- Inference --------------------------------------------------------------------------------------------------------


async def test_what_a_template_drops_is_told() -> None:
    async with calling({"a": "Sure."}) as up:
        messages = [
            pb.Message(role="user", content="a"),
            pb.Message(role="assistant", content="b", reasoning="Hm, so."),
        ]
        call = InferenceStub(up.channel).Chat(
            pb.ChatRequest(messages=[*messages, pb.Message(role="user", content="c")])
        )
        metadata = await call.initial_metadata()
        assert ("x-portico-warning", "left out of the prompt: messages[1].reasoning") in list(metadata)
        await collected(call)


async def test_a_chat_is_a_stream_of_events() -> None:
    answer = '<think>hm</think>Sure.<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    async with calling({"a": answer}, tool_parser="hermes", reasoning_parser="qwen3") as up:
        tools = [pb.Tool(name="f", parameters='{"type": "object"}')]
        events = await collected(InferenceStub(up.channel).Chat(chat_for(tools=tools)))
    folded: dict[str, str] = {}
    for event in events:
        match event.WhichOneof("event"):
            case "reasoning":
                folded["reasoning"] = folded.get("reasoning", "") + event.reasoning
            case "content":
                folded["content"] = folded.get("content", "") + event.content
            case "call_start":
                folded["name"] = event.call_start.name
            case "call_arguments":
                folded["arguments"] = folded.get("arguments", "") + event.call_arguments.json_fragment
    assert folded == {"reasoning": "hm", "content": "Sure.", "name": "f", "arguments": '{"a": 1}'}
    finish = events[-1].finish
    assert finish.reason == pb.Finish.TOOL_CALLS
    assert finish.usage.completion_tokens == len(TOKENIZER.encode(answer))
    assert finish.usage.reasoning_tokens > 0
    assert [event.WhichOneof("event") for event in events].count("call_end") == 1


async def test_completions_counts_and_embeddings() -> None:
    async with calling({"a": "hello there"}) as up:
        stub = InferenceStub(up.channel)
        sampling = pb.Sampling(n=2, max_tokens=5, logprobs=1)
        events = await collected(stub.Complete(pb.CompleteRequest(text="x", sampling=sampling)))
        for choice in range(2):
            mine = [event for event in events if event.choice == choice]
            assert "".join(event.content for event in mine) == "hello"
            assert sum(len(event.logprobs) for event in mine) == 5
            assert mine[-1].finish.reason == pb.Finish.LENGTH
        counted = await stub.CountTokens(pb.CountTokensRequest(text="abc", return_ids=True))
        assert (counted.tokens, list(counted.ids)) == (3, TOKENIZER.encode("abc"))
        assert (await stub.CountTokens(pb.CountTokensRequest(chat=chat_for("abc")))).tokens > 3
        inputs = [pb.EmbedRequest.Input(text="ab"), pb.EmbedRequest.Input(tokens=pb.TokenIds(ids=[1]))]
        found = await stub.Embed(pb.EmbedRequest(inputs=inputs, dimensions=4))
        assert [(len(vector.values), vector.tokens) for vector in found.vectors] == [(4, 2), (4, 1)]


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_status_codes() -> None:
    async with calling({"a": "x", "fails": Script([1, 2], finish_reason="error", error="Out of luck.")}) as up:
        vllm, own = VllmEngineStub(up.channel), InferenceStub(up.channel)
        bad = await refused(vllm.Generate(request_for(temperature=-1)))
        assert bad.code() == Code.INVALID_ARGUMENT
        assert dict(bad.trailing_metadata() or ())["portico-param"] == "temperature"
        assert (await refused(own.Chat(chat_for(model="nobody")))).code() == Code.NOT_FOUND
        assert (await refused(own.Chat(pb.ChatRequest()))).code() == Code.INVALID_ARGUMENT
        long = await refused(vllm.Generate(request_for("x" * 5000)))
        assert long.code() == Code.INVALID_ARGUMENT
        failed = await refused(vllm.Generate(request_for("[[fails]]")))
        assert failed.code() == Code.INTERNAL
        assert failed.details() == "Out of luck."


async def test_unknown_calls_wrong_bytes_and_oversized_messages() -> None:
    async with calling({"a": "x"}, max_message=10_000) as up:
        for call in ("StartProfile", "StopProfile", "SubscribeKvEvents"):
            path = f"/vllm.grpc.engine.VllmEngine/{call}"
            for unknown in (up.channel.unary_unary(path), up.channel.unary_stream(path)):
                error = await refused(unknown(b""))
                assert error.code() == Code.UNIMPLEMENTED
                assert f"no call '{path}'" in (error.details() or "")
        nothing = up.channel.unary_unary("/no.such.Service/Call")
        assert (await refused(nothing(b""))).code() == Code.UNIMPLEMENTED
        for path in ("/vllm.grpc.engine.VllmEngine/Generate", "/portico.v1.Inference/Chat"):
            wrong = up.channel.unary_stream(path)
            assert (await refused(wrong(b"\xff\xff\xff"))).code() == Code.INVALID_ARGUMENT
        assert (await refused(VllmEngineStub(up.channel).Generate(request_for("x" * 20_000)))).code() == (
            Code.RESOURCE_EXHAUSTED
        )


async def test_calls_are_counted_by_model_and_refusals_audited(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    ann = Key(name="ann", hash=hash_of("sesame"), requests_per_minute=1)
    async with calling({"a": "x"}, people=[ann], audit=Audit(file)) as up:
        own, key = InferenceStub(up.channel), (("x-api-key", "sesame"),)
        assert await collected(own.Chat(chat_for(), metadata=key))
        await refused(own.Chat(chat_for(), metadata=key))
        await refused(own.Chat(chat_for(), metadata=(("x-api-key", "something secret"),)))
        page = up.line.meter.render().decode()
    assert re.search(r'portico_requests_total\{api="grpc",cause="",model="tiny",outcome="ok",', page)
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["who"], one["cause"], one["route"]) for one in told] == [
        ("ann", "rate_limit_exceeded", "/portico.v1.Inference/Chat"),
        ("", "invalid_api_key", "/portico.v1.Inference/Chat"),
    ]
    assert {one["address"] for one in told} <= {"127.0.0.1", "::1"}
    assert "secret" not in file.read_text()


async def test_keys() -> None:
    async with calling({"a": "x"}, keys=["sesame"]) as up:
        vllm, own = VllmEngineStub(up.channel), InferenceStub(up.channel)
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "sesame"),)):
            for call in (
                vllm.Generate(request_for(), metadata=metadata),
                vllm.GetModelInfo(engine.GetModelInfoRequest(), metadata=metadata),
                own.Chat(chat_for(), metadata=metadata),
            ):
                assert (await refused(call)).code() == Code.UNAUTHENTICATED
        for name, value in (("authorization", "Bearer sesame"), ("x-api-key", "sesame")):
            assert await collected(own.Chat(chat_for(), metadata=((name, value),)))
        health = health_pb2_grpc.HealthStub(up.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1
        reflection = reflection_pb2_grpc.ServerReflectionStub(up.channel)
        listing = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        assert (await refused(reflection.ServerReflectionInfo(listing))).code() == Code.UNAUTHENTICATED


async def test_reflection_names_the_services() -> None:
    async with calling({"a": "x"}) as up:
        stub = reflection_pb2_grpc.ServerReflectionStub(up.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = await collected(stub.ServerReflectionInfo(iter([request])))
        names = {service.name for service in answer.list_services_response.service}
        assert {"vllm.grpc.engine.VllmEngine", "portico.v1.Inference", "grpc.health.v1.Health"} <= names


async def test_health_follows_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "HEALTH_SECONDS", 0.05)
    async with calling({"a": "x"}) as up:
        stub = health_pb2_grpc.HealthStub(up.channel)
        for name in ("", "vllm.grpc.engine.VllmEngine", "portico.v1.Inference"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == 1
        assert (await refused(stub.Check(health_pb2.HealthCheckRequest(service="x")))).code() == Code.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == 1
        up.engine.healthy = False
        assert (await asyncio.wait_for(watching.read(), 120)).status == 2
        assert not (await VllmEngineStub(up.channel).HealthCheck(engine.HealthCheckRequest())).healthy
        up.engine.healthy = True
        assert (await asyncio.wait_for(watching.read(), 120)).status == 1


async def test_stopping_lets_calls_finish_and_takes_no_new_ones() -> None:
    async with calling({"a": "x" * 60}, interval=0.02) as up:
        stub = VllmEngineStub(up.channel)
        call = stub.Generate(request_for())
        await call.read()
        up.line.drain()
        stopping = asyncio.create_task(up.server.stop(600))
        assert (await refused(stub.Generate(request_for()))).code() == Code.UNAVAILABLE
        *_, last = await rest(call)
        assert last.complete.finish_reason == "stop"
        await asyncio.wait_for(stopping, 120)


async def test_a_cut_off_call_is_told_why() -> None:
    async with calling({"a": "x" * 50_000}, interval=0.02) as up:
        call = VllmEngineStub(up.channel).Generate(request_for())
        await call.read()
        up.line.drain()
        stopping = asyncio.create_task(up.server.stop(600))
        up.line.fail_all(OverloadedError("The server is shutting down."))
        error = await refused(call)
        assert (error.code(), error.details()) == (Code.UNAVAILABLE, "The server is shutting down.")
        await asyncio.wait_for(stopping, 120)


async def test_a_taken_port_is_an_error() -> None:
    async with calling({"a": "x"}) as up:
        with pytest.raises(BadRequestError, match="taken"):
            async with calling({"a": "x"}, port=up.port):
                pass


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cert.pem`` and ``key.pem`` for localhost, made with openssl."""
    place = tmp_path_factory.mktemp("tls")
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *(
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(place / "key.pem"),
            "-out",
            str(place / "cert.pem"),
        ),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not installed")
    return place


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls(certificates: Path, mutual: bool) -> None:
    cert, key = certificates / "cert.pem", certificates / "key.pem"
    tls = Tls(cert, key, cert if mutual else None)
    trusted = grpc.ssl_channel_credentials(cert.read_bytes())
    own = grpc.ssl_channel_credentials(cert.read_bytes(), key.read_bytes(), cert.read_bytes())
    async with calling({"a": "hello"}, tls=tls, credentials=own if mutual else trusted) as up:
        info = await VllmEngineStub(up.channel).GetModelInfo(engine.GetModelInfoRequest())
        assert info.served_model_name == "tiny"
        others = [grpc.aio.insecure_channel(f"localhost:{up.port}")]
        if mutual:
            others.append(grpc.aio.secure_channel(f"localhost:{up.port}", trusted))
        for other in others:
            async with other:
                call = VllmEngineStub(other).GetModelInfo(engine.GetModelInfoRequest(), timeout=120)
                assert (await refused(call)).code() == Code.UNAVAILABLE


def test_missing_tls_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="cannot be read"):
        Tls(tmp_path / "no.pem", tmp_path / "none.pem")
