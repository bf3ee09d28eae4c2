"""The engine's process: what it refuses to start with, how it dies, comes back, and never stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from portico.engines.llamacpp import LlamaCppEngine, libllama, process
from portico.errors import EngineDeadError, EngineError
from support.llamacpp import Client
from support.processes import exists, runs, state
from support.wait import eventually

PROMPT = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]


def serve(path: Path, **options: object) -> LlamaCppEngine:
    return LlamaCppEngine(path, model_id="m", **{"context_length": 1024, **options})  # type: ignore[arg-type]


# -- files that cannot be served -------------------------------------------------------------------------------------


async def refusal(path: Path, **options: object) -> str:
    subject = serve(path, **options)
    with pytest.raises(EngineError) as caught:
        await subject.start()
    assert not subject.healthy
    await subject.close()
    assert "\n" not in caught.value.message
    assert str(path.parent) not in caught.value.message, "no paths in what a client may see"
    return caught.value.message


async def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in await refusal(tmp_path / "none.gguf")


async def test_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign.gguf"
    path.write_bytes(b"PK\x03\x04 not a model" * 100)
    assert "magic" in await refusal(path)


@pytest.mark.parametrize("size", [20, 100_000, 60_000_000])
async def test_truncated_file(tmp_path: Path, smollm2_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    with smollm2_path.open("rb") as source:
        path.write_bytes(source.read(size))
    message = await refusal(path)
    assert message.startswith("cut.gguf cannot be served: llama.cpp cannot load this file: ")


@pytest.fixture
def alien(tmp_path: Path, smollm2_path: Path) -> Path:
    """The model with another word for its architecture."""
    path = tmp_path / "alien.gguf"
    key = b"general.architecture" + struct.pack("<IQ", 8, 5)  # type: string, length
    content = smollm2_path.read_bytes()
    assert key + b"llama" in content
    path.write_bytes(content.replace(key + b"llama", key + b"alien", 1))
    return path


async def test_unknown_architecture(alien: Path) -> None:
    assert "alien" in await refusal(alien)


async def test_an_embedding_model_does_not_generate(minilm_path: Path) -> None:
    assert "embedding model" in await refusal(minilm_path, context_length=512)


async def test_more_context_than_the_model_has(smollm2_path: Path) -> None:
    assert "1 to 8192 tokens" in await refusal(smollm2_path, context_length=8193)


# -- death and return ------------------------------------------------------------------------------------------------


async def test_killed_while_generating(smollm2_path: Path) -> None:
    async with Client(serve(smollm2_path)) as client:
        first = client.engine.pid
        assert first is not None
        answers = [await client.submit(PROMPT, max_tokens=900, ignore_eos=True) for _ in range(3)]
        for answer in answers:
            await answer.begun.wait()
        os.kill(first, signal.SIGKILL)
        for answer in answers:
            await client.finished(answer)
            assert answer.finish == "lost"
            assert "SIGKILL" in (answer.last.error or "")
        assert not client.engine.healthy
        after = await client.run(PROMPT, max_tokens=4)  # waits for the restart
        assert len(after.ids) == 4
        assert client.engine.healthy
        assert client.engine.pid != first
        await eventually(lambda: not exists(first))


async def test_how_full_the_cache_is_shows(smollm2_path: Path) -> None:
    """As signs of life tell, which are asked for eight times in the time of silence."""
    async with Client(serve(smollm2_path, silence=8.0)) as client:
        answer = await client.submit(PROMPT, max_tokens=900, ignore_eos=True)
        await eventually(lambda: 0 < (client.engine.cache_usage or 0) < 1)
        client.engine.abort(answer.request_id)
        await eventually(lambda: client.engine.cache_usage == 0)


async def test_stopped_while_generating(smollm2_path: Path) -> None:
    """As a driver that never comes back: noticed, killed, started again."""
    async with Client(serve(smollm2_path, silence=2.0)) as client:
        first = client.engine.pid
        assert first is not None
        answers = [await client.submit(PROMPT, max_tokens=900, ignore_eos=True) for _ in range(2)]
        for answer in answers:
            await answer.begun.wait()
        os.kill(first, signal.SIGSTOP)
        for answer in answers:
            await client.finished(answer)
            assert answer.finish == "lost"
            assert "neither said nor done anything" in (answer.last.error or "")
        after = await client.run(PROMPT, max_tokens=4)  # waits for the restart
        assert len(after.ids) == 4
        assert client.engine.pid != first
        await eventually(lambda: not exists(first))


@pytest.mark.slow
async def test_killed_again_and_again(smollm2_path: Path) -> None:
    async with Client(serve(smollm2_path)) as client:
        pids = []
        for _ in range(3):
            assert client.engine.pid is not None
            pids.append(client.engine.pid)
            os.kill(pids[-1], signal.SIGKILL)
            # Sent before the death is noticed: not acknowledged, so it is tried again.
            assert len((await client.run(PROMPT, max_tokens=2)).ids) == 2
        assert not any(exists(pid) for pid in pids)


async def test_waiting_for_a_restart_has_an_end(
    smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is gone when the process dies: requests wait their time and are refused; closing still works."""
    monkeypatch.setattr(LlamaCppEngine, "patience", 0.5)
    path = tmp_path / "link.gguf"
    path.symlink_to(smollm2_path)
    async with Client(serve(path)) as client:
        path.unlink()
        assert client.engine.pid is not None
        os.kill(client.engine.pid, signal.SIGKILL)
        await eventually(lambda: not client.engine.healthy)
        with pytest.raises(EngineDeadError) as caught:
            await client.submit(PROMPT)
        assert caught.value.retry_after
        path.symlink_to(smollm2_path)
        monkeypatch.setattr(LlamaCppEngine, "patience", 30)
        assert (await client.run(PROMPT, max_tokens=1)).ids


async def test_closing_ends_what_is_in_flight(smollm2_path: Path) -> None:
    client = Client(serve(smollm2_path))
    async with client:
        pid = client.engine.pid
        answer = await client.submit(PROMPT, max_tokens=900, ignore_eos=True)
        await answer.begun.wait()
    assert answer.finish == "abort"
    assert pid is not None
    assert not exists(pid), "reaped, not only dead"
    await client.engine.close()
    with pytest.raises(EngineDeadError, match="closed"):
        await client.submit(PROMPT)


async def test_interrupts_are_the_parents_business(smollm2_path: Path) -> None:
    async with Client(serve(smollm2_path)) as client:
        pid = client.engine.pid
        assert pid is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert (await client.run(PROMPT, max_tokens=2)).ids
        assert client.engine.pid == pid


async def test_a_stuck_process_is_killed(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.LlamaCppProcess, "goodbye", 0.2)
    subject = serve(smollm2_path)
    await subject.start()
    pid = subject.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await eventually(lambda: state(pid) == "T")
    await subject.close()
    assert not exists(pid)


PARENT = """
    import asyncio, signal, sys
    from portico.engines.llamacpp import LlamaCppEngine
    from portico.events import EngineRequest, SamplingParams

    async def main():
        engine = LlamaCppEngine(sys.argv[1], model_id="m", context_length=1024)
        await engine.start()
        await engine.submit(EngineRequest("a", [1, 2, 3], SamplingParams(max_tokens=1000, ignore_eos=True)))
        print(engine.pid, flush=True)
        async for _ in engine.steps():
            pass

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_orphan_however_the_parent_ends(smollm2_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(smollm2_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert runs(pid)
    parent.send_signal(how)
    _, noise = parent.communicate(timeout=120)
    asyncio.run(eventually(lambda: not runs(pid)))
    if how is signal.SIGKILL:
        assert noise == "", "llama.cpp's log does not reach the terminal"


# -- layouts ---------------------------------------------------------------------------------------------------------


def test_a_wrong_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libllama._CONTEXT_SENTINELS, "n_batch", 1024)
    with pytest.raises(libllama.LlamaError, match=r"llama_context_params .* n_batch is 2048, not 1024"):
        libllama.Library()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libllama, "PINNED_VERSION", "1.2.3")
    with pytest.raises(libllama.LlamaError, match=r"needs exactly 1\.2\.3"):
        libllama.Library()
