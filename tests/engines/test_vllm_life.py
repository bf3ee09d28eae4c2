"""vLLM's process: what it is asked, how it dies, comes back, and never stays behind. vLLM itself is played by the
package in ``fake_vllm``; ``test_vllm`` does the same with the real one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from portico.engines.resuming import AS_PROMPT
from portico.engines.shared import wire
from portico.engines.vllm import VllmEngine, process
from portico.engines.vllm.names import KNOWN
from portico.errors import BadRequestError, EngineDeadError, EngineError, NotSupportedError
from portico.events import Constraint, EngineOutput, EngineRequest, Media, Medium, SamplingParams
from support.processes import exists, runs
from support.wait import eventually, until

DEADLY, DEADLY_FOR_ONE, STALLING, IMAGE = 666, 667, 668, 900


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What vLLM starts does not leave when it is asked to."""
    monkeypatch.setenv("FAKE_VLLM_STUBBORN", "1")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fake_vllm"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_VLLM_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(process, "LEAVING", 0.3)
    return tmp_path / "log"


def asking(request_id: str, ids: list[int], **fields: Any) -> EngineRequest:
    return EngineRequest(request_id, ids, SamplingParams(max_tokens=5000), **fields)


class Reader:
    """Reads an engine's steps; outputs by request."""

    def __init__(self, engine: VllmEngine) -> None:
        self.outputs: dict[str, list[EngineOutput]] = {}
        self.task = asyncio.create_task(self._read(engine))

    async def _read(self, engine: VllmEngine) -> None:
        async for step in engine.steps():
            for output in step:
                self.outputs.setdefault(output.request_id, []).append(output)

    async def last(self, request_id: str) -> EngineOutput:
        await eventually(lambda: any(one.finish_reason for one in self.outputs.get(request_id, ())))
        return self.outputs[request_id][-1]

    def ids(self, request_id: str) -> list[int]:
        return [token for output in self.outputs[request_id] for token in output.token_ids]


@asynccontextmanager
async def loaded(
    arguments: tuple[str, ...] = (), *, model: str = "/model", **options: Any
) -> AsyncIterator[tuple[VllmEngine, Reader]]:
    engine = VllmEngine(model, arguments, name="m", **options)
    await engine.start()
    reader = Reader(engine)
    try:
        yield engine, reader
    finally:
        await engine.close()
        await asyncio.wait_for(reader.task, 120)


def pid_of(engine: VllmEngine) -> int:
    assert engine._process is not None
    assert engine._process.pid is not None
    return engine._process.pid


def noted(log: Path, what: str) -> list[dict[str, Any]]:
    return [entry for line in log.read_text().splitlines() if (entry := json.loads(line))["what"] == what]


# -- what vLLM is asked -----------------------------------------------------------------------------------------------


async def told_that_nothing_runs(engine: VllmEngine) -> None:
    while engine.cache_usage != 0.0:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_answers_and_facts() -> None:
    async with loaded() as (engine, reader):
        info = engine.info
        assert (info.model, info.context_length, info.vocab_size) == ("m", 4096, 1000)
        assert info.eos_token_ids == {7, 8}
        assert {"generate", "structural_tags", "priority"} <= info.capabilities
        assert "lora" not in info.capabilities
        await asyncio.gather(*(engine.submit(asking(f"r{n}", [n + 10, 5, 6])) for n in range(8)))
        for n in range(8):
            assert (await reader.last(f"r{n}")).finish_reason == "length"
            assert reader.ids(f"r{n}") == [n + 10, 5, 6]
        assert await engine.flush_cache()
        assert engine._engine is not None
        engine._engine._send(wire.Ping())  # as is done every few seconds
        await asyncio.wait_for(told_that_nothing_runs(engine), 120)
        with pytest.raises(NotSupportedError):
            await engine.embed([[1]])


async def test_images_are_expanded_then_submitted(log: Path) -> None:
    def image(colour: int, side: int) -> Medium:
        return Medium("image", bytes([colour, 0, 0]) * side * side, (side, side), f"image {colour}")

    media = Media([1, IMAGE, 2, IMAGE, 3], (image(10, 20), image(20, 10)))
    async with loaded(model="/seeing") as (engine, reader):
        assert engine.info.capabilities & {"image", "audio", "video"} == {"image"}
        assert not engine.info.media_places
        ids = await engine.expand(media)
        assert ids == [1, *[IMAGE] * 4, 2, IMAGE, 3]
        await engine.submit(asking("r", ids, media=media, cache_salt="pepper"))
        await reader.last("r")
        (added,) = noted(log, "add")
        assert added["prompt"]["mm_hashes"] == {"image": ["image 10 (10, 0, 0)", "image 20 (20, 0, 0)"]}
        assert added["prompt"]["kept"]
        assert added["prompt"]["cache_salt"] == "pepper"
        await engine.submit(asking("taken up", ids, media=media, generated=[4, 5]))
        await reader.last("taken up")
        assert noted(log, "add")[1]["prompt"]["prompt_token_ids"] == [*ids, 4, 5]
        for wrong, words in (
            (Media([1, IMAGE], media.items), "At most"),
            (Media([IMAGE] * 3, media.items), "more"),
            (Media([IMAGE], (image(1, 1),)), "^mean must have 1 elements$"),  # not where which object lies
        ):
            with pytest.raises(BadRequestError, match=words):
                await engine.expand(wrong)
        with pytest.raises(BadRequestError, match="not as long"):
            await engine.submit(asking("short", ids[:-1], media=media))
    async with loaded() as (engine, _):
        assert not engine.info.capabilities & {"image", "audio"}


async def test_every_field_of_a_request_arrives(log: Path) -> None:
    adapters = {"pirate": "/adapters/pirate", "poet": "/adapters/poet"}
    async with loaded(("--data-parallel-size", "2"), loras=adapters) as (engine, reader):
        assert "lora" in engine.info.capabilities
        assert engine.info.metadata["data_parallel_size"] == 2
        request = asking(
            "r", [1, 2], priority=-3, cache_salt="mine", lora="poet", data_parallel_rank=1, trace_headers={"t": "1"}
        )
        await engine.submit(request)
        await engine.submit(asking("plain", [1, 2]))
        await reader.last("plain")
        first, second = noted(log, "add")
        assert first["prompt"] == {"type": "token", "prompt_token_ids": [1, 2], "cache_salt": "mine"}
        assert first["lora_request"] == {"lora_name": "poet", "lora_int_id": 2, "lora_path": "/adapters/poet"}
        assert (first["priority"], first["data_parallel_rank"], first["trace_headers"]) == (-3, 1, {"t": "1"})
        assert second["prompt"] == {"type": "token", "prompt_token_ids": [1, 2]}
        assert (second["lora_request"], second["priority"], second["data_parallel_rank"]) == (None, 0, None)
        for wrong, said in ((("lora", "nobody"), "no adapter"), (("data_parallel_rank", 2), "out of range")):
            with pytest.raises(BadRequestError, match=said):
                await engine.submit(asking("w", [1], **dict([wrong])))


async def test_adapters_come_and_go_while_it_runs(log: Path, tmp_path: Path) -> None:
    for name in ("pirate", "misfit"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    async with loaded(loras={"poet": "/adapters/poet"}) as (engine, reader):
        with pytest.raises(BadRequestError, match=r"adapter_config\.json"):
            await engine.adapt("pirate", "/adapters/pirate")
        await engine.adapt("pirate", str(tmp_path / "pirate"))
        await engine.submit(asking("r", [1, 2], lora="pirate"))
        await reader.last("r")
        assert noted(log, "add")[0]["lora_request"]["lora_path"] == str(tmp_path / "pirate")
        with pytest.raises(BadRequestError, match="rank is too high"):
            await engine.adapt("misfit", str(tmp_path / "misfit"))
        await engine.adapt("pirate", None)
        assert noted(log, "adapted")[-1]["number"] == 2
        with pytest.raises(BadRequestError, match="no adapter"):
            await engine.submit(asking("s", [1], lora="pirate"))
        assert engine._load.loras == {"poet": "/adapters/poet"}  # what the next process begins with


async def test_what_exists_of_an_answer_is_a_part_of_the_prompt(log: Path) -> None:
    async with loaded() as (engine, reader):
        assert engine.info.resumes == AS_PROMPT
        await engine.submit(asking("r", [10, 11], generated=[5, 6]))
        assert (await reader.last("r")).finish_reason == "length"
        (added,) = noted(log, "add")
        assert added["prompt"]["prompt_token_ids"] == [10, 11, 5, 6]
        assert added["sampling"]["max_tokens"] == 4998
        with pytest.raises(NotSupportedError, match="constraint"):
            await engine.submit(asking("s", [1], generated=[2], constraint=Constraint("", {"type": "x"})))


async def test_abort_reaches_the_core(log: Path) -> None:
    async with loaded() as (engine, reader):
        await engine.submit(asking("r", [1] * 1000))
        await eventually(lambda: "r" in reader.outputs)
        engine.abort("r")
        engine.abort("nobody")
        await eventually(lambda: bool(noted(log, "abort")))
        count = len(reader.outputs["r"])
        await asyncio.sleep(0.1)
        assert len(reader.outputs["r"]) == count


@pytest.mark.parametrize("version", KNOWN)
async def test_every_known_version(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM_VERSION", version)
    async with loaded() as (engine, reader):
        await engine.submit(asking("r", [10, 5, 6]))
        assert (await reader.last("r")).finish_reason == "length"
        assert reader.ids("r") == [10, 5, 6]
        with pytest.raises(BadRequestError, match="out of range"):
            await engine.submit(asking("w", [1], data_parallel_rank=9))


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("vllm/usage/usage_lib.py", "vllm.usage.usage_lib"),
        ("vllm/lora/request.py", "vllm.lora.request"),
    ],
)
async def test_what_a_version_lacks_is_told_by_name(
    module: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(Path(__file__).parent / "fake_vllm", tmp_path / "older")
    (copy / module).unlink()
    monkeypatch.setenv("PYTHONPATH", str(copy), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_VLLM_VERSION", "0.11.0")
    engine = VllmEngine("/model", name="m")
    with pytest.raises(EngineError, match=r"vLLM 0\.11\.0 lacks .*" + re.escape(missing)):
        await engine.start()
    await engine.close()


async def test_without_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vllm.py").write_text("raise ImportError('no GPU here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    engine = VllmEngine("/model", name="m")
    with pytest.raises(EngineError, match=r"cannot be imported \(no GPU here\): pip install"):
        await engine.start()
    await engine.close()


# -- life and death ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "adapters", "message"),
    [("/unservable", {}, "no such architecture"), ("/m", {"x": "/misfit"}, "adapter 'x': its rank is too high")],
)
async def test_what_cannot_be_loaded_is_told(model: str, adapters: dict[str, str], message: str) -> None:
    engine = VllmEngine(model, name="m", loras=adapters)
    with pytest.raises(EngineError, match=message):
        await engine.start()
    assert not engine.healthy
    assert not exists(pid_of(engine))
    await engine.close()


async def test_loading_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = VllmEngine("/model", name="m")
    starting = asyncio.create_task(engine.start())
    began = before = time.monotonic()
    longest = 0.0
    while not starting.done():
        await asyncio.sleep(0.005)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    await starting
    await engine.close()
    assert longest < (before - began) / 2


@pytest.mark.parametrize("death", ["the process", "the core in it", "one of its cores"])
async def test_it_comes_back_from_death(death: str, log: Path, stubborn: None) -> None:
    async with loaded() as (engine, reader):
        first, helper = pid_of(engine), noted(log, "helper")[0]["pid"]
        await engine.submit(asking("r", [1] * 4000))
        await eventually(lambda: "r" in reader.outputs)
        if death == "the process":
            os.kill(first, signal.SIGKILL)
        else:
            await engine.submit(asking("deadly", [DEADLY if death == "the core in it" else DEADLY_FOR_ONE, 1]))
        last = await reader.last("r")
        assert last.finish_reason == "lost"
        assert "the process of vLLM" in (last.error or "")
        await eventually(lambda: not engine.healthy)
        with pytest.raises(EngineDeadError) as caught:
            await engine.submit(asking("s", [1]))
        assert caught.value.retry_after
        await eventually(lambda: engine.healthy)
        assert pid_of(engine) != first
        await engine.submit(asking("r", [1, 2]))  # a name from the former life
        await eventually(lambda: reader.ids("r")[-2:] == [1, 2])
        assert not exists(first)
        assert not runs(helper), "what vLLM had started has ended too"


async def test_what_hangs_is_started_again() -> None:
    await asyncio.gather(_hangs("the process"), _hangs("the core in it"))


async def _hangs(what: str) -> None:
    async with loaded(silence=2.0) as (engine, reader):
        first = pid_of(engine)
        await engine.submit(asking("r", [1] * 4000))
        await eventually(lambda: "r" in reader.outputs)
        if what == "the process":
            os.kill(first, signal.SIGSTOP)
        else:
            await engine.submit(asking("deadly", [STALLING, 1]))
        last = await reader.last("r")
        assert last.finish_reason == "lost"
        assert "neither said nor done anything" in (last.error or "")
        await eventually(lambda: engine.healthy)
        assert pid_of(engine) != first
        assert not exists(first)


async def test_a_core_that_does_not_come_back_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loaded() as (engine, reader):
        engine._load.model = "/unservable"
        os.kill(pid_of(engine), signal.SIGKILL)
        await eventually(lambda: "no such architecture" in engine._trouble)
        with pytest.raises(EngineDeadError, match="no such architecture"):
            await engine.submit(asking("r", [1]))
        engine._load.model = "/model"
        await eventually(lambda: engine.healthy)
        await engine.submit(asking("r", [1, 2]))
        assert (await reader.last("r")).finish_reason == "length"


async def test_closing_ends_what_is_in_flight_and_the_process(log: Path) -> None:
    async with loaded() as (engine, reader):
        pid = pid_of(engine)
        await engine.submit(asking("r", [1] * 4000))
        await eventually(lambda: "r" in reader.outputs)
    assert reader.outputs["r"][-1].finish_reason == "abort"
    assert not exists(pid)
    assert noted(log, "shutdown")
    await engine.close()
    with pytest.raises(EngineDeadError, match="closed"):
        await engine.submit(asking("r", [1]))


async def test_closing_while_it_loads() -> None:
    async with loaded() as (engine, _):
        os.kill(pid_of(engine), signal.SIGKILL)
        await eventually(lambda: not engine.healthy)
    assert not exists(pid_of(engine))


async def test_a_stuck_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.VllmProcess, "goodbye", 0.2)
    async with loaded() as (engine, _):
        os.kill(pid_of(engine), signal.SIGSTOP)
    assert not exists(pid_of(engine))


def test_it_ends_under_uvloop_too_however_often_and_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def twice() -> None:
        engine = VllmEngine("/model", name="m")
        await engine.start()
        await asyncio.gather(engine.close(), engine.close())
        await engine.close()
        refused = VllmEngine("/unservable", name="m")
        with pytest.raises(EngineError):
            await refused.start()
        await refused.close()

    async def while_it_restarts() -> None:
        engine = VllmEngine("/model", name="m")
        await engine.start()
        first = pid_of(engine)
        monkeypatch.setenv("FAKE_VLLM_LOADING", "1000")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: engine._process is not None and engine._process.pid not in (None, first))
        await engine.close()
        assert not exists(pid_of(engine))

    loop = uvloop.new_event_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        loop.run_until_complete(twice())
        loop.run_until_complete(while_it_restarts())
    finally:
        loop.close()
    assert not told


def test_what_nobody_has_reaped_does_not_live() -> None:
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        assert process.lives(child.pid)
        child.kill()
        until(lambda: not runs(child.pid))
        assert not process.lives(child.pid)
    assert process.lives(child.pid)  # nobody can tell


FRONT_DOOR = """
import asyncio
from portico.engines.vllm import VllmEngine

async def main():
    engine = VllmEngine("/model", name="m")
    await engine.start()
    print(engine._process.pid, flush=True)
    async for _ in engine.steps():
        pass

asyncio.run(main())
"""


def test_nothing_stays_behind_when_the_front_door_is_gone(log: Path, stubborn: None) -> None:
    command = [sys.executable, "-c", FRONT_DOOR]
    ways = (signal.SIGKILL, signal.SIGTERM)
    fronts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in ways]
    pids = [int(front.stdout.readline()) for front in fronts if front.stdout is not None]
    pids += [one["pid"] for one in noted(log, "helper")]
    assert len(pids) == 2 * len(ways)
    assert all(map(runs, pids))
    for front, how in zip(fronts, ways, strict=True):
        front.send_signal(how)
        front.communicate(timeout=120)
    until(lambda: not any(map(runs, pids)))
    assert len(noted(log, "shutdown")) == len(ways)
