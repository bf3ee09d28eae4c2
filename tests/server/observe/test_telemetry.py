"""Spans, as a collector gets them: a real OTLP receiver, a real server, and what the spans say."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from portico.server.observe.telemetry import Telemetry
from support.replay import replaying
from support.server import running_server
from support.trace import ANSWERS, CHAT, WEATHER, asking
from support.wait import until

SERVER, CLIENT, INTERNAL, ERROR = 2, 3, 1, 2
STAGES = ["read", "validate", "template", "tokenize", "constrain", "check", "admit"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
FAST = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@dataclass
class Collector:
    """An OTLP receiver: ``spans`` by trace id, ``resources`` as attributes, ``raw`` what came."""

    url: str
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw.append(body)
        for resource in request.resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def trace(self, root: str = "POST", count: int = 1) -> list[Any]:
        """The spans of the last trace whose server span has come, waiting for it."""

        def servers() -> list[Any]:
            return [span for span in self.spans if span.kind == SERVER and span.name.startswith(root)]

        until(lambda: len(servers()) >= count)
        return [span for span in self.spans if span.trace_id == servers()[-1].trace_id]


def attributes(one: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {pair.key: plain(pair.value) for pair in one.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path.endswith("/v1/traces"):
                collector.take(body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as up:
        yield up


@pytest.fixture(scope="module")
def url(collector: Collector, smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server process over the replay engine that sends its spans to the collector."""
    script = tmp_path_factory.mktemp("replay") / "answers.jsonl"
    script.write_text(json.dumps({"text": "The clandestine parrot nods."}) + "\n")
    arguments = [
        smollm2_path,
        "--engine",
        f"replay:{script}",
        "--otlp-endpoint",
        collector.url,
        "--served-model-name",
        "m",
    ]
    with running_server(*arguments, env=FAST) as up:
        yield up.url


def ask(url: str, path: str = CHAT, headers: Any = None, **more: Any) -> httpx.Response:
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "A confidential riddle"}], **more}
    return httpx.post(url + path, json={k: v for k, v in body.items() if v is not None}, headers=headers, timeout=120)


def named(spans: list[Any]) -> dict[str, Any]:
    return {span.name: span for span in spans}


class TestOneRequest:
    def test_the_tree(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "x-request-id": "mine"}
        response = ask(url, headers=headers, temperature=0.25, seed=7, stream=True)
        assert response.status_code == 200
        spans = named(collector.trace())
        server, client = spans[f"POST {CHAT}"], spans["chat m"]
        assert set(spans) == {f"POST {CHAT}", "chat m", *STAGES, "decode", "parse", "encode", "write"}
        assert (server.kind, client.kind, spans["read"].kind) == (SERVER, CLIENT, INTERNAL)
        assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
        for name, span in spans.items():
            assert span.trace_id == server.trace_id
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            if span is not server:
                assert span.parent_span_id == server.span_id
                assert server.start_time_unix_nano <= span.start_time_unix_nano, name
                assert span.end_time_unix_nano <= server.end_time_unix_nano, name
        order = [spans[name].start_time_unix_nano for name in STAGES]
        assert order == sorted(order)
        assert abs(server.end_time_unix_nano / 1e9 - time.time()) < 30  # wall-clock time

    def test_what_they_say(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        response = ask(url, headers={"x-request-id": "mine"}, temperature=0.25, seed=7, n=2, top_p=0.5)
        usage = response.json()["usage"]
        spans = named(collector.trace())
        server, client = attributes(spans[f"POST {CHAT}"]), attributes(spans["chat m"])
        assert server["http.request.method"] == "POST"
        assert server["http.route"] == server["url.path"] == CHAT
        assert server["http.response.status_code"] == 200
        assert server["portico.outcome"] == "ok"
        assert server["portico.request_id"] == "mine"
        assert 0 < server["portico.time_to_first_token"] < 30
        assert client == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "portico",
            "gen_ai.request.model": "m",
            "gen_ai.response.model": "m",
            "gen_ai.request.choice.count": 2,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.temperature": 0.25,
            "gen_ai.request.top_p": 0.5,
            "gen_ai.request.seed": 7,
            "gen_ai.request.frequency_penalty": 0.0,
            "gen_ai.request.presence_penalty": 0.0,
            "gen_ai.request.stream": False,
            "gen_ai.response.id": response.json()["id"],
            "gen_ai.response.finish_reasons": ["stop", "stop"],
            "gen_ai.response.time_to_first_chunk": client["gen_ai.response.time_to_first_chunk"],
            "gen_ai.usage.input_tokens": usage["prompt_tokens"],
            "gen_ai.usage.output_tokens": usage["completion_tokens"],
            "gen_ai.usage.cache_read.input_tokens": 0,
        }
        for name in ("decode", "parse", "encode", "write"):
            span = spans[name]
            seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
            assert 0 < attributes(span)["portico.busy"] <= seconds + 1e-6, name
        assert collector.resources[-1]["service.name"] == "portico"

    def test_names_are_those_of_the_conventions(self) -> None:
        from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

        known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
        names = ("conventions", "spans")
        source = "".join(
            Path(sys.modules[f"portico.server.observe.{name}"].__file__ or "").read_text() for name in names
        )
        used = {word for word in source.replace('"', " ").split() if word.startswith("gen_ai.")}
        used = {word for word in used if word.count(".") >= 2}
        assert used - known == {"gen_ai.embeddings.dimension.count"} - known
        assert len(used) > 12

    @pytest.mark.parametrize(
        ("path", "body", "operation", "prefix"),
        [
            ("/v1/messages", {"stream": True}, "chat", "msg_"),
            ("/v1/completions", {"messages": None, "prompt": ["one", "two"]}, "text_completion", "cmpl-"),
        ],
    )
    def test_other_protocols(
        self, url: str, collector: Collector, path: str, body: Any, operation: str, prefix: str
    ) -> None:
        collector.spans.clear()
        response = ask(url, path, **body)
        assert response.status_code == 200, response.text
        client = attributes(named(collector.trace(f"POST {path}"))[f"{operation} m"])
        assert client["gen_ai.operation.name"] == operation
        id = client["gen_ai.response.id"]
        assert id.startswith(prefix)
        assert f'"id":"{id}"' in response.text

    def test_no_word_of_anybody(self, url: str, collector: Collector) -> None:
        collector.raw.clear()
        collector.spans.clear()
        ask(url, stop=["parrot"])
        ask(url, temperature="hot confidential riddle")
        collector.trace(count=2)
        sent = b"".join(collector.raw)
        for word in (b"confidential", b"riddle", b"clandestine", b"parrot"):
            assert word not in sent

    def test_a_refusal(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        assert ask(url, temperature="hot").status_code == 400
        spans = named(collector.trace())
        assert set(spans) == {f"POST {CHAT}", "read", "write"}
        server = spans[f"POST {CHAT}"]
        said = attributes(server)
        assert (said["error.type"], said["portico.layer"]) == ("invalid_type", "protocols")
        assert (said["http.response.status_code"], said["portico.outcome"]) == (400, "refused")
        assert server.status.code == 0  # the fault is the client's

    def test_a_path_that_is_none(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        httpx.post(url + "/v1/nothing/here", json={})
        (server,) = [span for span in collector.trace() if span.kind == SERVER]
        assert server.name == "POST"

    def test_looking_at_the_server_is_no_work(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        for path in ("/health", "/metrics", "/v1/models"):
            httpx.get(url + path)
        ask(url)
        collector.trace()
        assert sum(span.kind == SERVER for span in collector.spans) == 1

    def test_a_caller_that_does_not_sample(self, url: str, collector: Collector) -> None:
        collector.spans.clear()
        ask(url, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        ask(url)
        collector.trace()
        time.sleep(0.3)
        assert TRACE not in {span.trace_id.hex() for span in collector.spans}


class TestInThisProcess:
    @contextmanager
    def served(self, **options: Any) -> Iterator[tuple[Any, Collector]]:
        with collecting() as collector, pytest.MonkeyPatch.context() as patch:
            for name, value in FAST.items():
                patch.setenv(name, value)
            telemetry = Telemetry(collector.url + "/v1/traces")
            with replaying(ANSWERS, observers=[telemetry], **options) as up:
                yield up, collector
            asyncio.run(telemetry.close())

    def test_the_engine_is_told(self) -> None:
        with self.served(tool_parser="hermes") as (up, collector):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
            httpx.post(up.url + CHAT, json=asking("call", tools=[WEATHER], n=2), headers=headers)
            told = [request.trace_headers for request in up.requests]
            spans = named(collector.trace())
        span = spans["chat tiny"].span_id.hex()
        assert told == [{"traceparent": f"00-{TRACE}-{span}-01", "tracestate": "vendor=1"}] * 2
        assert attributes(spans["chat tiny"])["gen_ai.response.finish_reasons"] == ["tool_calls", "tool_calls"]

    @pytest.mark.parametrize("stream", [True, False])
    def test_an_engine_that_fails(self, stream: bool) -> None:
        with self.served() as (up, collector):
            httpx.post(up.url + CHAT, json=asking("fails", stream=stream))
            spans = named(collector.trace())
        for name in (f"POST {CHAT}", "chat tiny"):
            assert spans[name].status.code == ERROR
            assert spans[name].status.message == "engine_error"
            assert attributes(spans[name])["error.type"] == "engine_error"
        said = attributes(spans[f"POST {CHAT}"])
        assert (said["portico.outcome"], said["portico.layer"]) == ("failed", "engines")
        assert said["http.response.status_code"] == (200 if stream else 500)

    def test_a_client_that_goes(self) -> None:
        with self.served(interval=0.05) as (up, collector):
            with httpx.stream("POST", up.url + CHAT, json=asking("plain", stream=True)) as response:
                next(response.iter_bytes())
            server = named(collector.trace())[f"POST {CHAT}"]
        assert attributes(server)["portico.outcome"] == "gone"
        assert attributes(server)["error.type"] == "client_disconnected"

    def test_embeddings(self) -> None:
        with self.served(capabilities=frozenset({"embed"}), embedding_size=16) as (up, collector):
            body = {"model": "tiny", "input": ["one", "two"]}
            assert httpx.post(up.url + "/v1/embeddings", json=body).status_code == 200
            spans = named(collector.trace())
        client = spans["embeddings tiny"]
        said = attributes(client)
        assert said["gen_ai.operation.name"] == "embeddings"
        assert said["gen_ai.usage.input_tokens"] == 6
        assert said["gen_ai.embeddings.dimension.count"] == 16
        assert spans["tokenize"].end_time_unix_nano <= client.start_time_unix_nano <= client.end_time_unix_nano

    def test_beside_the_inspector(self) -> None:
        """Two look on; neither is in the other's way."""
        with self.served(inspect=True) as (up, collector):
            response = httpx.post(up.url + CHAT, json=asking("plain", stream=True))
            id = response.headers["x-portico-trace-id"]
            recorded = httpx.get(f"{up.url}/inspect/traces/{id}").json()
            spans = named(collector.trace())
        assert recorded["trace"]["state"] == "ok"
        assert "".join(one["data"]["bytes"] for one in recorded["artifacts"] if one["kind"] == "chunk") == response.text
        assert {"decode", "parse", "encode", "write"} <= set(spans)


@pytest.mark.slow
class TestSettings:
    def test_the_standard_variables(self, smollm2_path: Path, tmp_path: Path) -> None:
        script = tmp_path / "answers.jsonl"
        script.write_text(json.dumps({"text": "Hello."}) + "\n")
        with collecting() as collector:
            env = {**FAST, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "front"}
            with running_server(smollm2_path, "--engine", f"replay:{script}", env=env) as up:
                ask(up.url, model=None)
                assert up.stop() == 0
            assert collector.trace()
            assert collector.resources[-1]["service.name"] == "front"

    def test_a_collector_that_is_not_there(self, smollm2_path: Path, tmp_path: Path) -> None:
        """Requests are served as ever, and the last spans go when the server ends, or are given up."""
        script = tmp_path / "answers.jsonl"
        script.write_text(json.dumps({"text": "Hello."}) + "\n")
        arguments = [smollm2_path, "--engine", f"replay:{script}", "--otlp-endpoint", "http://127.0.0.1:9"]
        with running_server(*arguments) as up:
            assert ask(up.url, model=None).status_code == 200
            assert up.stop() == 0

    def test_without_the_packages(self) -> None:
        code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from portico.config import load_settings
from portico.server.process.beside import sending_spans
assert sending_spans(load_settings({})) is None
try:
    sending_spans(load_settings({"otlp_endpoint": "http://127.0.0.1:4318"}))
except Exception as error:
    print(error)
"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert re.search(r"pip install \S+\[otel\]", result.stdout)

    def test_off_nothing_is_imported(self) -> None:
        code = (
            "import sys; from portico.config import load_settings;"
            "from portico.server.process.beside import sending_spans;"
            "assert sending_spans(load_settings({})) is None; print([m for m in sys.modules if 'opentelemetry' in m])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert result.stdout.strip() == "[]"


async def test_an_engine_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace's headers are metadata of the call."""
    grpc = pytest.importorskip("grpc")
    from portico.engines.grpc import GrpcEngine
    from portico.events import EngineRequest, SamplingParams
    from support.grpc import calling

    told: list[dict[str, Any]] = []

    class Listening(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            if details.method.endswith("/Generate"):
                told.append(dict(details.invocation_metadata))
            return await continuation(details)

    plain = grpc.aio.server
    monkeypatch.setattr(
        grpc.aio, "server", lambda interceptors, **rest: plain(interceptors=[Listening(), *interceptors], **rest)
    )
    async with calling(ANSWERS) as up:
        engine = GrpcEngine(f"grpc://{up.target}")
        await engine.start()
        try:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
            await engine.submit(EngineRequest("r", [1, 2], SamplingParams(max_tokens=2), trace_headers=headers))
        finally:
            await engine.close()
    assert headers.items() <= told[0].items()
