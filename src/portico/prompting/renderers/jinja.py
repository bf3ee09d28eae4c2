"""The usual renderer: the model's own Jinja chat template, given what it can take."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from portico.prompting.isolation import IsolatedTemplate
from portico.prompting.messages import normalise
from portico.prompting.renderers.base import AnswerSchema, Rendered, RenderRequest, plain_tools
from portico.prompting.said import plain
from portico.prompting.tail import prompt_tail
from portico.prompting.template import ChatTemplate
from portico.prompting.variables import reasoning_variables, request_variables

__all__ = ["JinjaRenderer"]


class JinjaRenderer:
    """Renders with ``template``. ``defaults`` are the operator's variables, ``allowed`` names that requests may set
    although the template does not seem to read them."""

    def __init__(
        self,
        template: ChatTemplate | IsolatedTemplate,
        *,
        defaults: Mapping[str, Any] | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        self.template = template
        self.defaults = dict(defaults or {})
        self.allowed = frozenset(allowed)

    def render(self, request: RenderRequest) -> Rendered:
        template = self.template
        opens, documents = request.opens_answer, request.checked_documents()
        name = template.select(tools=bool(request.tools), documents=bool(documents))
        takes = template.capabilities(name)
        syntax = template.syntax(name)
        has_place = "response_format" in syntax.variables
        messages = request.messages if has_place else request.messages_with_schema
        conversation = normalise(messages, takes, modalities=request.modalities, mark=request.mark)
        kwargs, passed_over = request_variables(request.kwargs, syntax, template.special_tokens, self.allowed)
        variables = {
            **self.defaults,
            **reasoning_variables(syntax, request.reasoning_effort, request.thinking, request.thinking_budget),
            **kwargs,
            **(_response_format(request.answer_schema) if has_place else {}),
            "tools": plain_tools(request.tools, full=not takes.bare_tools),
            "documents": documents,
            "add_generation_prompt": opens,
        }
        text = template.render_exact(
            conversation.messages,
            variables,
            continue_final_message=request.continue_final_message,
            template=name,
            voices=request.voices(syntax, kwargs),
        )
        return Rendered(
            text=text,
            tail=prompt_tail(plain(text), template.answer_headers(name)),
            begins_with_bos=template.begins_with_bos(text),
            media=conversation.media,
            passed_over=passed_over,
            left_out=conversation.left_out,
        )


def _response_format(wanted: AnswerSchema | None) -> dict[str, Any]:
    """The schema where templates look for it."""
    return {} if wanted is None else {"response_format": {"type": "json_schema", "json_schema": wanted.schema}}
