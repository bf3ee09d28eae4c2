"""What every way of writing a prompt has in common: a conversation in, its text or token ids out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from portico.errors import BadRequestError
from portico.prompting.messages import MediaPart
from portico.prompting.said import Voices
from portico.prompting.structure import Structure
from portico.prompting.syntax import Syntax

__all__ = ["AnswerSchema", "RenderRequest", "Rendered", "Renderer", "plain_tools"]


@dataclass(frozen=True)
class AnswerSchema:
    """The JSON schema that an answer follows, with its name and what it is for, where the client says so."""

    schema: Mapping[str, Any]
    name: str = "answer"
    description: str = ""

    @classmethod
    def of(cls, response_format: object) -> AnswerSchema | None:
        """The schema in a ``response_format`` of OpenAI's; None where there is none."""
        if not isinstance(response_format, Mapping):
            return None
        inside = response_format.get("json_schema") or response_format
        schema = inside.get("schema") if isinstance(inside, Mapping) else None
        if not isinstance(schema, Mapping):
            return None
        name, description = inside.get("name"), inside.get("description") or schema.get("description")
        return cls(schema, *(text if isinstance(text, str) else "" for text in (name or "answer", description)))

    @property
    def json(self) -> str:
        """The schema as JSON text."""
        return json.dumps(self.schema, ensure_ascii=False)

    def in_words(self) -> str:
        """What a model is told that knows no form of its own for this."""
        purpose = f" ({self.description})" if self.description else ""
        return f"Answer in JSON{purpose} that follows this schema:\n{self.json}"


def _is_system(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """A conversation as the client sent it, and how it is to be continued.

    ``messages`` and ``tools`` are in the shape of OpenAI's chat API; ``modalities`` are what the engine perceives
    besides text. ``add_generation_prompt`` None means: unless the last message is to be continued.
    """

    messages: object
    tools: object = None
    documents: object = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | str = False
    reasoning_effort: str | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    kwargs: object = None  # the request's chat_template_kwargs
    modalities: frozenset[str] = frozenset()
    mark: str | None = None  # what media are written as, before number and '>'; None: the template's own placeholders
    answer_schema: AnswerSchema | None = None
    show_schema: bool = False  # also where the model has no place of its own for it
    structure: Structure | None = None  # None: control tokens in messages are control tokens

    def voices(self, syntax: Syntax, variables: Collection[str] = ()) -> Voices | None:
        """What came from the client, where it has to be told apart from what a template of this ``syntax`` says, beside
        tools, documents, the answer's schema and these ``variables``; None where it need not."""
        answer = self.answer_schema
        wanted = None if answer is None else (answer.schema, answer.name, answer.description)
        given = (self.messages, self.tools, self.documents, self.kwargs, wanted)
        if self.structure is None or not self.structure.concerns(syntax, *given):
            return None
        return Voices(frozenset({"tools", "documents", "response_format", *variables}), self.structure.own)

    @property
    def messages_with_schema(self) -> object:
        """The messages, behind their first system messages the schema, if it is to be shown."""
        if self.answer_schema is None or not self.show_schema or not isinstance(self.messages, list):
            return self.messages
        leading = next((i for i, one in enumerate(self.messages) if not _is_system(one)), len(self.messages))
        told = {"role": "system", "content": self.answer_schema.in_words()}
        return [*self.messages[:leading], told, *self.messages[leading:]]

    def checked_documents(self) -> list[dict[str, Any]] | None:
        """The documents; raises where they are no list of objects."""
        if self.documents is None:
            return None
        if not isinstance(self.documents, list | tuple):
            raise BadRequestError("documents must be a list of objects.", param="documents")
        for i, document in enumerate(self.documents):
            if not isinstance(document, Mapping):
                raise BadRequestError(f"documents[{i}] must be an object.", param=f"documents[{i}]")
        return [dict(document) for document in self.documents]

    @property
    def opens_answer(self) -> bool:
        """Whether the prompt ends with an assistant header; raises where the client contradicts itself."""
        if self.continue_final_message and self.add_generation_prompt:
            raise BadRequestError(
                "add_generation_prompt and continue_final_message exclude each other; leave one out.",
                param="continue_final_message",
            )
        return not self.continue_final_message if self.add_generation_prompt is None else self.add_generation_prompt


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A prompt before it is tokens. ``text`` is ``Said`` where control tokens have to be told from the client's text.

    ``token_ids`` is set by renderers that write tokens, not text.
    ``tail`` tells parsing where the answer starts; ``begins_with_bos`` that no BOS may be added; ``passed_over`` are
    names of ``chat_template_kwargs`` that mean nothing to this model, ``left_out`` what of the messages did not reach
    the prompt, for people.
    """

    text: str
    tail: str
    token_ids: list[int] | None = None
    begins_with_bos: bool = False
    media: list[MediaPart] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


class Renderer(Protocol):
    """One model's way to write a conversation. Pure and safe to call from many threads at once."""

    def render(self, request: RenderRequest) -> Rendered:
        """Write the prompt. Raises ``BadRequestError`` where the conversation cannot be written."""
        ...


def plain_tools(tools: object, *, full: bool = False) -> list[dict[str, Any]] | None:
    """The request's tools as models know them: without the server's own instructions (``strict``).

    ``full`` adds the description and parameters that a tool may lack. No tools are None, as templates expect it.
    """
    if not tools:
        return None
    if not isinstance(tools, Sequence) or isinstance(tools, str | bytes):
        raise BadRequestError("tools must be a list.", param="tools")
    plain = []
    for i, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise BadRequestError(f"tools[{i}] must be an object.", param=f"tools[{i}]")
        function = tool.get("function")
        if isinstance(function, Mapping):
            function = {key: value for key, value in function.items() if key not in ("strict", "defer_loading")}
            if full:
                function = {
                    **function,
                    "description": function.get("description") or "",
                    "parameters": function.get("parameters") or {"type": "object", "properties": {}},
                }
            tool = {**tool, "function": function}
        plain.append(dict(tool))
    return plain
