"""PLaMo 3: every part of a call between markers of its own, which are ordinary text."""

from portico.parsing.arguments import Json
from portico.parsing.bodies import Headed
from portico.parsing.calls import Calls
from portico.parsing.family import Clues, Family, Reasoning


def _open(word: str) -> str:
    return f"<|plamo:begin_{word}:plamo|>"


def _close(word: str) -> str:
    return f"<|plamo:end_{word}:plamo|>"


NAME = f"{_open('tool_name')}{{name}}{_close('tool_name')}"

PLAMO3 = Family(
    "plamo3",
    models="PLaMo 3",
    tools={
        "plamo3": Calls(
            Headed(
                f"{NAME}{_open('tool_arguments')}<|plamo:constrain|>json<|plamo:msg|>", Json(), _close("tool_arguments")
            ),
            section=_open("tool_requests"),
            open=_open("tool_request"),
            close=_close("tool_request"),
            section_close=_close("tool_requests"),
        )
    },
    reasoning={"plamo3": Reasoning(_open("think"), _close("think"))},
    ends=("<|plamo:tag|>",),
    clues=(Clues(("begin_tool_request", "plamo"), tools="plamo3"), Clues(("begin_think", "plamo"), reasoning="plamo3")),
)
