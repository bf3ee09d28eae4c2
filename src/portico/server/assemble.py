"""From settings to served models: weights, tokenizer, template, format, engine, line.

Every choice that was not made by the operator is made here from what the model says of itself, and can be told.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from portico import __version__, models
from portico.config import Settings
from portico.constraints import Checker, Vocabulary
from portico.engines import Engine, EngineInfo
from portico.engines.replay import ReplayEngine, Script
from portico.errors import BadRequestError, EngineError
from portico.generation import Limits, Model
from portico.parsing import detect, load_plugin
from portico.parsing.registry import program
from portico.prompting import ChatTemplate, Prompter, Tokenizer, known_renderer, load_tokenizer
from portico.server.line import Line
from portico.server.metrics import Metrics
from portico.server.served import Served, ServedModel

__all__ = ["assemble", "engines", "is_elsewhere"]


async def assemble(settings: Settings, shared: Sequence[Engine] = ()) -> Served:
    """Load and start everything that the settings name. What had been started is closed again when a part fails.

    ``shared`` are engines to use in place of those that ``engines`` would make.
    """
    for plugin in settings.parser_plugin:
        try:
            load_plugin(plugin)
        except (ValueError, OSError) as error:
            raise BadRequestError(f"{error}.", param="parser_plugin") from None
    started: list[ServedModel] = []
    metrics = Metrics()
    try:
        started.append(await _main(settings, metrics, shared))
        if settings.embedding_model is not None:
            started.append(await _embedding(settings, metrics, shared))
    except BaseException:
        for served in started:
            await served.line.close()
        raise
    key = settings.signing_key.get_secret_value() if settings.signing_key else None
    return Served(started, metrics, settings.request_timeout, signing_key=key)


def engines(settings: Settings) -> list[Engine]:
    """The engines that the settings name, not started: the main model's, then the embedding model's if there is one."""
    resolved = _resolved(settings)
    made = [_engine(settings, resolved)]
    if settings.embedding_model is not None:
        made.append(_embedding_engine(settings, models.resolve(settings.embedding_model)))
    return made


def is_elsewhere(settings: Settings) -> bool:
    """Whether the main model is in other processes, reached over gRPC."""
    return settings.engine.startswith(("grpc://", "grpcs://"))


async def _main(settings: Settings, metrics: Metrics, shared: Sequence[Engine]) -> ServedModel:
    adapters = _adapters(settings)
    if is_elsewhere(settings):
        return await _elsewhere(settings, metrics)
    resolved = _resolved(settings)
    tokenizer = load_tokenizer(settings.tokenizer or resolved.tokenizer_path or resolved.path)
    template = None if resolved.kind == "embedding" else _template(settings, tokenizer)
    engine = shared[0] if shared else _engine(settings, resolved)
    return await _serve(settings, metrics, resolved, tokenizer, engine, template, list(adapters))


def _adapters(settings: Settings) -> dict[str, str]:
    """The LoRA adapters' directories by name. Raises ``BadRequestError`` for what is not there or cannot be had."""
    if settings.lora and settings.engine != "vllm":
        raise BadRequestError(
            "--lora needs --engine vllm: llama.cpp applies adapters to whole batches, not to single requests, and the "
            "protocol of grpc:// engines has no field for them.",
            param="lora",
        )
    adapters = {}
    for given in settings.lora:
        name, _, directory = given.partition("=")
        path = Path(directory).expanduser()
        if not name or not (path / "adapter_config.json").is_file():
            raise BadRequestError(
                f"--lora takes NAME=DIR with an adapter_config.json in DIR, not '{given}'.", param="lora"
            )
        if name in adapters:
            raise BadRequestError(f"Two adapters are called '{name}'.", param="lora")
        adapters[name] = str(path.absolute())
    return adapters


def _resolved(settings: Settings) -> models.ResolvedModel:
    """The main model; vLLM's is a directory in Hugging Face's layout, which it reads itself."""
    if settings.engine != "vllm":
        return models.resolve(settings.model)
    path = Path(settings.model).expanduser()
    if not path.is_dir():
        raise BadRequestError("--engine vllm takes a model directory in Hugging Face's layout.", param="model")
    return models.ResolvedModel(path.name, path, "chat", None)


def _engine(settings: Settings, resolved: models.ResolvedModel) -> Engine:
    if resolved.kind == "embedding":
        return _embedding_engine(settings, resolved)
    if settings.engine == "llamacpp":
        from portico.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(
            resolved.path,
            model_id=resolved.name,
            context_length=settings.context_length,
            max_sequences=settings.max_sequences,
            threads=settings.threads,
            silence=settings.engine_silence,
        )
    if settings.engine == "vllm":
        from portico.engines.vllm import VllmEngine

        return VllmEngine(
            str(resolved.path),
            shlex.split(settings.engine_args),
            name=resolved.name,
            loras=_adapters(settings),
            silence=settings.engine_silence,
        )
    if settings.engine.startswith("replay:"):
        tokenizer = load_tokenizer(settings.tokenizer or resolved.tokenizer_path or resolved.path)
        return _replay(Path(settings.engine.removeprefix("replay:")), tokenizer, settings)
    raise BadRequestError(
        f"Unknown engine '{settings.engine}': use llamacpp, vllm, grpc://HOST:PORT or replay:FILE.", param="engine"
    )


async def _elsewhere(settings: Settings, metrics: Metrics) -> ServedModel:
    """A model that other processes hold: its facts, and unless one is named its tokenizer, come from there."""
    try:
        from portico.engines.grpc import GrpcEngine
    except ImportError as error:
        raise BadRequestError(
            f"gRPC needs more packages ({error.name} is missing): pip install 'portico[grpc]'.", param="engine"
        ) from None
    key = settings.engine_api_key
    engine = GrpcEngine(settings.engine, key=key.get_secret_value() if key else None)
    try:
        await engine.start()
        with tempfile.TemporaryDirectory(prefix="portico-") as directory:
            if settings.tokenizer is None:
                await engine.fetch_tokenizer(Path(directory))
            tokenizer = load_tokenizer(settings.tokenizer or directory)
        generates = "generate" in engine.info.capabilities
        template = _template(settings, tokenizer) if generates else None
        resolved = models.ResolvedModel(engine.info.model, Path(directory), "chat" if generates else "embedding", None)
        return await _serve(settings, metrics, resolved, tokenizer, engine, template)
    except BaseException:
        await engine.close()
        raise


async def _embedding(settings: Settings, metrics: Metrics, shared: Sequence[Engine]) -> ServedModel:
    assert settings.embedding_model is not None
    resolved = models.resolve(settings.embedding_model)
    engine = shared[-1] if len(shared) > 1 else _embedding_engine(settings, resolved)
    return await _serve(
        settings, metrics, resolved, load_tokenizer(resolved.tokenizer_path or resolved.path), engine, None
    )


def _embedding_engine(settings: Settings, resolved: models.ResolvedModel) -> Engine:
    from portico.engines.llamacpp import LlamaCppEngine

    return LlamaCppEngine(
        resolved.path,
        model_id=resolved.name,
        threads=settings.threads,
        embedding=True,
        silence=settings.engine_silence,
    )


async def _serve(
    settings: Settings,
    metrics: Metrics,
    resolved: models.ResolvedModel,
    tokenizer: Tokenizer,
    engine: Engine,
    template: ChatTemplate | None,
    adapters: Sequence[str] = (),
) -> ServedModel:
    """Start the line of one model and say what it is."""
    line = Line(engine, metrics, max_in_flight=settings.max_in_flight, keep_alive=settings.keep_alive)
    warming = asyncio.get_running_loop().run_in_executor(None, tokenizer.warm)  # beside the engine's own loading
    await line.start()
    await warming
    info = engine.info
    generates = "generate" in info.capabilities
    names = settings.served_model_name if generates and settings.served_model_name else [resolved.name]
    if taken := set(names) & set(adapters):
        await line.close()
        raise BadRequestError(f"'{taken.pop()}' is the name of a model and of an adapter.", param="lora")
    tool_parser, reasoning_parser = (settings.tool_parser, settings.reasoning_parser) if generates else (None, None)
    if template is not None:
        found = detect(template.sources, tokenizer.special_tokens.values())
        tool_parser = tool_parser or found.tool_parser
        reasoning_parser = reasoning_parser or found.reasoning_parser
    tool_parser, reasoning_parser = _named(tool_parser), _named(reasoning_parser)
    try:
        program(tool_parser, reasoning_parser)
    except ValueError as error:
        await line.close()
        raise BadRequestError(f"{error}; 'portico formats' lists them.") from None
    model = Model(
        name=names[0],
        created=_created(resolved.path),
        tokenizer=tokenizer,
        prompter=_prompter(settings, tokenizer, template, resolved.path) if generates else Prompter(tokenizer),
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        capabilities=info.capabilities,
        max_logprobs=min(settings.max_logprobs, info.max_logprobs),
        embedding_size=info.embedding_size,
        tool_parser=tool_parser,
        reasoning_parser=reasoning_parser,
        fingerprint="fp_" + hashlib.sha256(f"{__version__} {resolved.name} {info.metadata}".encode()).hexdigest()[:10],
        reasoning_content=settings.reasoning_content,
        limits=Limits(
            choices=settings.max_choices,
            stop_strings=settings.max_stop,
            tools=settings.max_tools,
            schema_depth=settings.max_schema_depth,
        ),
    )
    checker = Checker(_vocabulary(tokenizer, info)) if "constraints" in info.capabilities else None
    adapted = [replace(model, name=name, parent=model.name) for name in adapters]
    return ServedModel(model, names, line, checker, adapted)


def _prompter(settings: Settings, tokenizer: Tokenizer, template: ChatTemplate | None, path: Path) -> Prompter:
    """Writes with the template, or, for a family that has none, with the renderer that is known for it."""
    return Prompter(
        tokenizer,
        template or known_renderer(tokenizer, path),
        defaults=settings.template_kwargs,
        allowed_kwargs=settings.template_kwargs,
        request_templates=settings.trust_request_templates,
    )


def _vocabulary(tokenizer: Tokenizer, info: EngineInfo) -> Vocabulary:
    """The vocabulary as grammars see it."""
    eos = next(iter(sorted(info.eos_token_ids or tokenizer.eos_token_ids)), 0)
    return Vocabulary([tokenizer.token_bytes(i) for i in range(info.vocab_size)], sorted(tokenizer.special_ids), eos)


def _named(parser: str | None) -> str | None:
    """``none`` switches a parser off where one would have been found."""
    return None if parser == "none" else parser


def _template(settings: Settings, tokenizer: Tokenizer) -> ChatTemplate | None:
    if settings.chat_template is not None:
        try:
            source = settings.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise BadRequestError(
                f"The chat template cannot be read: {error.strerror}.", param="chat_template"
            ) from None
        return ChatTemplate(source, tokenizer.special_tokens)
    if tokenizer.chat_template is None:
        return None
    return ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens)


def _created(path: Path) -> int:
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return int(time.time())


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
