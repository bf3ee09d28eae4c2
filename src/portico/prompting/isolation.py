"""A chat template out of a request runs in a process that may be killed.

``limits`` bounds what a model's own template may cost. A template written to do harm has ways around any such list:
one comparison of two deeply shared lists is a single step that nothing in the same process can interrupt, one
``|string`` of them fills the memory. So templates that come in requests, where the operator allows them at all, are
compiled, asked and rendered in child processes with an address-space limit and no environment, which are killed when
time is up and replaced at the next request (``portico.child``). They are started when needed and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from portico.child import Children, answer_questions
from portico.errors import BadRequestError
from portico.prompting.capabilities import Capabilities
from portico.prompting.said import Said, Voices, plain, unsaid
from portico.prompting.syntax import Syntax
from portico.prompting.template import ChatTemplate

__all__ = ["PROCESSES", "IsolatedTemplate", "TemplateProcesses"]

PROCESSES = 2
SECONDS = 2.0  # of processor time per call, compiling included
WALL_SECONDS = 60.0  # for a machine that is busy with other things: what computes ends by its processor time
MEMORY = 512 * 1024 * 1024  # bytes of address space beyond what the fresh process uses


class _Call(msgspec.Struct):
    """One question to a child: to inspect ``source``, or with ``messages`` to render it."""

    source: str
    special_tokens: dict[str, Any]
    messages: list[Any] | None = None
    variables: dict[str, Any] = {}
    continue_final_message: bool | str = False
    voices: Voices | None = None


class _Inspection(msgspec.Struct):
    capabilities: Capabilities
    syntax: Syntax
    headers: tuple[str, ...]


class _Reply(msgspec.Struct):
    """What the child found: a text, and who said what in it where that was asked, or an inspection."""

    text: str | None = None
    by_client: bytes | None = None
    inspection: _Inspection | None = None


# -- here -------------------------------------------------------------------------------------------------------------


class TemplateProcesses:
    """The child processes. Calls block, as many at a time as there are processes; any thread may make them."""

    def __init__(self) -> None:
        self._children = Children(__name__, _Reply, seconds=WALL_SECONDS, count=PROCESSES)

    @property
    def pids(self) -> list[int]:
        """The processes now running."""
        return self._children.pids

    def template(self, source: str, special_tokens: Mapping[str, Any]) -> IsolatedTemplate:
        """The template ``source``, looked at in the child. Raises ``BadRequestError`` where it is none."""
        return IsolatedTemplate(self, source, special_tokens)

    def call(self, call: _Call) -> _Reply:
        """Let the child do it. Raises ``BadRequestError`` with the template's words, or when limits are passed."""
        reply = self._children.ask(call)
        if reply is None:
            raise BadRequestError(
                "The chat template cannot render the conversation: it takes too long or needs too much memory.",
                param="chat_template",
            )
        return reply

    def close(self) -> None:
        """End the children; the next call would start another."""
        self._children.close()


class IsolatedTemplate:
    """A template in the child, with the methods of ``ChatTemplate`` that a renderer uses. It has one member."""

    def __init__(self, process: TemplateProcesses, source: str, special_tokens: Mapping[str, Any]) -> None:
        self.source = source
        self.special_tokens = dict(special_tokens)
        self._process = process
        found = process.call(_Call(source, self.special_tokens)).inspection
        assert found is not None
        self._found = found

    def select(self, name: str | None = None, *, tools: bool = False, documents: bool = False) -> str:
        return "default"

    def capabilities(self, name: str | None = None) -> Capabilities:
        return self._found.capabilities

    def syntax(self, name: str | None = None) -> Syntax:
        return self._found.syntax

    def answer_headers(self, name: str | None = None) -> tuple[str, ...]:
        return self._found.headers

    def begins_with_bos(self, text: str) -> bool:
        bos = self.special_tokens.get("bos_token")
        return bool(bos) and text.startswith(str(bos))

    def render_exact(
        self,
        messages: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        continue_final_message: bool | str = False,
        template: str | None = None,
        voices: Voices | None = None,
    ) -> str:
        what = unsaid(messages), unsaid(variables), continue_final_message, voices
        reply = self._process.call(_Call(self.source, self.special_tokens, *what))
        text = reply.text or ""
        return text if reply.by_client is None else Said(text, reply.by_client)


# -- there ------------------------------------------------------------------------------------------------------------


def _serve() -> None:
    """The child: answer calls until the parent is gone."""
    template = lru_cache(maxsize=8)(_template)

    def work(call: _Call) -> _Reply:
        return _answer(template(call.source, tuple(sorted(call.special_tokens.items()))), call)

    answer_questions(work, _Call, cpu_seconds=SECONDS, memory=MEMORY)


def _template(source: str, special_tokens: tuple[tuple[str, Any], ...]) -> ChatTemplate:
    return ChatTemplate(source, dict(special_tokens))


def _answer(template: ChatTemplate, call: _Call) -> _Reply:
    if call.messages is None:
        return _Reply(inspection=_Inspection(template.capabilities(), template.syntax(), template.answer_headers()))
    text = template.render_exact(
        call.messages, call.variables, continue_final_message=call.continue_final_message, voices=call.voices
    )
    return _Reply(text=plain(text), by_client=text.by_client if isinstance(text, Said) else None)


if __name__ == "__main__":
    _serve()
