"""``OutputParser``, ``parse`` and ``render_calls``: what the rest of Portico, and anyone who wants only this, uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from portico.events import Event, Finish, Message, ToolCall
from portico.grammar import Calls, Frame, Tool
from portico.parsing.arguments import Unwritable
from portico.parsing.folding import finish_reason as told
from portico.parsing.folding import fold
from portico.parsing.machine import Machine, random_id
from portico.parsing.registry import DECLARED, declared_by, program
from portico.parsing.schema import declared

__all__ = ["OutputParser", "answer_frame", "calls_grammar", "parse", "render_calls"]


class OutputParser:
    """Reads one answer of a model, piece by piece, and says what it is.

    ``tool_parser`` and ``reasoning_parser`` are names of ``portico formats``; with both None all text is content.
    ``tools`` are the request's tools in OpenAI's shape: they type the arguments, and without them (or with
    ``tool_choice="none"``) tool markup is text. ``prompt_tail`` is the end of the rendered prompt, at least from the
    last assistant header on: it tells whether a thought is open already. ``parallel=False`` reports the first call
    only. ``response_template`` is the checkpoint's own format, for the parser ``hf``. ``new_id`` makes ids, from index
    and name, for calls whose format carries none.

    Raises ``ValueError`` for an unknown parser name; model output never raises.
    """

    def __init__(
        self,
        tool_parser: str | None = None,
        reasoning_parser: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = "auto",
        parallel: bool = True,
        prompt_tail: str = "",
        response_template: Mapping[str, Any] | None = None,
        new_id: Callable[[int, str], str] | None = None,
    ) -> None:
        schemas = declared(tools)
        with_tools = bool(schemas) and tool_choice != "none"
        if response_template is not None and DECLARED in (tool_parser, reasoning_parser):
            self._program = declared_by(response_template, with_tools)
        else:
            self._program = program(tool_parser, reasoning_parser, with_tools)
        calls = self._program.calls
        self._named = isinstance(tool_choice, Mapping)
        self._machine = machine = Machine(
            schemas if with_tools else {},
            thinking=self._program.thinks(prompt_tail),
            new_id=new_id or (calls.id if calls is not None and calls.id else random_id),
            first_only=not parallel,
        )
        machine.prompt_tail = prompt_tail
        machine.promised = self._named or tool_choice == "required"
        self._reader = self._program.read(machine)
        self._running = True
        next(self._reader)

    @property
    def special_tokens(self) -> frozenset[str]:
        """Spellings that the detokenizer must keep visible for this parser to read them (``*``: any suffix)."""
        return self._program.special_tokens

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How often so far: ``call``, ``false_alarm``, ``undecodable`` (a call whose arguments are no JSON, surfaced
        as they are), ``truncated`` (the answer ended inside a call or an opener)."""
        return self._machine.outcomes

    @property
    def recoveries(self) -> Sequence[tuple[str, str]]:
        """What the text has that the format does not allow, and was read nevertheless: the kind of each recovery, and
        the text around the place."""
        return self._machine.recoveries

    @property
    def held(self) -> tuple[str, str] | None:
        """Text that waits because what follows decides what it is, and the reason in words; None where none waits.

        A call that is being read may also have text inside it that is not out yet (``in_call``): a value whose type is
        open comes out when it is complete.
        """
        return self._machine.held()

    @property
    def in_thought(self) -> bool:
        """Whether the text stands inside a thought."""
        return self._machine.thinking

    @property
    def in_call(self) -> bool:
        """Whether the text stands inside a call's arguments."""
        return self._machine.open_call

    def feed(self, text: str) -> list[Event]:
        """The next piece of text; the events that it decides."""
        machine = self._machine
        if not machine.tape.passes(text):
            machine.tape.feed(text)
            next(self._reader)
        return machine.events()

    def close(self, finish_reason: str = "stop") -> list[Event]:
        """The text has ended. ``finish_reason`` is the engine's; the last event is ``Finish``."""
        machine = self._machine
        machine.stopped = finish_reason not in ("length", "abort", "error")
        machine.cut()
        machine.tape.ended = True
        for _ in self._reader:
            raise AssertionError("a reader waits for text after the end")
        machine.finish()
        return [*machine.events(), Finish(told(finish_reason, machine.calls, self._named))]


def parse(
    text: str,
    tool_parser: str | None = None,
    reasoning_parser: str | None = None,
    *,
    finish_reason: str = "stop",
    **arguments: Any,
) -> Message:
    """A whole answer at once: the fold of the events that ``OutputParser`` (same arguments) gives."""
    parser = OutputParser(tool_parser, reasoning_parser, **arguments)
    return fold([*parser.feed(text), *parser.close(finish_reason)])


def render_calls(
    calls: Iterable[ToolCall | Mapping[str, Any]], tool_parser: str, tools: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The text in which a model of this format would make these calls.

    A call is a ``ToolCall`` or a mapping with ``name``, ``arguments`` (an object or JSON text) and perhaps ``id``, or
    one in OpenAI's shape. ``tools`` type the values where the wire does not. Raises ``ValueError`` where the format has
    no way to write a call such that it reads back the same.
    """
    wanted = [_as_call(call) for call in calls]
    described = program(tool_parser, None).written
    schemas = declared(tools)
    if described is None:
        raise Unwritable(f"{tool_parser} has no way to make calls")
    text = described.write(wanted, schemas)
    offered = list(tools or ()) + [{"name": call.name} for call in wanted if call.name not in schemas]
    found = parse(text, tool_parser, tools=offered).tool_calls
    for before, after in zip(wanted, [*found, *[None] * len(wanted)], strict=False):
        if after is None or before.name != after.name or not _same(before.arguments, after.arguments):
            raise Unwritable(
                f"{tool_parser} cannot carry this call of {before.name!r}: it would not read back the same"
            )
    if len(found) != len(wanted):
        raise Unwritable(f"{tool_parser} cannot carry these calls: they would read back as {len(found)}")
    return text


def calls_grammar(tool_parser: str, tools: Sequence[Tool], high: int | None = None) -> Calls | None:
    """The grammar of one to ``high`` calls of these tools (None: any number) in the framing of this format.

    None where the format has no way to make calls. It starts at the first call's first character; ``openers`` of the
    result is the marker there. Arguments follow the tools' schemas, in whatever syntax the format codes them.
    """
    return program(tool_parser, None).grammar(tools, high)


def answer_frame(tool_parser: str | None, reasoning_parser: str | None, prompt_tail: str = "") -> Frame:
    """What the family writes in front of an answer or its calls, behind a prompt that ends like this."""
    return program(tool_parser, reasoning_parser).frame(prompt_tail)


def _as_call(call: ToolCall | Mapping[str, Any]) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(str(call.get("id") or ""), str(function["name"]), text or "{}")


def _same(before: str, after: str) -> bool:
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return before == after
