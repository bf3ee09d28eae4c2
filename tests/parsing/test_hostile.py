"""Law 6: work is linear in the length of the text, whatever the text is.

Whole and in small pieces: what grows with the text that came before shows only in the latter.
By default a family meets four of the attacks, each family the next ones; ``PORTICO_EXHAUSTIVE=1`` takes a megabyte of
each attack for every family.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portico.parsing import OutputParser, Unwritable, render_calls
from portico.parsing.registry import program
from support.effort import EXHAUSTIVE, some
from support.mutants import markers_of
from support.streams import TOOL_PARSERS, TOOLS
from support.work import growth

SIZE = 500_000 if EXHAUSTIVE else 12_000
TIMES = 6  # as long as the shorter text of a pair


def cut_behind(tool_parser: str, arguments: dict[str, object], mark: str) -> str:
    """The text of a call, up to and with ``mark`` inside its arguments."""
    try:
        text = render_calls([{"name": "send_note", "arguments": arguments}], tool_parser, TOOLS)
    except Unwritable:
        return ""
    return text[: text.index(mark) + len(mark)]


def attacks(tool_parser: str) -> Iterator[tuple[str, str]]:
    """A beginning, and what is repeated behind it."""
    special = [marker.replace("*", "") for marker in sorted(program(tool_parser, None).special_tokens)]
    described = program(tool_parser, None).calls
    opener = (described.opener or "\nping(") if described is not None else "<"
    string = cut_behind(tool_parser, {"text": "QQ"}, "QQ")
    nested = cut_behind(tool_parser, {"extra": {"k": "QQ"}}, "QQ")
    number = cut_behind(tool_parser, {"priority": 77}, "77")
    yield "", opener
    yield "", opener[:-1] or "<"
    yield "", "".join(special) or "["
    yield opener, " \n"
    yield opener + '{"arguments": ', '{"arguments": '
    yield opener + "{", '"k": 1, '
    yield "", "[f(a=1), "
    yield string, "".join(marker for marker in special if marker.startswith(("</", "<|"))) or "}"
    closer = next((marker for marker in sorted(markers_of(tool_parser, inner=True)) if marker[:2] == "</"), "</")
    for unit in (" ", "\n", f"{closer} y", '"', "\\", "<", "{", "["):
        yield string, unit
    yield nested, '{"a": ['
    yield nested, ", "
    yield number, "7"
    yield number, " 7"


def read(tool_parser: str, text: str, step: int) -> None:
    parser = OutputParser(tool_parser, "qwen3", tools=TOOLS)
    for at in range(0, len(text), step):
        parser.feed(text[at : at + step])
    parser.close()


@pytest.mark.parametrize("tool_parser", TOOL_PARSERS)
def test_time_is_linear(tool_parser: str) -> None:
    for head, unit in some(attacks(tool_parser), 4, TOOL_PARSERS.index(tool_parser)):
        for step in (10**9, 6):

            def work(size: int, head: str = head, unit: str = unit, step: int = step) -> None:
                read(tool_parser, head + unit * (size // len(unit)), step)

            ratio = growth(work, SIZE // TIMES, TIMES)
            assert ratio < TIMES * 2.5, f"{head[-40:]!r} + {unit[:40]!r} in steps of {step}: {ratio:.2f}"


@pytest.mark.parametrize(
    "tool_parser", ["hermes", "qwen3_coder", "mistral", "pythonic", "gemma4", "openai", "minimax_m3"]
)
def test_time_is_linear_in_longer_texts(tool_parser: str) -> None:
    for unit in ("".join(sorted(program(tool_parser, None).special_tokens)), '{"a": ["', "\n"):

        def work(size: int, unit: str = unit) -> None:
            read(tool_parser, unit * (size // len(unit)), 6)

        assert growth(work, 10_000, TIMES) < TIMES * 2.5


def test_deep_nesting_ends_without_recursion() -> None:
    for tool_parser in TOOL_PARSERS:
        for unit in ("[", '{"a":', "("):
            head = cut_behind(tool_parser, {"extra": {"k": "QQ"}}, "QQ")[:-3]
            parser = OutputParser(tool_parser, tools=TOOLS)
            parser.feed(head + unit * 5_000)
            parser.close()
