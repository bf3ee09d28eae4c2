"""What people set in llama.cpp reaches it, and what cannot be is told in one line; split files are one model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from portico import models
from portico.config import load_settings
from portico.engines.llamacpp import LlamaCppEngine, Tuning
from portico.errors import EngineError, ModelNotFoundError
from portico.server.process.engines import engine_of
from support import tiny_models
from support.llamacpp import Client

PROMPT = [5, 9, 14, 3, 7]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write("llama", tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def answered(path: Path, **options: Any) -> tuple[LlamaCppEngine, list[int]]:
    """What the engine answers, and the engine."""
    engine = LlamaCppEngine(path, model_id="m", threads=1, max_sequences=1, **options)

    async def main() -> list[int]:
        async with Client(engine) as client:
            return (await client.run(PROMPT, max_tokens=8, ignore_eos=True)).ids

    return engine, asyncio.run(main())


def refused(path: Path, **tuning: Any) -> str:
    with pytest.raises(EngineError) as caught:
        answered(path, tuning=Tuning(**tuning))
    return caught.value.message


def test_a_stretched_context_and_another_cache(tiny: Path) -> None:
    plain, expected = answered(tiny)
    assert plain.info.context_length == tiny_models.CONTEXT
    tuning = Tuning(cache_type="f32", flash_attention="off", rope_scaling="linear", rope_scale=2.0, rope_freq_base=5e4)
    stretched, other = answered(tiny, tuning=tuning)
    assert stretched.info.context_length == 2 * tiny_models.CONTEXT
    assert len(other) == len(expected) == 8


def test_what_cannot_be(tiny: Path) -> None:
    assert "--gpu-layers needs a GPU" in refused(tiny, gpu_layers=4)
    assert "context" in refused(tiny, cache_type="q8_0")  # heads of 16 numbers are no whole blocks


def test_a_split_model_is_one(tmp_path: Path, tiny: Path) -> None:
    first = tiny_models.write("llama", tmp_path / "split.gguf", part=5)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) > 2
    resolved = models.resolve(str(parts[1]))
    assert (resolved.name, resolved.path) == ("split", first)
    assert models.facts(first).size == sum(part.stat().st_size for part in parts)
    assert answered(resolved.path)[1] == answered(tiny)[1]
    parts[-1].unlink()
    with pytest.raises(ModelNotFoundError, match=f"{parts[-1].name} is not beside it"):
        models.resolve(str(first))


def test_settings_reach_the_engine(tiny: Path) -> None:
    given = {"cache_type": "q4_0", "gpu_layers": 0, "batch_size": 64, "cache_tokens": 128, "main_gpu": 1}
    settings = load_settings({"model": str(tiny), **given})
    load = cast(Any, engine_of(settings, models.resolve(str(tiny))))._load
    assert (load.batch_tokens, load.cache_tokens) == (64, 128)
    assert load.tuning == Tuning(cache_type="q4_0", gpu_layers=0, main_gpu=1)
