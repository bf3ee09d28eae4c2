"""From a request to the tokens that the engine gets: rendering, then tokenizing, without holding up the event loop.

Short prompts are made where they are asked for, because a thread costs more than they do; longer ones in a small pool
of threads. ``INLINE_CHARACTERS`` is the border, measured (benchmarks/prompting.py): what is below it blocks the loop
for a third of a millisecond, or about one with a tokenizer that has no fast path. Templates out of requests wait for
their processes in threads of their own, so that a harmful one keeps nobody else waiting. What cannot fit the model's
context is refused before it is tokenized; what is long is tokenized in parts, until nobody waits for it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from portico.errors import BadRequestError, ContextLengthError, NotSupportedError
from portico.events import Media
from portico.prompting.infill import infill_ids
from portico.prompting.isolation import PROCESSES, IsolatedTemplate, TemplateProcesses
from portico.prompting.left_out import left_out
from portico.prompting.messages import MediaPart
from portico.prompting.renderers import AnswerSchema, JinjaRenderer, Renderer, RenderRequest
from portico.prompting.said import Said, plain
from portico.prompting.structure import Structure
from portico.prompting.template import ChatTemplate
from portico.prompting.tokenizers import Tokenizer
from portico.threads import Threads

__all__ = ["Prompt", "Prompter"]

INLINE_CHARACTERS = 4_000
LONG_PROMPTS = Threads("prompting", 2)
STRANGERS_TEMPLATES = Threads("templates", PROCESSES, waiting=64)  # each may take seconds

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prompt:
    """What the engine gets and what parsing needs to know of it.

    ``text`` is for people where a renderer wrote tokens itself. ``tail`` is the end of the prompt from the last
    assistant header on. ``media`` are the media that the placeholders in ``text`` stand for, in order, and ``places``
    before which token each stands, where the template did not write the model's own placeholders. Once ``perceived``
    they have their room among the tokens.
    """

    token_ids: list[int]
    text: str = ""
    tail: str = ""
    media: Sequence[MediaPart] = ()
    places: Sequence[int] = ()
    perceived: Media | None = None
    thumbnails: Sequence[bytes] = ()  # of what is perceived, PNG, empty for sounds; for people
    passed_over: Sequence[str] = field(default=())  # names in chat_template_kwargs that the model does not know
    left_out: Sequence[str] = field(default=())  # what of the messages did not reach the prompt, for people
    rendering: float = field(default=0.0, compare=False)  # seconds that the template took
    tokenizing: float = field(default=0.0, compare=False)  # seconds that the tokenizer took


class Senses(Protocol):
    """What gives a prompt the media that it mentions."""

    async def __call__(self, prompt: Prompt) -> Prompt:
        """The prompt with room for its media, ``perceived``. Raises ``BadRequestError`` naming the one at fault."""
        ...

    def close(self) -> None: ...


class Prompter:
    """Makes prompts for one model.

    ``template`` is its chat template or any other renderer; None for a model that only completes text. ``modalities``
    are what the engine perceives besides text (``image``, ``audio``, ``video``); ``marked`` says that it wants to be
    told where media stand, else the template writes placeholders; ``senses`` gives a prompt its media. ``defaults`` are
    template variables set by the operator, ``allowed_kwargs`` names that requests may set though the template does not
    seem to read them.
    ``show_schema`` tells the schema of a JSON answer also to models that have no place of their own for it.
    ``request_templates`` accepts ``chat_template`` in requests; those templates run in a process of their own.
    ``control_tokens_in_messages`` lets clients' texts spell control tokens; without, only a message that the model is
    to continue may hold some: the family's ``own_markers`` of thoughts and calls. ``context_length`` bounds, in tokens,
    what is tokenized at all.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | Renderer | None = None,
        *,
        modalities: Collection[str] = (),
        marked: bool = False,
        senses: Senses | None = None,
        defaults: Mapping[str, Any] | None = None,
        allowed_kwargs: Collection[str] = (),
        request_templates: bool = False,
        show_schema: bool = False,
        control_tokens_in_messages: bool = False,
        own_markers: Collection[str] = (),
        context_length: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.modalities = frozenset(modalities)
        self._marked, self._senses = marked, senses
        self.defaults = dict(defaults or {})
        self.allowed_kwargs = frozenset(allowed_kwargs)
        self.show_schema = show_schema
        self._most_bytes = None if context_length is None else context_length * tokenizer.bytes_per_token
        self._untrusted = TemplateProcesses() if request_templates else None
        self.structure = None if control_tokens_in_messages else Structure(tokenizer, own_markers)
        self.renderer = self._jinja(template) if isinstance(template, ChatTemplate) else template
        if isinstance(template, ChatTemplate):
            template.warm()
        if template is not None and self.structure is not None:
            self.structure.warm()

    @property
    def takes_templates(self) -> bool:
        """Whether requests may bring a template."""
        return self._untrusted is not None

    def close(self) -> None:
        """End the processes that run templates out of requests, and those that decode media, if there are any."""
        if self._senses is not None:
            self._senses.close()
        if self._untrusted is not None:
            self._untrusted.close()

    # -- off the event loop where it pays -----------------------------------------------------------------------------

    async def chat(self, messages: object, tools: object = None, **options: Any) -> Prompt:
        """The prompt of a conversation; takes what ``render_chat`` takes."""
        size = sum(map(_characters, (messages, tools, *options.values())))
        work = partial(self.render_chat, messages, tools, **options)
        if options.get("chat_template") is not None:
            prompt = await STRANGERS_TEMPLATES.run(work)
        else:
            prompt = await _off_loop(size, work)
        if prompt.media and self._senses is not None:
            return await self._senses(prompt)
        return prompt

    async def completion(
        self, prompt: str | Sequence[int], *, add_special_tokens: bool = True, to_be_cut: bool = False
    ) -> Prompt:
        """The prompt of a plain completion: text or token ids."""
        return await _off_loop(
            len(prompt), partial(self.encode, prompt, add_special_tokens=add_special_tokens, to_be_cut=to_be_cut)
        )

    async def infill(
        self, prefix: str, suffix: str, files: Sequence[tuple[str, str]] = (), *, param: str = "suffix"
    ) -> Prompt:
        """The prompt for what belongs between two texts; ``files`` are others, as name and text.

        Raises ``NotSupportedError`` on ``param`` where the model has no tokens for a gap.
        """
        size = len(prefix) + len(suffix) + sum(len(text) for _, text in files)
        ids = await _off_loop(size, partial(infill_ids, self.tokenizer, prefix, suffix, files))
        if ids is None:
            raise NotSupportedError(
                "This model cannot fill in the middle: its vocabulary has no tokens for it. Leave the suffix out.",
                param=param,
            )
        return Prompt(ids, prefix)

    def cut(self, prompt: Prompt, limit: int, side: str = "left") -> Prompt:
        """``prompt`` with at most ``limit`` tokens: the last ones, or with ``side`` ``right`` the first ones."""
        if len(prompt.token_ids) <= limit:
            return prompt
        if prompt.media:
            raise BadRequestError(
                "A prompt with images or sounds cannot be cut; leave 'truncate_prompt_tokens' out.",
                param="truncate_prompt_tokens",
            )
        kept = prompt.token_ids[-limit:] if side == "left" else prompt.token_ids[:limit]
        text = self.tokenizer.decode(kept, skip_special_tokens=False)
        return replace(prompt, token_ids=kept, text=text, tail=prompt.tail if side == "left" else "")

    # -- the same, here and now ---------------------------------------------------------------------------------------

    def render_chat(
        self,
        messages: object,
        tools: object = None,
        *,
        documents: object = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool | str = False,
        reasoning_effort: str | None = None,
        thinking: bool | None = None,
        thinking_budget: int | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: object = None,
        add_special_tokens: bool = False,
        response_format: object = None,
        to_be_cut: bool = False,
    ) -> Prompt:
        """The prompt of a conversation.

        ``messages`` and ``tools`` are the client's, in the shape of OpenAI's chat API. ``add_special_tokens`` lets the
        tokenizer put around the text what it puts around any text, but never a second BOS; a prompt that is
        ``to_be_cut`` may be longer than the context. Raises ``BadRequestError``
        naming the field at fault.
        """
        renderer = self.renderer if chat_template is None else self._request_renderer(chat_template)
        if renderer is None:
            raise NotSupportedError(
                "This model has no chat template: use /v1/completions, or start the server with --chat-template.",
                param="messages",
            )
        request = RenderRequest(
            messages=messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            reasoning_effort=reasoning_effort,
            thinking=thinking,
            thinking_budget=thinking_budget,
            kwargs=chat_template_kwargs,
            modalities=self.modalities,
            mark=f"<medium {secrets.token_hex(16)} " if self._marked else None,
            answer_schema=AnswerSchema.of(response_format),
            show_schema=self.show_schema,
            structure=self.structure,
        )
        began = time.perf_counter()
        try:
            rendered = renderer.render(request)
        except RecursionError:
            raise BadRequestError("The conversation or its tools are nested too deeply.", param="messages") from None
        between = time.perf_counter()
        ids, text, media = rendered.token_ids, plain(rendered.text), rendered.media
        places: list[int] = []
        if ids is None:
            if not to_be_cut:
                self._check_size(rendered.text, "messages")
            add = add_special_tokens and not rendered.begins_with_bos
            if media and request.mark is not None:
                ids, text, media, places = self._tokenized_around(rendered.text, request.mark, media, add)
            else:
                ids = self._tokenized(rendered.text, add)
        return Prompt(
            ids,
            text,
            rendered.tail,
            media,
            places,
            passed_over=rendered.passed_over,
            left_out=[*rendered.left_out, *left_out(messages, text, tools)],
            rendering=between - began,
            tokenizing=time.perf_counter() - between,
        )

    def _tokenized(self, text: str, add_special_tokens: bool) -> list[int]:
        if isinstance(text, Said) and self.structure is not None:
            pieces = self.structure.pieces(text)
            return self.tokenizer.encode_pieces(pieces, add_special_tokens=add_special_tokens)
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def _tokenized_around(
        self, text: str, mark: str, media: Sequence[MediaPart], add_special_tokens: bool
    ) -> tuple[list[int], str, list[MediaPart], list[int]]:
        """The tokens of a text between its marks, the text for people, and the media that it has, with their places."""
        special = self.tokenizer.special
        ids = list(special.prefix_ids) if add_special_tokens else []
        shown, there, places, at = "", [], [], 0
        for found in re.finditer(f"{re.escape(mark)}([0-9]+)>", plain(text)):
            ids += self._tokenized(text[at : found.start()], False)
            medium = media[int(found[1])]
            shown += f"{plain(text)[at : found.start()]}<{medium.kind}>"
            there.append(medium)
            places.append(len(ids))
            at = found.end()
        ids += self._tokenized(text[at:], False)
        ids += special.suffix_ids if add_special_tokens else ()
        return ids, shown + plain(text)[at:], there, places

    def encode(
        self, prompt: str | Sequence[int], *, add_special_tokens: bool = True, to_be_cut: bool = False
    ) -> Prompt:
        """The prompt of a plain completion. One that is ``to_be_cut`` may be longer than the context."""
        if isinstance(prompt, str):
            if not to_be_cut:
                self._check_size(prompt, None)
            began = time.perf_counter()
            ids = self.tokenizer.encode(prompt, add_special_tokens=add_special_tokens)
            return Prompt(ids, prompt, tokenizing=time.perf_counter() - began)
        return Prompt(list(prompt), self.tokenizer.decode(prompt, skip_special_tokens=False))

    def _check_size(self, text: str, param: str | None) -> None:
        """Raise where the text has more bytes than the longest tokens of a full context."""
        most = self._most_bytes
        if most is not None and len(text) > most // 4 and (size := len(text.encode("utf-8", "replace"))) > most:
            raise ContextLengthError(
                f"The prompt has {size:,} bytes; the model's context cannot hold more than {most:,}.", param=param
            )

    def _jinja(self, template: ChatTemplate | IsolatedTemplate) -> Renderer:
        return JinjaRenderer(template, defaults=self.defaults, allowed=self.allowed_kwargs)

    def _request_renderer(self, source: object) -> Renderer:
        if self._untrusted is None:
            raise BadRequestError(
                "This server takes no chat templates from requests; leave chat_template out.", param="chat_template"
            )
        if not isinstance(source, str):
            raise BadRequestError("chat_template must be a Jinja text.", param="chat_template")
        return self._jinja(self._untrusted.template(source, self.tokenizer.special_tokens))


async def _off_loop(characters: int, work: Callable[[], Result]) -> Result:
    """Do ``work`` here if it is short, else in a thread."""
    return work() if characters <= INLINE_CHARACTERS else await LONG_PROMPTS.run(work)


def _characters(value: object, depth: int = 12) -> int:
    """Roughly how many characters a JSON value holds; stops counting when it is clearly much."""
    if isinstance(value, str):
        return len(value)
    total = 0
    if depth and isinstance(value, Mapping):
        for item in value.values():
            total += 8 + _characters(item, depth - 1)
            if total > INLINE_CHARACTERS:
                break
    elif depth and isinstance(value, list | tuple):
        for item in value:
            total += 2 + _characters(item, depth - 1)
            if total > INLINE_CHARACTERS:
                break
    return total
