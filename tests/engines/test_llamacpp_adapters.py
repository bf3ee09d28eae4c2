"""LoRA adapters of the embedded engine: each request has its own, whoever else is computed beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from portico.engines.llamacpp import LlamaCppEngine
from portico.errors import BadRequestError, EngineError
from support import tiny_models
from support.llamacpp import Answer, Client

BEGINNING = list(range(3, 43))  # enough to be shared, and to wait for while it is computed
PROMPTS = [[*BEGINNING, last] for last in (50, 51, 52)]
WHO = (None, "first", "second")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.gguf``, its adapters ``first.gguf`` and ``second.gguf``, and some that do not fit."""
    directory = tmp_path_factory.mktemp("adapters")
    model = tiny_models.write("llama", directory / "model.gguf")
    for seed, name in enumerate(("first", "second"), 1):
        tiny_models.write_adapter(model, directory / f"{name}.gguf", seed=seed)
    tiny_models.write_adapter(model, directory / "later.gguf", after=[5, 6])
    other = tiny_models.write("qwen2", directory / "other.gguf")
    tiny_models.write_adapter(other, directory / "alien.gguf")
    (directory / "cut.gguf").write_bytes((directory / "first.gguf").read_bytes()[:5000])
    return directory


def engine(files: Path, *loaded: str, sequences: int = 8) -> LlamaCppEngine:
    adapters = {name: str(files / f"{name}.gguf") for name in loaded}
    return LlamaCppEngine(
        files / "model.gguf", model_id="m", threads=1, max_sequences=sequences, context_length=128, adapters=adapters
    )


async def asked(client: Client, prompt: list[int], lora: str | None) -> Answer:
    return await client.submit(prompt, lora=lora, max_tokens=12, ignore_eos=True, logprobs=2)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are equal as far as rounding allows: up to the first near tie."""
    for left, right, margin in zip(one.ids, other.ids, one.margins, strict=True):
        if margin < 0.05:
            return True
        if left != right:
            return False
    return True


def test_many_at_once_get_what_each_would_get_alone(files: Path) -> None:
    async def main() -> None:
        async with Client(engine(files, "first", "second", sequences=1)) as client:
            alone = {}
            for lora in WHO:
                for number, prompt in enumerate(PROMPTS):
                    await client.engine.flush_cache()
                    alone[lora, number] = await client.finished(await asked(client, prompt, lora))
        for number in range(len(PROMPTS)):
            assert len({tuple(alone[lora, number].ids) for lora in WHO}) == len(WHO)
        async with Client(engine(files, "first", "second")) as client:
            together = {key: await asked(client, PROMPTS[key[1]], key[0]) for key in alone}
            for key, answer in together.items():
                assert same(alone[key], await client.finished(answer)), key
            shared = {lora: await client.run(PROMPTS[0], lora=lora, max_tokens=1) for lora in WHO}
            assert all(answer.first.cached_tokens == len(PROMPTS[0]) - 1 for answer in shared.values())

    asyncio.run(main())


def test_they_come_and_go_while_others_are_answered(files: Path) -> None:
    async def main() -> None:
        async with Client(engine(files, "first")) as client:

            async def said(lora: str | None) -> Answer:
                return await client.finished(await asked(client, PROMPTS[0], lora))

            wanted, plain = await said("first"), await said(None)
            long = await client.submit(PROMPTS[1], lora="first", max_tokens=80, ignore_eos=True)
            await asyncio.wait_for(long.begun.wait(), 120)
            await client.engine.adapt("other", str(files / "first.gguf"))
            assert same(wanted, await said("other"))
            await client.engine.adapt("other", str(files / "second.gguf"))  # in place
            changed = await said("other")
            assert not same(wanted, changed)
            assert not same(plain, changed)
            await client.engine.adapt("first", None)
            with pytest.raises(BadRequestError, match="no adapter 'first'"):
                await asked(client, PROMPTS[0], "first")
            assert (await client.finished(long)).finish == "length"
            for name in ("alien", "later", "cut", "absent"):
                with pytest.raises(BadRequestError):
                    await client.engine.adapt(name, str(files / f"{name}.gguf"))
            assert same(changed, await said("other"))
            assert same(plain, await said(None))

    asyncio.run(main())


@pytest.mark.parametrize("name", ["alien", "later", "cut"])
def test_what_does_not_fit_is_told_at_start(name: str, files: Path) -> None:
    with pytest.raises(EngineError, match=f"the adapter '{name}' cannot be loaded"):
        asyncio.run(engine(files, name).start())
