"""Chat templates: messages in, the prompt's text out, exactly as Hugging Face's ``apply_chat_template`` renders it.

A template is a string or a named set (``default``, ``tool_use``, ``rag``). The messages given here are what the
template sees, but for two habits of transformers 5 that templates count on: keys that are None do not exist, and
earlier reasoning is found under each of its three names. Making lenient client messages fit a template is the business
of ``messages``.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import jinja2
from jinja2.exceptions import TemplateError

from portico.errors import BadRequestError
from portico.prompting.capabilities import Ask, Capabilities, probe
from portico.prompting.environment import ENVIRONMENT, ChatEnvironment
from portico.prompting.limits import MAX_SECONDS, TemplateLimitError, bounded, running
from portico.prompting.open_end import REASONING_NAMES, cut_open_end, open_end
from portico.prompting.said import Voices, concat, said
from portico.prompting.sources import TemplateSource, compile_source, named_sources, token_texts
from portico.prompting.syntax import Syntax, read_syntax
from portico.prompting.tail import learn_headers
from portico.prompting.tracking import TRACKING

__all__ = ["ChatTemplate"]

Clock = Callable[[], datetime.datetime]


def _now() -> datetime.datetime:
    return datetime.datetime.now()


class ChatTemplate:
    """One model's way to write a conversation.

    ``source`` is the Jinja text, a mapping of names to texts, or the list of ``{"name", "template"}`` that
    tokenizer_config.json uses. ``special_tokens`` are template variables such as ``bos_token`` (text, or the
    ``{"content": text}`` form of added tokens). ``clock`` gives ``strftime_now`` its time, local time by default;
    ``seconds`` is how long a rendering may take.

    Raises ``BadRequestError`` (param ``chat_template``) when the source is no valid template.
    """

    def __init__(
        self,
        source: TemplateSource,
        special_tokens: Mapping[str, Any] | None = None,
        *,
        clock: Clock = _now,
        seconds: float = MAX_SECONDS,
    ) -> None:
        self.source = source
        self.sources = named_sources(source)
        self.special_tokens = token_texts(special_tokens or {})
        self.clock = clock
        self.seconds = seconds
        self._capabilities: dict[str, Capabilities] = {}
        self._syntax: dict[str, Syntax] = {}
        self._headers: dict[str, tuple[str, ...]] = {}
        self._tracking: dict[str, jinja2.Template] = {}
        self._templates = {name: self._load(text) for name, text in self.sources.items()}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        template: str | None = None,
        **kwargs: Any,
    ) -> str:
        """The prompt's text.

        ``template`` names a member of the set; by default ``tool_use`` serves requests with tools, ``rag`` those
        with documents, where the set has them. ``continue_final_message`` may name the field to continue
        (``content``, ``reasoning_content``); True picks the content, or the reasoning of a message that has no content
        yet. ``kwargs`` are template variables. Raises ``BadRequestError`` with the template's own words when it
        refuses.
        """
        if any(type(message) is not dict and not isinstance(message, Mapping) for message in messages):
            raise BadRequestError("Each message must be an object.", param="messages")
        return self.render_exact(
            [_visible(message) for message in messages],
            {**kwargs, "tools": tools, "documents": documents, "add_generation_prompt": add_generation_prompt},
            continue_final_message=continue_final_message,
            template=template,
        )

    def render_exact(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        continue_final_message: bool | str = False,
        template: str | None = None,
        voices: Voices | None = None,
    ) -> str:
        """``render`` without the habits of transformers: the template sees just these messages and variables.

        With ``voices`` the text is ``Said`` where a client's text is in it.
        """
        add_generation_prompt = bool(variables.get("add_generation_prompt"))
        if continue_final_message and add_generation_prompt:
            raise BadRequestError(
                "add_generation_prompt and continue_final_message exclude each other; leave one out.",
                param="continue_final_message",
            )
        if voices is not None:
            messages = said(messages)
            variables = {name: said(value) if name in voices.variables else value for name, value in variables.items()}
        if continue_final_message:
            messages = open_end(messages, continue_final_message, voices)
        name = self.select(template, tools=bool(variables.get("tools")), documents=bool(variables.get("documents")))
        compiled = self._templates[name] if voices is None else self._tracked(name)
        context = compiled.new_context({**self.special_tokens, **variables, "messages": messages})
        try:
            with running(self.seconds):
                text = _gather(compiled.root_render_func(context), "".join if voices is None else concat)
        except RecursionError:
            raise _refusal("it calls itself too deeply") from None
        except MemoryError:
            raise _refusal("it needs too much memory") from None
        except Exception as error:
            raise _refusal(_words(error)) from None
        return cut_open_end(text) if continue_final_message else text

    def select(self, name: str | None = None, *, tools: bool = False, documents: bool = False) -> str:
        """Which member of the set serves a request."""
        if name is not None:
            if name in self._templates:
                return name
            known = ", ".join(sorted(self._templates))
            raise BadRequestError(
                f"The model has no chat template named {name!r}; it has: {known}.", param="chat_template"
            )
        wanted = (["tool_use"] if tools else []) + (["rag"] if documents else []) + ["default"]
        for candidate in wanted:
            if candidate in self._templates:
                return candidate
        if len(self._templates) == 1:
            return next(iter(self._templates))
        known = ", ".join(sorted(self._templates))
        raise BadRequestError(
            f"The model has several chat templates and none is the default; choose one of: {known}.",
            param="chat_template",
        )

    def capabilities(self, name: str | None = None) -> Capabilities:
        """What a member of the set can take; found once, when first asked for."""
        name = self.select(name)
        if name not in self._capabilities:
            self._capabilities[name] = probe(self._asker(name), self.sources[name])
        return self._capabilities[name]

    def _asker(self, name: str) -> Ask:
        return lambda messages, variables: self.render_exact(messages, variables, template=name)

    def answer_headers(self, name: str | None = None) -> tuple[str, ...]:
        """How a member of the set opens an answer; learned once, when first asked for."""
        name = self.select(name)
        if name not in self._headers:
            self._headers[name] = learn_headers(self._asker(name), self.capabilities(name))
        return self._headers[name]

    def syntax(self, name: str | None = None) -> Syntax:
        """What the syntax tree of a member of the set says; read once, when first asked for."""
        name = self.select(name)
        if name not in self._syntax:
            self._syntax[name] = read_syntax(self.sources[name])
        return self._syntax[name]

    def warm(self) -> None:
        """Find out now what the first requests would otherwise wait for: some 30 ms per member of the set."""
        for name in self.sources:
            self.syntax(name)
            self.answer_headers(name)

    def begins_with_bos(self, text: str) -> bool:
        """Whether a rendered ``text`` carries its own beginning-of-sequence token, so that no second one is added."""
        bos = self.special_tokens.get("bos_token")
        return bool(bos) and text.startswith(str(bos))

    def _load(self, text: str, environment: ChatEnvironment = ENVIRONMENT) -> jinja2.Template:
        template_globals = environment.make_globals({"strftime_now": self._strftime_now})
        return jinja2.Template.from_code(environment, compile_source(text, environment), template_globals)

    def _tracked(self, name: str) -> jinja2.Template:
        """A member of the set in the sandbox that remembers who said what."""
        if name not in self._tracking:
            self._tracking[name] = self._load(self.sources[name], TRACKING)
        return self._tracking[name]

    def _strftime_now(self, format: str) -> str:
        return self.clock().strftime(format)


def _visible(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as transformers 5 shows it: no None, reasoning under every name (a ``thinking`` of its own is kept)."""
    shown = {key: value for key, value in message.items() if value is not None}
    for name in REASONING_NAMES:
        if name in shown:
            reasoning = shown[name]
            return {"thinking": reasoning, "reasoning": reasoning, **shown, "reasoning_content": reasoning}
    return shown


def _gather(pieces: Iterator[str], joined: Callable[[list[str]], str]) -> str:
    """The rendered text, counted while it grows."""
    gathered: list[str] = []
    size = 0
    while some := list(islice(pieces, 256)):
        size += sum(map(len, some))
        bounded(size)
        gathered += some
    return joined(gathered)


def _words(error: Exception) -> str:
    """What went wrong, in the template's own words where it has any."""
    if type(error) in (TemplateError, TemplateLimitError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _refusal(words: str) -> BadRequestError:
    brief = words.encode("utf-8", "replace")[:1200].decode("utf-8", "ignore")
    return BadRequestError(f"The chat template cannot render the conversation: {brief}", param="messages")
