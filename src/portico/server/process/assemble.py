"""From settings to served models: weights, tokenizer, template, format, engine, line.

Every choice that was not made by the operator is made here from what the model says of itself, and can be told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from portico import __version__, models
from portico.config import Settings
from portico.constraints import Checker, Vocabulary
from portico.engines import Engine, EngineInfo, Perceives
from portico.engines.placement import Placement
from portico.errors import BadRequestError
from portico.extras import installing
from portico.generation import Limits, Model
from portico.media.decoding import Decoder
from portico.media.fetching import MediaFetcher
from portico.media.senses import Senses
from portico.parsing import declare, detect, load_plugin
from portico.parsing.registry import DECLARED, program
from portico.prompting import ChatTemplate, Prompter, Tokenizer, known_renderer, load_tokenizer, speaks_harmony
from portico.server.line.line import Line
from portico.server.line.meter import Meter
from portico.server.line.model import ServedModel
from portico.server.line.offers import Offer, Offers
from portico.server.line.served import FileBounds, Served
from portico.server.process.engines import adapters, engine_of, resolved_model, still_there
from portico.server.process.kept import kept

__all__ = ["assemble", "change", "release"]


async def assemble(settings: Settings, meter: Meter, shared: Sequence[Engine] = ()) -> Served:
    """Load and start everything that the settings want at start. What had been started is closed again when a part
    fails.

    ``meter`` counts the work of the models' lines. ``shared`` are engines to use in place of those that
    ``portico.server.process.engines`` would make, in the same order; a model that has one stays loaded.
    """
    for plugin in settings.parser_plugin:
        try:
            load_plugin(plugin)
        except (ValueError, OSError) as error:
            raise BadRequestError(f"{error}.", param="parser_plugin") from None
    store = await kept(settings)  # first: it is soon known whether it can be had
    on_offer = _offers(settings, meter, shared)
    try:
        await on_offer.start()
        _check_names(on_offer.offers)  # by now they are known
    except BaseException:
        await on_offer.close()
        if store is not None:
            await store.close()
        raise
    key = settings.signing_key.get_secret_value() if settings.signing_key else None
    bounds = FileBounds(settings.max_file, settings.max_files_per_key)
    return Served(on_offer, settings.request_timeout, key, settings.resume_grace, store, settings.mcp_allow, bounds)


def change(served: Served, settings: Settings, meter: Meter) -> None:
    """Offer what the settings do now, and no longer what they do not. Raises ``BadRequestError``."""
    new = _offers(settings, meter).offers
    _check_names(new)
    served.offers.change(new, settings.max_loaded, settings.load_queue)


async def release(served: Served) -> None:
    """End what ``assemble`` has started."""
    await served.offers.close()
    if served.store is not None:
        await served.store.close()


def _offers(settings: Settings, meter: Meter, shared: Sequence[Engine] = ()) -> Offers:
    """What the settings offer, none of it loaded. ``meter`` and ``shared`` are as in ``assemble``."""
    engines = iter(shared)
    made = []
    for one in settings.each_model:
        engine = next(engines, None) if not one.elsewhere else None
        loras = adapters(one)
        made.append(_offer(one, loras, partial(_load, one, meter, engine, loras)))
    return Offers(made, settings.max_loaded, settings.load_queue, settings.request_timeout)


def _check_names(offers: Sequence[Offer]) -> None:
    """Raises ``BadRequestError`` where two of them have one name."""
    taken: set[str] = set()
    for offer in offers:
        for name in (*offer.names, *offer.adapters):
            if name in taken:
                raise BadRequestError(
                    f"Two models are called '{name}'; give one of them another 'served_model_name'.", param="models"
                )
            taken.add(name)


def _offer(settings: Settings, loras: dict[str, str], load: Callable[[], Awaitable[ServedModel]]) -> Offer:
    """One model, as far as it is known before it is loaded, with the adapters that it is loaded with."""
    name, kind = ("", None) if settings.elsewhere else models.expected(settings.model)
    names, patterns = _names(settings.served_model_name, name)
    embeds = settings.embedding or kind == "embedding"
    return Offer(
        names,
        load,
        patterns,
        list(loras),
        None if settings.elsewhere else frozenset({"embed" if embeds else "generate"}),
        created=int(time.time()),
        idle=settings.idle_unload,
        at_start=settings.load == "start",
        loras=loras,
        lora_dir=settings.lora_dir,
        stays=settings.workers > 1,
        described=settings.of_model,
    )


async def _load(settings: Settings, meter: Meter, engine: Engine | None, loras: Mapping[str, str]) -> ServedModel:
    """``loras`` are the adapters of now: those of the settings, and what clients have made of them."""
    if settings.elsewhere:
        return await _elsewhere(settings, meter)
    resolved = await asyncio.to_thread(resolved_model, settings)
    tokenizer = await asyncio.to_thread(load_tokenizer, settings.tokenizer or resolved.tokenizer_path or resolved.path)
    template = None if resolved.kind == "embedding" else _template(settings, tokenizer)
    if engine is None:
        engine = await asyncio.to_thread(engine_of, settings, resolved, still_there(settings, loras))
    return await _serve(settings, meter, resolved, tokenizer, engine, template)


async def _elsewhere(settings: Settings, meter: Meter) -> ServedModel:
    """A model that other processes hold: its facts, and unless one is named its tokenizer, come from there."""
    try:
        from portico.engines.grpc import GrpcEngine
    except ImportError as error:
        raise BadRequestError(
            f"gRPC needs more packages ({error.name} is missing): {installing('grpc')}.", param="engine"
        ) from None
    key = settings.engine_api_key
    engine = GrpcEngine(
        settings.engine,
        key=key.get_secret_value() if key else None,
        placement=Placement(by_prefix=settings.placement == "prefix"),
    )
    try:
        await engine.start()
        with tempfile.TemporaryDirectory(prefix="portico-") as directory:
            if settings.tokenizer is None:
                await engine.fetch_tokenizer(Path(directory))
            tokenizer = load_tokenizer(settings.tokenizer or directory)
        generates = "generate" in engine.info.capabilities
        template = _template(settings, tokenizer) if generates else None
        resolved = models.ResolvedModel(engine.info.model, Path(directory), "chat" if generates else "embedding", None)
        return await _serve(settings, meter, resolved, tokenizer, engine, template)
    except BaseException:
        await engine.close()
        raise


async def _serve(
    settings: Settings,
    meter: Meter,
    resolved: models.ResolvedModel,
    tokenizer: Tokenizer,
    engine: Engine,
    template: ChatTemplate | None,
) -> ServedModel:
    """Start the line of one model and say what it is."""
    line = Line(
        engine,
        meter,
        max_in_flight=settings.in_flight,
        keep_alive=settings.keep_alive,
        resume=not settings.no_resume,
        salted=not settings.share_prefix_cache,
    )
    preparing = asyncio.get_running_loop().run_in_executor(None, tokenizer.prepare)  # beside the engine's own loading
    try:
        await line.start()
        await preparing
        described = partial(_described, settings, resolved, tokenizer, template, line)
        served = await asyncio.to_thread(described)  # others may be served meanwhile
    except BaseException:
        await line.close()
        raise
    line.called = served.names[0]
    return served


def _described(
    settings: Settings,
    resolved: models.ResolvedModel,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    line: Line,
) -> ServedModel:
    """What a model is whose engine has started. Raises ``BadRequestError`` for settings that do not fit it."""
    info = line.engine.info
    generates = "generate" in info.capabilities
    names, patterns = _names(settings.served_model_name, resolved.name)
    if taken := set(names) & set(info.adapters):
        raise BadRequestError(f"'{taken.pop()}' is the name of a model and of an adapter.", param="lora")
    tool_parser, reasoning_parser = (settings.tool_parser, settings.reasoning_parser) if generates else (None, None)
    declared = _declared(settings, resolved) if generates and resolved.kind != "embedding" else None
    if declared is not None:
        tool_parser = declared if tool_parser in (None, DECLARED) else tool_parser
        reasoning_parser = declared if reasoning_parser in (None, DECLARED) else reasoning_parser
    if template is not None:
        found = detect(template.sources, tokenizer.special_tokens.values())
        tool_parser = tool_parser or found.tool_parser
        reasoning_parser = reasoning_parser or found.reasoning_parser
    tool_parser, reasoning_parser = _named(tool_parser), _named(reasoning_parser)
    try:
        markers = program(tool_parser, reasoning_parser).special_tokens
    except ValueError as error:
        raise BadRequestError(f"{error}; 'portico formats' lists them.") from None
    model = Model(
        name=names[0],
        created=_created(resolved.path),
        tokenizer=tokenizer,
        prompter=_prompter(settings, tokenizer, template, resolved.path, markers, line.engine)
        if generates
        else Prompter(tokenizer, context_length=info.context_length),
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        capabilities=info.capabilities,
        max_logprobs=min(settings.max_logprobs, info.max_logprobs),
        embedding_size=info.embedding_size,
        tool_parser=tool_parser,
        reasoning_parser=reasoning_parser,
        fingerprint="fp_" + hashlib.sha256(f"{__version__} {resolved.name} {info.metadata}".encode()).hexdigest()[:10],
        reasoning_content=settings.reasoning_content,
        thinking_by_default=settings.thinking_by_default,
        limits=Limits(
            choices=settings.max_choices,
            stop_strings=settings.max_stop,
            tools=settings.max_tools,
            schema_depth=settings.max_schema_depth,
        ),
        sampling=settings.sampling.model_dump(exclude_none=True),
    )
    checker = Checker(_vocabulary(tokenizer, info)) if "constraints" in info.capabilities else None
    adapted = [replace(model, name=name, parent=model.name) for name in info.adapters]
    return ServedModel(model, names, line, checker, adapted, patterns)


def _names(wanted: Sequence[str], own: str) -> tuple[list[str], list[str]]:
    """The names to show a model by, its ``own`` where there is no other, and the patterns of those it answers to."""
    patterns = [name for name in wanted if any(sign in name for sign in "*?[")]
    return [name for name in wanted if name not in patterns] or [own], patterns


def _prompter(
    settings: Settings,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    path: Path,
    own_markers: Collection[str],
    engine: Engine,
) -> Prompter:
    """Writes with the template, or, for a family that has none, with the renderer that is known for it."""
    variables = settings.template_kwargs
    own = template is not None and (settings.chat_template is not None or not speaks_harmony(tokenizer))
    return Prompter(
        tokenizer,
        template if own else known_renderer(tokenizer, path, defaults=variables, allowed=variables),
        modalities=engine.info.capabilities & {"image", "audio"},
        marked=engine.info.media_places,
        senses=_senses(settings, engine),
        defaults=variables,
        allowed_kwargs=variables,
        request_templates=settings.trust_request_templates,
        show_schema=settings.show_schema,
        control_tokens_in_messages=settings.control_tokens_in_messages,
        own_markers=own_markers,
        context_length=engine.info.context_length,
    )


def _senses(settings: Settings, engine: Engine) -> Senses | None:
    """What gives prompts their media, for a model that sees or hears."""
    if not isinstance(engine, Perceives) or not engine.info.capabilities & {"image", "audio"}:
        return None
    decoder = Decoder(pixels=settings.max_pixels, seconds=settings.max_seconds, rate=engine.info.audio_rate)
    return Senses(MediaFetcher(settings.media_hosts), decoder, engine.expand, most=settings.max_media)


def _vocabulary(tokenizer: Tokenizer, info: EngineInfo) -> Vocabulary:
    """The vocabulary as grammars see it."""
    eos = next(iter(sorted(info.eos_token_ids or tokenizer.eos_token_ids)), 0)
    return Vocabulary([tokenizer.token_bytes(i) for i in range(info.vocab_size)], sorted(tokenizer.special_ids), eos)


def _declared(settings: Settings, resolved: models.ResolvedModel) -> str | None:
    """The parser of the format that the checkpoint describes itself, in its ``tokenizer_config.json``; None if it does
    not. A description that cannot be read is an error where ``hf`` was asked for, else it is left aside."""
    path = Path(settings.tokenizer or resolved.tokenizer_path or resolved.path or "")
    file = (path if path.is_dir() else path.parent) / "tokenizer_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        template = config.get("response_template") if isinstance(config, dict) else None
        return declare(template) if template is not None else None
    except OSError:
        return None
    except ValueError as error:
        if DECLARED not in (settings.tool_parser, settings.reasoning_parser):
            return None
        raise BadRequestError(f"{file.name}: {error}", param="tool_parser") from None


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
