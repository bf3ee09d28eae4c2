"""The gRPC engine: its half of the protocol by law against the other half, then over real connections that break."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.engines.grpc import GrpcEngine
from portico.engines.grpc import calls as calls_module
from portico.engines.grpc import engine as engine_module
from portico.engines.grpc import host as host_module
from portico.engines.grpc.http2 import channel as channel_module
from portico.engines.grpc.messages import Reader, generate_request
from portico.engines.replay import Script
from portico.errors import BadRequestError, EngineDeadError, EngineError, NotSupportedError
from portico.events import Constraint, EngineOutput, EngineRequest, SamplingParams, ThoughtBudget, TokenLogprob
from portico.prompting import load_tokenizer
from portico.protocols.grpc import vllm_engine
from support.generation import tiny_model, tiny_tokenizer
from support.grpc import calling, hosting
from support.wait import eventually

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.eos_token_id
assert END is not None


# -- the protocol's two halves ----------------------------------------------------------------------------------------

SAMPLING = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 4000),
    temperature=st.floats(0, 2, width=32),
    top_p=st.floats(2**-10, 1, width=32),
    top_k=st.integers(0, 1000),
    min_p=st.floats(0, 1, width=32),
    seed=st.none() | st.integers(0, 2**31 - 1),
    repetition_penalty=st.floats(2**-10, 2, width=32),
    frequency_penalty=st.floats(-2, 2, width=32),
    presence_penalty=st.floats(-2, 2, width=32),
    logit_bias=st.dictionaries(st.integers(0, 255), st.floats(-100, 100, width=32), max_size=3),
    stop_token_ids=st.frozensets(st.integers(0, 255), max_size=3),
    ignore_eos=st.booleans(),
    logprobs=st.none() | st.integers(0, 5),
    prompt_logprobs=st.none() | st.integers(0, 5),
)


@given(SAMPLING, st.lists(st.integers(0, 255), min_size=1, max_size=5))
def test_a_request_arrives_as_it_was_sent(sampling: SamplingParams, ids: list[int]) -> None:
    message = generate_request(EngineRequest("r", ids, sampling), takes_lark=True)
    model = tiny_model(capabilities=frozenset({"generate", "logprobs", "prompt_logprobs"}))
    (arrived,) = vllm_engine.generation(message, ids, model, "r").engine_requests()
    assert arrived.sampling == sampling
    assert list(arrived.token_ids) == ids


def test_constraints_take_the_form_that_the_server_wants() -> None:
    constraint = Constraint('start: "a"', {"type": "structural_tag", "format": {"type": "regex", "pattern": "a"}})
    request = EngineRequest("r", [1], SamplingParams(max_tokens=1), constraint)
    model = tiny_model(capabilities=frozenset({"generate", "constraints"}))
    for takes_lark, field in ((True, "grammar"), (False, "structural_tag")):
        message = generate_request(request, takes_lark=takes_lark)
        assert message.sampling_params.WhichOneof("constraint") == field
        assert vllm_engine.generation(message, [1], model, "r").spec.constraint is not None
    with pytest.raises(NotSupportedError):
        generate_request(
            EngineRequest("r", [1], SamplingParams(max_tokens=1), Constraint("start: /a/")), takes_lark=False
        )


@pytest.mark.parametrize(
    ("fields", "rules"),
    [
        ({"lora": "x"}, {}),
        ({"cache_salt": "x"}, {}),
        ({}, {"bad_words": ((1,),)}),
        ({}, {"allowed_token_ids": (1,)}),
        ({}, {"thought": ThoughtBudget(5, (1,), ("<think>",), ("</think>",))}),
    ],
)
def test_what_the_protocol_cannot_say_is_refused(fields: dict[str, Any], rules: dict[str, Any]) -> None:
    request = EngineRequest("r", [1], SamplingParams(max_tokens=1, **rules), **fields)
    with pytest.raises(NotSupportedError) as caught:
        generate_request(request, takes_lark=True)
    asked = next(iter(fields | rules))
    assert caught.value.param == {"thought": "thinking_token_budget"}.get(asked, asked)


@given(
    st.lists(st.lists(st.integers(0, 258), max_size=4), min_size=1, max_size=5),
    st.sampled_from(["stop", "length"]),
    st.none() | st.sampled_from([END, 7]),
    st.none() | st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
def test_an_answer_arrives_as_it_was_given(
    steps: list[list[int]], reason: Any, stop_token: int | None, logprobs: int | None, stream: bool, lagging: bool
) -> None:
    """What an engine gave its server is what the server's client gets: tokens, logprobs, the token that ended it."""
    sampling = SamplingParams(max_tokens=4000, logprobs=logprobs, stop_token_ids=frozenset({7}))
    request = EngineRequest("r", [1, 2], sampling)
    message = generate_request(request, takes_lark=True)
    generation = vllm_engine.generation(message, [1, 2], tiny_model(), "r")
    encoder = vllm_engine.GenerateEncoder(generation, stream=stream)
    reader = Reader(request, [END])
    if reason != "stop":
        stop_token = None
    elif stop_token is None and any(steps) and [t for s in steps for t in s][-1] in (END, 7):
        stop_token = END  # an engine that stops on an end says so
    sent: list[EngineOutput] = []
    got: list[EngineOutput] = []
    messages: list[Any] = []
    for place, ids in enumerate(steps):
        entries = None if logprobs is None else [TokenLogprob(t, -0.5, ((t, -0.5), (9, -1.0))[:logprobs]) for t in ids]
        output = EngineOutput("r-0", ids, logprobs=entries, cached_tokens=1 if place == 0 else None)
        if place == len(steps) - 1:
            output.finish_reason, output.stop_token = reason, stop_token
        sent.append(output)
        delta = generation.choices[0].feed(output)
        messages += encoder.feed(delta)
    for message in encoder.joined(messages) if lagging else messages:
        if (found := reader.feed(message)) is not None:
            got.append(found)
    assert [t for one in got for t in one.token_ids] == [t for one in sent for t in one.token_ids]
    assert [e for one in got for e in one.logprobs or ()] == [e for one in sent for e in one.logprobs or ()]
    assert [one.finish_reason for one in got if one.finish_reason] == [reason]
    assert got[-1].stop_token == stop_token
    assert got[0].cached_tokens == 1


# -- over connections -------------------------------------------------------------------------------------------------


class Folder:
    """Gathers an engine's steps by request."""

    def __init__(self, engine: GrpcEngine) -> None:
        self.outputs: dict[str, list[EngineOutput]] = {}
        self.most = 0
        self._engine = engine
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for step in self._engine.steps():
            self.most = max(self.most, len(step))
            async with self._changed:
                for output in step:
                    self.outputs.setdefault(output.request_id, []).append(output)
                self._changed.notify_all()

    async def finished(self, request_id: str, timeout: float = 30) -> EngineOutput:
        """The last output of a request."""

        def done() -> bool:
            return bool(self.outputs.get(request_id)) and self.outputs[request_id][-1].finish_reason is not None

        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(done), timeout)
        return self.outputs[request_id][-1]

    async def begun(self, request_id: str) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: bool(self.outputs.get(request_id))), 120)

    def text(self, request_id: str) -> str:
        return TOKENIZER.decode([t for one in self.outputs[request_id] for t in one.token_ids])


# Each law holds for engines behind vLLM's protocol and for those whose steps cross as they are.
KINDS: dict[str, Any] = {"grpc": calling, "portico": hosting}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts and connections are looked at ten times as often."""
    monkeypatch.setattr(host_module, "CHECK_SECONDS", host_module.CHECK_SECONDS / 10)
    monkeypatch.setattr(channel_module, "LOOK_SECONDS", channel_module.LOOK_SECONDS / 10)


@asynccontextmanager
async def driving(kind: str, *targets: str, **options: Any) -> AsyncIterator[tuple[GrpcEngine, Folder]]:
    engine = GrpcEngine(f"{kind}://" + ",".join(targets), **options)
    await engine.start()
    folder = Folder(engine)
    try:
        yield engine, folder
    finally:
        await engine.close()
        await asyncio.wait_for(folder._task, 120)


def asking(request_id: str, text: str = "hi", **rules: Any) -> EngineRequest:
    return EngineRequest(request_id, TOKENIZER.encode(text), SamplingParams(**{"max_tokens": 4000, **rules}))


async def test_answers_and_facts(kind: str) -> None:
    async with (
        KINDS[kind]({"a": Script(TOKENIZER.encode("Grüße 🚀"), stop_token=END)}) as up,
        driving(kind, up.target) as (engine, folder),
    ):
        info = engine.info
        assert (info.model, info.context_length, info.vocab_size) == ("tiny", 4096, TOKENIZER.vocab_size)
        assert {"generate", "constraints"} <= info.capabilities
        await asyncio.gather(*(engine.submit(asking(f"r{n}", logprobs=1)) for n in range(20)))
        for n in range(20):
            last = await folder.finished(f"r{n}")
            assert (last.finish_reason, last.stop_token) == ("stop", END)
            assert folder.text(f"r{n}") == "Grüße 🚀"
        assert folder.most > 1, "outputs of several requests come as one step"
        assert not engine._asked
        assert all(host.in_flight == 0 for host in engine._hosts)


async def test_the_tokenizer_comes_with_it(kind: str, tmp_path: Path) -> None:
    async with KINDS[kind]({"a": "x"}) as up, driving(kind, up.target) as (engine, _):
        await engine.fetch_tokenizer(tmp_path)
        assert load_tokenizer(tmp_path).encode("Grüße") == TOKENIZER.encode("Grüße")


async def test_refusals_come_out_of_submit() -> None:
    async with calling({"a": "x"}) as up, driving("grpc", up.target) as (engine, folder):
        with pytest.raises(BadRequestError) as caught:
            await engine.submit(asking("r", temperature=-1.0))
        assert caught.value.param == "temperature"
        await engine.submit(asking("r"))
        assert (await folder.finished("r")).finish_reason == "stop"
    for wrong in ("grpc://", "http://x:1"):
        with pytest.raises(BadRequestError):
            GrpcEngine(wrong)


async def test_a_refusal_that_takes_its_time_comes_out_of_submit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling({"a": "x"}) as up, driving("grpc", up.target) as (engine, folder):

        async def refuse(request: EngineRequest) -> None:
            await asyncio.sleep(4 * calls_module.ACCEPT_SECONDS)
            raise BadRequestError("After some thought: no.", param="lora")

        monkeypatch.setattr(up.engine, "submit", refuse)
        with pytest.raises(BadRequestError, match="After some thought") as caught:
            await engine.submit(asking("r"))
        assert caught.value.param == "lora"
        assert not folder.outputs
        assert all(host.in_flight == 0 for host in engine._hosts)


@pytest.mark.parametrize("kind", ["constraints", "structural_tags"])
async def test_constraints_go_as_the_engine_behind_takes_them(kind: str) -> None:
    tag = {"type": "structural_tag", "format": {"type": "const_string", "value": "yes"}}
    capabilities = frozenset({"generate", kind})
    async with calling({"a": "yes"}, capabilities=capabilities) as up, driving("grpc", up.target) as (engine, folder):
        assert {"constraints", "structural_tags"} & engine.info.capabilities == {kind}
        request = EngineRequest("r", [1], SamplingParams(max_tokens=5), Constraint('start: "yes"', tag))
        await engine.submit(request)
        await folder.finished("r")
        (arrived,) = up.requests
        assert arrived.constraint is not None
        assert "yes" in arrived.constraint.lark
        if kind == "structural_tags":
            assert arrived.constraint.structural_tag == tag
        else:
            assert arrived.constraint.lark.endswith('start: "yes"\n')


async def test_keys(kind: str) -> None:
    async with KINDS[kind]({"a": "x"}, keys=["sesame"]) as up:
        async with driving(kind, up.target, key="sesame") as (engine, folder):
            await engine.submit(asking("r"))
            assert (await folder.finished("r")).finish_reason == "stop"
        engine = GrpcEngine(f"{kind}://{up.target}", key="wrong", start_seconds=1)
        with pytest.raises(EngineError, match="UNAUTHENTICATED"):
            await engine.start()
        await engine.close()


async def test_abort_reaches_the_other_side(kind: str) -> None:
    async with KINDS[kind]({"a": "x" * 50_000}, interval=0.01) as up, driving(kind, up.target) as (engine, folder):
        await engine.submit(asking("r"))
        await folder.begun("r")
        engine.abort("r")
        engine.abort("nobody")
        await eventually(lambda: not up.engine._playing)
        count = len(folder.outputs["r"])
        await asyncio.sleep(0.1)
        assert len(folder.outputs["r"]) == count


async def test_an_engines_failure_is_told_in_its_words(kind: str) -> None:
    script = Script([1, 2, 3, 4], finish_reason="error", error="Out of luck.")
    async with KINDS[kind]({"a": script}, interval=0.2) as up, driving(kind, up.target) as (engine, folder):
        await engine.submit(asking("r"))
        last = await folder.finished("r")
        assert (last.finish_reason, last.error) == ("error", "Out of luck.")


async def test_work_is_spread_and_a_dead_host_passed_over(kind: str) -> None:
    scripts = {"a": "x" * 50_000}
    async with (
        KINDS[kind](scripts, interval=0.02) as one,
        KINDS[kind](scripts, interval=0.02) as other,
        driving(kind, one.target, other.target) as (engine, folder),
    ):
        await eventually(lambda: all(host.healthy for host in engine._hosts))
        for n in range(6):
            await engine.submit(asking(f"r{n}"))
        assert (len(one.engine._playing), len(other.engine._playing)) == (3, 3)
        for n in range(6):
            engine.abort(f"r{n}")
        await one.server._server.stop(0)
        for n in range(4):
            await engine.submit(asking(f"s{n}", max_tokens=5))
            assert (await folder.finished(f"s{n}")).finish_reason == "length"
        assert engine.healthy


async def test_death_ends_requests_and_return_is_noticed(
    kind: str, watchful: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "RETURN_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with KINDS[kind]({"a": "x" * 50_000}, interval=0.01, port=port) as up:
        engine = GrpcEngine(f"{kind}://127.0.0.1:{port}")
        await engine.start()
        folder = Folder(engine)
        await engine.submit(asking("r"))
        await folder.begun("r")
        await up.server._server.stop(0)
        last = await folder.finished("r")
        assert last.finish_reason == "lost"
        assert last.error
        await eventually(lambda: not engine.healthy)
        with pytest.raises(EngineDeadError):
            await engine.submit(asking("s"))
    async with KINDS[kind]({"a": "back"}, port=port):
        await eventually(lambda: engine.healthy)
        await engine.submit(asking("t"))
        assert (await folder.finished("t")).finish_reason == "stop"
        assert folder.text("t") == "back"
    await engine.close()
    await folder._task


async def test_a_host_that_starts_late_is_waited_for(kind: str, watchful: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    engine = GrpcEngine(f"{kind}://127.0.0.1:{port}", start_seconds=30)
    starting = asyncio.create_task(engine.start())
    await eventually(lambda: "does not answer" in engine._hosts[0].trouble)
    await asyncio.sleep(0.1)
    assert not starting.done()
    async with KINDS[kind]({"a": "x"}, port=port):
        await asyncio.wait_for(starting, 120)
        assert engine.healthy
        await engine.close()
    nobody = GrpcEngine(f"{kind}://127.0.0.1:{port}", start_seconds=0.5)
    with pytest.raises(EngineError, match="No engine can be reached"):
        await nobody.start()
    await nobody.close()


async def test_a_host_that_is_still_loading_is_waited_for(kind: str, watchful: None) -> None:
    """It answers, and says that it is not healthy yet."""
    async with KINDS[kind]({"a": "x"}) as up:
        up.engine.healthy = False
        engine = GrpcEngine(f"{kind}://{up.target}", start_seconds=30)
        starting = asyncio.create_task(engine.start())
        await eventually(lambda: "not healthy" in engine._hosts[0].trouble)
        assert not starting.done()
        up.engine.healthy = True
        await asyncio.wait_for(starting, 120)
        assert engine.healthy
        await engine.close()


async def test_another_model_on_the_same_port_gets_nothing(kind: str, watchful: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    engine = GrpcEngine(f"{kind}://127.0.0.1:{port}")
    async with KINDS[kind]({"a": "x"}, port=port):
        await engine.start()
    await eventually(lambda: not engine.healthy)
    async with KINDS[kind]({"a": "x"}, port=port, name="another"):
        await eventually(lambda: "another model" in engine._hosts[0].trouble)
        assert not engine.healthy
    await engine.close()


class Hole:
    """A proxy in front of a port that can stop passing anything on, in both directions, without closing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.open = asyncio.Event()
        self.open.set()

    async def __aenter__(self) -> Hole:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    _tasks: list[asyncio.Task[None]]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                await self.open.wait()
                sink.write(data)
            sink.close()

        self._tasks = [
            *getattr(self, "_tasks", []),
            asyncio.create_task(pump(reader, inner_writer)),
            asyncio.create_task(pump(inner_reader, writer)),
        ]


@pytest.mark.slow
async def test_a_half_open_connection_is_found_out(kind: str, watchful: None) -> None:
    """The other end vanishes without closing: health turns, the request in flight ends, and all is well afterwards."""
    async with (
        KINDS[kind]({"a": "x" * 50_000}, interval=0.05, tokens_per_step=1) as up,
        Hole(up.port) as hole,
        driving(kind, f"127.0.0.1:{hole.port}") as (engine, folder),
    ):
        await engine.submit(asking("r"))
        await folder.begun("r")
        hole.open.clear()
        await eventually(lambda: not engine.healthy)
        assert (await folder.finished("r")).finish_reason == "lost"
        hole.open.set()
        await eventually(lambda: engine.healthy)
        await engine.submit(asking("s", max_tokens=3))
        assert (await folder.finished("s")).finish_reason == "length"
