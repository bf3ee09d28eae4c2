"""DeepSeek V3.2 and V4, whose checkpoints come with Python code instead of a chat template.

    <bos>SYSTEM<｜User｜>QUESTION<｜Assistant｜><think>THOUGHT</think>ANSWER + CALLS<eos>

Rules
    * The assistant header ends with ``<think>`` when the thought is to be written or shown, else with ``</think>``.
      Thoughts before the last question are dropped (V4 keeps them all when the request has tools).
    * Calls are DSML: ``<｜DSML｜invoke name="…">`` with ``parameter``s: strings as they are, the rest as JSON.
    * V3.2 puts results into ``<function_results>`` right after the answer that called, and goes on thinking there; V4
      puts each into ``<tool_result>`` inside the next question, in the order of the calls.
    * V4 opens a thinking conversation with the words for its reasoning effort.

The words that introduce tools and efforts belong to the model, so they are read from the code beside its weights
(``encoding/encoding_*.py``: its string constants; nothing of it is run).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from portico.errors import BadRequestError
from portico.prompting.capabilities import Capabilities
from portico.prompting.messages import normalise
from portico.prompting.renderers.base import Rendered, RenderRequest, plain_tools
from portico.prompting.said import Said, concat, disowned, dumps, join, plain, said
from portico.prompting.syntax import Syntax
from portico.prompting.variables import EFFORTS, nearest_effort, request_variables

__all__ = ["DeepSeekRenderer", "read_words"]

Version = Literal["v3.2", "v4"]

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT, REMINDER = "<｜User｜>", "<｜Assistant｜>", "<｜latest_reminder｜>"
THINK, ANSWER = "<think>", "</think>"
DSML = "｜DSML｜"
TASKS = frozenset({"action", "query", "authority", "domain", "title", "read_url"})

TAKES = {"v3.2": Capabilities(text_arguments=False), "v4": Capabilities(text_arguments=False, developer=True)}
SYNTAX = Syntax("string", frozenset({"thinking", "enable_thinking", "drop_thinking", "reasoning_effort"}), {})
MAX_CODE = 1_000_000  # bytes of encoding_*.py that are read


class DeepSeekRenderer:
    """Writes prompts for ``version``. ``words`` are the model's own (see ``read_words``); without them a conversation
    with tools is refused. ``defaults`` are the operator's values for ``thinking``, ``drop_thinking`` and
    ``reasoning_effort``, which requests may set too."""

    def __init__(
        self,
        version: Version,
        words: Mapping[str, Any] | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
        allowed: Collection[str] = (),
    ) -> None:
        self.version = version
        self.words = dict(words or {})
        self.defaults = dict(defaults or {})
        self.allowed = frozenset(allowed)

    def render(self, request: RenderRequest) -> Rendered:
        opens = request.opens_answer
        place = self.words.get("RESPONSE_FORMAT_TEMPLATE")
        messages = request.messages if isinstance(place, str) else request.messages_with_schema
        conversation = normalise(messages, TAKES[self.version], modalities=request.modalities, mark=request.mark)
        kwargs, passed_over = request_variables(request.kwargs, SYNTAX, allowed=self.allowed)
        effort = kwargs.get("reasoning_effort") or request.reasoning_effort or self.defaults.get("reasoning_effort")
        thinking = self._thinking(request, kwargs, effort)
        tools, messages = plain_tools(request.tools), conversation.messages
        if (voices := request.voices(SYNTAX)) is not None:
            messages, tools = said(messages), said(tools)
            if request.continue_final_message:
                messages[-1] = {**messages[-1], "content": disowned(messages[-1]["content"], voices.own)}
        writer = _V32(thinking) if self.version == "v3.2" else _V4(thinking)
        writer.drop = bool(kwargs.get("drop_thinking", self.defaults.get("drop_thinking", True)))
        if self.version == "v4" and tools:
            writer.drop = False
        introduction = self._effort(effort) if thinking and self.version == "v4" else ""
        if tools:
            messages = _behind_the_system(messages, self._tools(tools))
        if isinstance(place, str) and request.answer_schema is not None:
            before, _, after = place.partition("{schema}")
            schema = request.answer_schema.json
            words = concat([before, schema if voices is None else Said(schema), after])
            messages = _behind_the_system(messages, words)
        text = writer.write(messages, opens=opens, open_end=bool(request.continue_final_message))
        return Rendered(
            text=BOS + introduction + text,
            tail=plain(text[writer.header_at :]),
            begins_with_bos=True,
            media=conversation.media,
            left_out=conversation.left_out,
            passed_over=passed_over,
        )

    def _thinking(self, request: RenderRequest, kwargs: Mapping[str, Any], effort: object) -> bool:
        for choice in (kwargs.get("thinking"), kwargs.get("enable_thinking"), request.thinking):
            if choice is not None:
                return bool(choice)
        if effort is not None:
            return effort != "none"
        return bool(self.defaults.get("thinking", self.defaults.get("enable_thinking", False)))

    def _tools(self, tools: Sequence[Mapping[str, Any]]) -> str:
        words = self.words.get("TOOLS_SYSTEM_TEMPLATE") or self.words.get("TOOLS_TEMPLATE")
        if not isinstance(words, str):
            raise BadRequestError(
                "The words that introduce tools to this model come with its files (encoding/encoding_*.py), which this "
                "server does not have: send no tools, or start it with --chat-template.",
                param="tools",
            )
        schemas = join("\n", (dumps(tool.get("function", tool)) for tool in tools))
        for name, value in (
            ("{dsml_token}", DSML),
            ("{thinking_start_token}", THINK),
            ("{thinking_end_token}", ANSWER),
        ):
            words = words.replace(name, value)
        return join(schemas, words.split("{tool_schemas}"))

    def _effort(self, effort: object) -> str:
        prompts = self.words.get("REASONING_EFFORT_PROMPTS")
        if not isinstance(prompts, Mapping):
            prompts = {"high": "", "max": self.words.get("REASONING_EFFORT_MAX", "")}
        known = [word for word in EFFORTS if word in prompts]
        return str(prompts[nearest_effort(str(effort), known)]) if effort is not None and known else ""


def _behind_the_system(messages: Sequence[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The messages, with ``words`` behind the first system message or in one of their own."""
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": concat([messages[0]["content"], "\n\n", words])}, *messages[1:]]
    return [{"role": "system", "content": "\n\n" + words}, *messages]


class _Writer:
    """Writes the messages one after another; ``header_at`` is where the last assistant header began."""

    word = "tool_calls"
    questions: frozenset[str] = frozenset({"user", "developer"})

    def __init__(self, thinking: bool) -> None:
        self.thinking = thinking
        self.drop = True
        self.text = ""
        self.header_at = 0
        self.last_question = -1

    def write(self, messages: Sequence[dict[str, Any]], *, opens: bool, open_end: bool) -> str:
        self.last_question = max((i for i, m in enumerate(messages) if m["role"] in self.questions), default=-1)
        for i, message in enumerate(messages):
            role = message["role"]
            following = messages[i + 1]["role"] if i + 1 < len(messages) else None
            if role == "assistant":
                self.text += self.answer(message, i, ends=not (open_end and following is None))
                continue
            self.heard(message, messages[i - 1]["role"] if i else None, following)
            if following == "assistant" or (following is None and opens):
                self.header(i, message)
        if not opens and not open_end:
            self.header_at = len(self.text)
        if open_end and (not messages or messages[-1]["role"] != "assistant"):
            raise BadRequestError("Only an assistant message can be continued.", param="continue_final_message")
        return self.text

    def heard(self, message: Mapping[str, Any], previous: str | None, following: str | None) -> None:
        """Write a message that is not the assistant's."""
        raise NotImplementedError

    def header(self, index: int, message: Mapping[str, Any]) -> None:
        """Open an answer after message ``index``."""
        self.header_at = len(self.text)
        self.text += ASSISTANT + self.mark(index)

    def mark(self, index: int) -> str:
        return THINK if self.shows_thought(index + 1) else ANSWER

    def shows_thought(self, index: int) -> bool:
        """Whether the answer at ``index`` has its thought."""
        return self.thinking and (not self.drop or index > self.last_question)

    def answer(self, message: Mapping[str, Any], index: int, *, ends: bool) -> str:
        text, calls, thought = message["content"] or "", message.get("tool_calls", ()), message.get("reasoning")
        written = ""
        if self.shows_thought(index):
            only_thought = not (ends or text or calls)  # the thought is what is to be continued
            written = (thought or "") + ("" if only_thought and thought else ANSWER)
        written += text
        if calls:
            invocations = join("\n", (_invocation(call["function"]) for call in calls))
            written += concat([f"\n\n<{DSML}{self.word}>\n", invocations, f"\n</{DSML}{self.word}>"])
        return written + (EOS if ends else "")


class _V32(_Writer):
    word = "function_calls"

    def heard(self, message: Mapping[str, Any], previous: str | None, following: str | None) -> None:
        role, content = message["role"], message["content"]
        if role == "tool":
            opening = "" if previous == "tool" else "\n\n<function_results>"
            closing = "" if following == "tool" else "\n</function_results>"
            self.text += concat([f"{opening}\n<result>", content, f"</result>{closing}"])
        else:
            self.text += content if role == "system" else USER + content

    def header(self, index: int, message: Mapping[str, Any]) -> None:
        if message["role"] != "tool":
            return super().header(index, message)
        self.header_at = len(self.text)  # the same turn goes on
        self.text += f"\n\n{self.mark(index)}"
        return None


class _V4(_Writer):
    questions = frozenset({"user", "developer", "tool"})

    def write(self, messages: Sequence[dict[str, Any]], *, opens: bool, open_end: bool) -> str:
        return super().write(_in_order_of_calls(messages), opens=opens, open_end=open_end)

    def heard(self, message: Mapping[str, Any], previous: str | None, following: str | None) -> None:
        role, content = message["role"], message["content"]
        if role == "system":
            self.text += content
        elif role == "latest_reminder":
            self.text += REMINDER + content
        else:
            self.text += "\n\n" if previous in self.questions else USER
            self.text += concat(["<tool_result>", content, "</tool_result>"]) if role == "tool" else content

    def header(self, index: int, message: Mapping[str, Any]) -> None:
        task = message.get("task")
        if task is None:
            return super().header(index, message)
        if task not in TASKS:
            raise BadRequestError(f"task must be one of {', '.join(sorted(TASKS))}.", param=f"messages[{index}].task")
        if task == "action":
            super().header(index, message)
        self.text += f"<｜{task}｜>"
        return None


def _invocation(function: Mapping[str, Any]) -> str:
    def parameter(key: str, value: Any) -> str:
        kind = str(isinstance(value, str)).lower()
        text = value if isinstance(value, str) else dumps(value)
        return concat([f'<{DSML}parameter name="', key, f'" string="{kind}">', text, f"</{DSML}parameter>"])

    parameters = join("\n", (parameter(key, value) for key, value in function["arguments"].items()))
    return concat([f'<{DSML}invoke name="', function["name"], '">\n', parameters, f"\n</{DSML}invoke>"])


def _in_order_of_calls(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results in the order of the calls they answer."""
    ordered = list(messages)
    order: dict[Any, int] = {}
    start = 0
    while start < len(ordered):
        if calls := ordered[start].get("tool_calls"):
            order = {call.get("id"): k for k, call in enumerate(calls)}
        end = start
        while end < len(ordered) and ordered[end]["role"] == "tool":
            end += 1
        ordered[start:end] = sorted(ordered[start:end], key=lambda m: order.get(m.get("tool_call_id"), 0))
        start = max(end, start + 1)
    return ordered


def read_words(directory: Path) -> dict[str, Any]:
    """The constants of the ``encoding_*.py`` that came with a model; empty where there is none or it cannot be read."""
    words: dict[str, Any] = {}
    for path in sorted([*directory.glob("encoding/encoding_*.py"), *directory.glob("encoding_*.py")]):
        try:
            if path.stat().st_size > MAX_CODE:
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                targets, value = statement.targets, statement.value
            elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
                targets, value = [statement.target], statement.value
            else:
                continue
            try:
                constant = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
            words.update((target.id, constant) for target in targets if isinstance(target, ast.Name))
    return words
