"""What every way of writing a prompt has in common: a conversation in, its text or token ids out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from portico.errors import BadRequestError
from portico.prompting.messages import MediaPart
from portico.prompting.said import Voices
from portico.prompting.structure import Structure
from portico.prompting.syntax import Syntax

__all__ = ["RenderRequest", "Rendered", "Renderer", "plain_tools"]


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
    structure: Structure | None = None  # None: control tokens in messages are control tokens

    def voices(self, syntax: Syntax, variables: Collection[str] = ()) -> Voices | None:
        """What came from the client, where it has to be told apart from what a template of this ``syntax`` says, beside
        tools, documents and these ``variables``; None where it need not."""
        given = (self.messages, self.tools, self.documents, self.kwargs)
        if self.structure is None or not self.structure.concerns(syntax, *given):
            return None
        return Voices(frozenset({"tools", "documents", *variables}), self.structure.own)

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
    names of ``chat_template_kwargs`` that mean nothing to this model.
    """

    text: str
    tail: str
    token_ids: list[int] | None = None
    begins_with_bos: bool = False
    media: list[MediaPart] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


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
