"""Embeddings from the real MiniLM: meaning, batches, limits."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from portico.engines.llamacpp import LlamaCppEngine
from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import EngineRequest, SamplingParams
from portico.prompting import Tokenizer, load_tokenizer
from portico.server.line.line import Line
from portico.server.observe.metrics import Metrics
from support.llamacpp import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "The stock market fell by three percent.", "Hi"]


@pytest.fixture(scope="module")
def tokenizer(minilm_path: Path) -> Tokenizer:
    return load_tokenizer(minilm_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(minilm_path: Path) -> AsyncIterator[LlamaCppEngine]:
    async with Client(LlamaCppEngine(minilm_path, model_id="minilm", embedding=True)) as client:
        yield client.engine


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=True))


async def test_meaning(engine: LlamaCppEngine, tokenizer: Tokenizer) -> None:
    batch = await engine.embed([ids(tokenizer, text) for text in TEXTS])
    assert batch.vectors.shape == (4, 384)
    assert batch.vectors.dtype == np.float32
    assert engine.info.embedding_size == 384
    assert engine.info.capabilities == {"embed"}
    assert list(batch.prompt_tokens) == [len(ids(tokenizer, text)) for text in TEXTS]
    np.testing.assert_allclose(np.linalg.norm(batch.vectors, axis=1), 1, atol=1e-5)
    alike = batch.vectors @ batch.vectors.T
    assert alike[0, 1] > 0.6 > 0.2 > alike[0, 2]


async def test_a_batch_is_its_inputs_one_by_one(engine: LlamaCppEngine, tokenizer: Tokenizer) -> None:
    """More inputs than one batch takes, of lengths that do not divide it, from several requests at once."""
    inputs = [ids(tokenizer, f"{TEXTS[i % 4]} {'and so on ' * (i % 17)}") for i in range(50)]
    whole, half = await asyncio.gather(engine.embed(inputs), engine.embed(inputs[:20]))
    assert whole.vectors.shape == (50, 384)
    np.testing.assert_allclose(whole.vectors[:20], half.vectors, atol=2e-3)
    for index in (0, 16, 49):
        alone = await engine.embed([inputs[index]])
        assert float(alone.vectors[0] @ whole.vectors[index]) > 0.9999


async def test_limits(engine: LlamaCppEngine) -> None:
    length = engine.info.context_length
    assert length == 512
    assert (await engine.embed([[1000] * length])).vectors.shape == (1, 384)
    with pytest.raises(ContextLengthError, match=r"input\[1\].* 513 tokens.* 512"):
        await engine.embed([[1000], [1000] * 513])
    with pytest.raises(BadRequestError, match=r"input\[0\]"):
        await engine.embed([[]])
    with pytest.raises(BadRequestError, match="vocabulary"):
        await engine.embed([[30522]])
    assert (await engine.embed([])).vectors.shape == (0, 384)
    with pytest.raises(NotSupportedError, match="does not generate"):
        await engine.submit(EngineRequest("a", [1], SamplingParams(max_tokens=1)))


async def test_a_cancelled_request_is_dropped(engine: LlamaCppEngine) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)  # so that it cannot be done before
    task = asyncio.create_task(engine.embed([[1000] * 50] * 4))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.kill(engine.pid, signal.SIGCONT)
    assert (await engine.embed([[1000]])).vectors.shape == (1, 384)


async def test_embeddings_outlive_their_engine(minilm_path: Path) -> None:
    inputs = [[1000 + number] * 50 for number in range(60)]
    async with Client(LlamaCppEngine(minilm_path, model_id="minilm", embedding=True)) as client:
        engine = client.engine
        line = Line(engine, Metrics(), keep_alive=0)
        undisturbed = await line.embed(inputs)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)  # so that it cannot be done before it dies
        computing = asyncio.create_task(line.embed(inputs))
        await asyncio.sleep(0.05)
        os.kill(engine.pid, signal.SIGKILL)
        assert not computing.done()
        again = await computing
        np.testing.assert_allclose(again.vectors, undisturbed.vectors, atol=1e-5)
        assert list(again.prompt_tokens) == list(undisturbed.prompt_tokens)


async def test_a_decoder_embeds_by_its_last_token(smollm2_path: Path) -> None:
    subject = LlamaCppEngine(smollm2_path, model_id="m", context_length=256, embedding=True)
    async with Client(subject) as client:
        batch = await client.engine.embed([[1, 2, 3, 400], [9, 8, 7], [1, 2, 3, 400]])
        assert batch.vectors.shape == (3, 576)
        np.testing.assert_allclose(np.linalg.norm(batch.vectors, axis=1), 1, atol=1e-5)
        assert float(batch.vectors[0] @ batch.vectors[2]) > 0.999
        assert float(batch.vectors[0] @ batch.vectors[1]) < 0.999
