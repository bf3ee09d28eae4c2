"""Harmony, the format of gpt-oss: every message has a header (role, recipient, channel, content type) and a body.

    <|start|>ROLE [to=RECIPIENT][<|channel|>CHANNEL][ CONTENT-TYPE]<|message|>BODY<|end|>   (<|call|> after a call)

Rules, as the reference renderer (openai-harmony) keeps them
    * A system message of the model's own comes first: identity, knowledge cutoff, date, effort, channels.
    * What clients call system and developer messages are the developer's instructions: one message, with the tools as a
      TypeScript namespace ``functions``.
    * Thoughts go to ``analysis``, text beside calls to ``commentary``, answers to ``final``; a call is a ``commentary``
      message to its function, its result one from the function to the assistant. Parallel calls are one after another.
    * Thoughts before the last ``final`` answer are dropped.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from portico.errors import BadRequestError
from portico.prompting.capabilities import Capabilities
from portico.prompting.messages import normalise
from portico.prompting.renderers.base import AnswerSchema, Rendered, RenderRequest, plain_tools
from portico.prompting.renderers.typescript import function_type
from portico.prompting.said import Said, concat, disowned, dumps, holds_said, join, plain, said, unsaid
from portico.prompting.syntax import Syntax
from portico.prompting.variables import nearest_effort, request_variables

__all__ = ["HarmonyRenderer"]

IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
CUTOFF = "2024-06"
CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
FUNCTION_CHANNEL = "Calls to these tools must go to the commentary channel: 'functions'."
EFFORTS = ("low", "medium", "high")

TAKES = Capabilities(developer=True, object_arguments=False)
SYNTAX = Syntax("string", frozenset({"model_identity", "knowledge_cutoff", "current_date", "reasoning_effort"}), {})


class HarmonyRenderer:
    """Writes Harmony. ``clock`` tells the date in the system message; ``defaults`` are the operator's values for
    ``model_identity``, ``knowledge_cutoff``, ``current_date`` and ``reasoning_effort``, which requests may set too."""

    def __init__(
        self,
        *,
        defaults: Mapping[str, Any] | None = None,
        allowed: Collection[str] = (),
        clock: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self.defaults = dict(defaults or {})
        self.allowed = frozenset(allowed)
        self.clock = clock

    def render(self, request: RenderRequest) -> Rendered:
        opens = request.opens_answer
        conversation = normalise(request.messages, TAKES)  # no model of this family sees
        messages, tools = conversation.messages, plain_tools(request.tools)
        kwargs, passed_over = request_variables(request.kwargs, SYNTAX, allowed=self.allowed)
        answer = _answer(request.answer_schema)
        if (voices := request.voices(SYNTAX)) is not None:
            answer = Said(answer)
            messages, tools, kwargs = said(messages), said(tools), said(kwargs)
            if request.continue_final_message:
                messages[-1] = {**messages[-1], "content": disowned(messages[-1]["content"], voices.own)}
        facts = {
            **self.defaults,
            **({"reasoning_effort": request.reasoning_effort} if request.reasoning_effort else {}),
        }
        facts.update(kwargs)
        instructions = join(
            "\n\n",
            (m["content"] for m in messages if m["role"] in ("system", "developer") and m["content"]),
        )
        pieces = [_message("system", self._system(facts, bool(tools)))]
        if instructions or tools or answer:
            pieces.append(_message("developer", _developer(instructions, tools, answer)))
        dialogue = [message for message in messages if message["role"] not in ("system", "developer")]
        pieces += _Dialogue(dialogue, bool(request.continue_final_message)).pieces()
        tail = pieces[-1] if request.continue_final_message else ""
        if opens:
            tail = "<|start|>assistant"
            pieces.append(tail)
        return Rendered(
            text=concat(pieces),
            tail=plain(tail),
            media=conversation.media,
            left_out=conversation.left_out,
            passed_over=passed_over,
        )

    def _system(self, facts: Mapping[str, Any], with_tools: bool) -> str:
        date = facts.get("current_date") or self.clock().strftime("%Y-%m-%d")
        effort = nearest_effort(str(facts.get("reasoning_effort") or "medium"), EFFORTS)
        text = (
            f"{facts.get('model_identity') or IDENTITY}\nKnowledge cutoff: {facts.get('knowledge_cutoff') or CUTOFF}\n"
            f"Current date: {date}\n\nReasoning: {effort}\n\n{CHANNELS}"
            + (f"\n{FUNCTION_CHANNEL}" if with_tools else "")
        )
        return Said(text) if holds_said(facts) else text


def _message(author: str, body: str, *, to: str = "", channel: str = "", kind: str = "", end: str = "<|end|>") -> str:
    header = concat([author, *([" to=", to] if to else []), *(["<|channel|>", channel] if channel else [])])
    return concat(["<|start|>", header, " " if kind else "", kind, "<|message|>", body, end])


def _developer(instructions: str, tools: Sequence[Mapping[str, Any]] | None, answer: str) -> str:
    sections = ["# Instructions", instructions] if instructions else []
    if tools:
        functions = join("\n", (_function(tool.get("function", tool)) for tool in tools))
        opening, closing = "## functions\n\nnamespace functions {\n\n", "\n} // namespace functions"
        sections += ["# Tools", concat([opening, functions, closing])]
    if answer:
        sections += ["# Response Formats", answer]
    return join("\n\n", sections)


def _answer(wanted: AnswerSchema | None) -> str:
    """The form of the answer, with its purpose as a comment."""
    if wanted is None:
        return ""
    purpose = f"// {wanted.description}\n" if wanted.description else ""
    return f"## {wanted.name}\n\n{purpose}{wanted.json}"


def _function(function: Mapping[str, Any]) -> str:
    """A function's type, in which nothing is a control token."""
    return Said(function_type(unsaid(function))) if holds_said(function) else function_type(function)


class _Dialogue:
    """The messages after the instructions, as Harmony messages."""

    def __init__(self, messages: Sequence[dict[str, Any]], open_end: bool) -> None:
        self.messages = messages
        self.open_end = open_end
        finals = [i for i, m in enumerate(messages) if m["role"] == "assistant" and not m.get("tool_calls")]
        if open_end:  # the answer to be continued is not over yet
            finals = [i for i in finals if i < len(messages) - 1]
        self.last_final = max(finals, default=-1)
        self.calls: list[str] = []  # functions called and not answered yet
        self.names: dict[Any, str] = {}

    def pieces(self) -> list[str]:
        pieces: list[str] = []
        for i, message in enumerate(self.messages):
            role = message["role"]
            if role == "assistant":
                pieces += self._assistant(message, drop_thoughts=i < self.last_final or i == self.last_final)
            elif role == "tool":
                pieces.append(self._result(message, i))
            else:
                name = message.get("name")
                author = concat([role, ":", name]) if isinstance(name, str) else role
                pieces.append(_message(author, message["content"]))
        if self.open_end:
            if not self.messages or self.messages[-1]["role"] != "assistant":
                raise BadRequestError("Only an assistant message can be continued.", param="continue_final_message")
            last = pieces[-1]
            pieces[-1] = last[: last.rindex("<|")]
        return pieces

    def _assistant(self, message: Mapping[str, Any], *, drop_thoughts: bool) -> list[str]:
        thought, text, calls = message.get("reasoning"), message["content"], message.get("tool_calls", ())
        pieces = []
        if thought and not drop_thoughts:
            pieces.append(_message("assistant", thought, channel="analysis"))
        if text or not (calls or pieces):
            pieces.append(_message("assistant", text or "", channel="commentary" if calls else "final"))
        for call in calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if not isinstance(arguments, str):
                arguments = dumps(arguments)
            pieces.append(
                _message(
                    "assistant", arguments, to="functions." + name, channel="commentary", kind="json", end="<|call|>"
                )
            )
            self.calls.append(name)
            self.names[call.get("id")] = name
        return pieces

    def _result(self, message: Mapping[str, Any], index: int) -> str:
        name = message.get("name") or self.names.get(message.get("tool_call_id"))
        if name is None and self.calls:
            name = self.calls[0]
        if name is None:
            raise BadRequestError(
                f"messages: the tool result at position {index} of the dialogue answers no call; give it a name.",
                param="messages",
            )
        if name in self.calls:
            self.calls.remove(name)
        return _message("functions." + name, message["content"], to="assistant", channel="commentary")
