"""Which engines the settings name, made but not started."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from portico import models
from portico.config import Settings
from portico.engines import Engine
from portico.engines.adapters import GGUF, PEFT
from portico.engines.replay import ReplayEngine, Script
from portico.errors import BadRequestError, EngineError
from portico.prompting import Tokenizer, load_tokenizer

__all__ = ["adapters", "engine_of", "engines", "resolved_model", "still_there"]

_FORMS: Final = {"llamacpp": GGUF, "vllm": PEFT}

log = logging.getLogger("portico")


def engines(settings: Settings) -> list[Engine]:
    """The engines of all models that are not elsewhere, not started."""
    return [engine_of(one, resolved_model(one)) for one in settings.each_model if not one.elsewhere]


def engine_of(settings: Settings, resolved: models.ResolvedModel, loras: Mapping[str, str] | None = None) -> Engine:
    """The engine of one model, with the adapters ``loras`` (paths by name) in place of those that the settings name.
    Raises ``BadRequestError`` for one that there is not."""
    loras = adapters(settings) if loras is None else loras
    embeds = resolved.kind == "embedding"
    if settings.mmproj is not None and settings.engine != "llamacpp":
        raise BadRequestError("--mmproj is for the embedded engine; leave it out.", param="mmproj")
    if embeds and loras:
        raise BadRequestError("A model that embeds takes no adapters; leave --lora out.", param="lora")
    if settings.engine == "llamacpp" or embeds:
        from portico.engines.llamacpp import LlamaCppEngine, Tuning

        return LlamaCppEngine(
            resolved.path,
            model_id=resolved.name,
            context_length=None if embeds else settings.context_length,
            max_sequences=settings.max_sequences,
            threads=settings.threads,
            batch_tokens=settings.batch_size,
            cache_tokens=settings.cache_tokens,
            embedding=embeds,
            projector=None if embeds else settings.mmproj,
            adapters=loras,
            tuning=Tuning(**{name: getattr(settings, name) for name in Tuning.__struct_fields__}),
            silence=settings.engine_silence,
        )
    if settings.engine == "vllm":
        from portico.engines.vllm import VllmEngine

        return VllmEngine(
            str(resolved.path),
            shlex.split(settings.engine_args),
            name=resolved.name,
            loras=None if settings.lora_dir is None and not settings.lora else loras,
            silence=settings.engine_silence,
        )
    if settings.engine.startswith("replay:"):
        tokenizer = load_tokenizer(settings.tokenizer or resolved.tokenizer_path or resolved.path)
        return _replay(Path(settings.engine.removeprefix("replay:")), tokenizer, settings)
    raise BadRequestError(
        f"Unknown engine '{settings.engine}': use llamacpp, vllm, portico://HOST:PORT, grpc://… or replay:FILE.",
        param="engine",
    )


def resolved_model(settings: Settings) -> models.ResolvedModel:
    """The model, fetched if it is not here; vLLM's is a directory in Hugging Face's layout, which it reads itself."""
    if settings.engine != "vllm":
        resolved = models.resolve(settings.model)
        return replace(resolved, kind="embedding") if settings.embedding else resolved
    path = Path(settings.model).expanduser()
    if not path.is_dir():
        raise BadRequestError("--engine vllm takes a model directory in Hugging Face's layout.", param="model")
    return models.ResolvedModel(path.name, path, "chat", None)


def adapters(settings: Settings) -> dict[str, str]:
    """The LoRA adapters' paths by name. Raises ``BadRequestError`` for what is not there or cannot be had."""
    form = _FORMS.get(settings.engine)
    if not settings.lora and settings.lora_dir is None:
        return {}
    if form is None:
        raise BadRequestError(
            "--lora and --lora-dir are for --engine llamacpp and vllm; give them to 'portico engine' for models that "
            "are elsewhere.",
            param="lora",
        )
    found = {}
    for given in settings.lora:
        name, _, path_given = given.partition("=")
        path = Path(path_given).expanduser()
        if not name or not form.fits(path):
            raise BadRequestError(f"--lora takes NAME=PATH, the path of {form.wanted}, not '{given}'.", param="lora")
        if name in found:
            raise BadRequestError(f"Two adapters are called '{name}'.", param="lora")
        found[name] = str(path.absolute())
    return found


def still_there(settings: Settings, loras: Mapping[str, str]) -> dict[str, str]:
    """Of ``loras`` those whose files have not gone; a model that is loaded again does not fail for one that has."""
    fits = _FORMS[settings.engine].fits if loras else None
    gone = [name for name, path in loras.items() if fits is not None and not fits(Path(path))]
    if gone:
        log.warning("adapters that are no longer there: %s", ", ".join(gone))
    return {name: path for name, path in loras.items() if name not in gone}


class _Recorded(msgspec.Struct):
    """One line of a replay file: what one request gets."""

    text: str | None = None
    token_ids: list[int] | None = None
    finish_reason: str = "stop"
    error: str | None = None


def _replay(path: Path, tokenizer: Tokenizer, settings: Settings) -> ReplayEngine:
    """A replay engine over a file of JSON lines, each ``{"text": …}`` or ``{"token_ids": […]}``."""
    try:
        lines = path.read_bytes().splitlines()
        recorded = [msgspec.json.decode(line, type=_Recorded) for line in lines if line.strip()]
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(f"The replay file cannot be read: {error}.") from None
    if not recorded:
        raise EngineError('The replay file is empty; it needs one JSON object per line, such as {"text": "Hello"}.')
    return ReplayEngine(
        [
            Script(
                one.token_ids if one.token_ids is not None else tokenizer.encode(one.text or ""),
                finish_reason=one.finish_reason,  # type: ignore[arg-type]
                error=one.error,
            )
            for one in recorded
        ],
        tokens_per_step=settings.replay_tokens_per_step,
        interval=1.0 / settings.replay_rate if settings.replay_rate else 0.0,
    )
