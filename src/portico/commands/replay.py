"""``portico replay``: a bug report that reproduces itself.

Exit status: 0 nothing has changed, 1 something has (the first difference is shown), 2 the trace cannot be replayed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from rich.text import Text

from portico import __version__
from portico.commands.loading import is_here, tokenizer_of
from portico.commands.options import completed
from portico.commands.progress import progress_bar
from portico.errors import BadRequestError, PorticoError
from portico.parsing import load_plugin
from portico.prompting import Renderer, Tokenizer, known_renderer
from portico.server.process.rerun import CannotReplayError, Means, rerun
from portico.terminal import Terminal, echo, shown
from portico.trace import LANES, Difference, Export, Fault, first_difference, read_export
from portico.trace.difference import Made, made

__all__ = ["command"]

AROUND = 60  # characters shown on each side of the first that differs


@click.command("replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--model",
    shell_complete=completed("model"),
    help="The model, or its tokenizer: makes the prompt's tokens anew. 'none': take the recorded.",
)
@click.option("--tokenizer", "tokenizer_path", type=click.Path(exists=True), help="Tokenizer to use for that model.")
@click.option("--pull", is_flag=True, help="Fetch the model if it is not here.")
@click.option(
    "--chat-template", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Jinja template to use."
)
@click.option(
    "--tool-parser", shell_complete=completed("tool_parser"), help="Tool-call format to use; none: without one."
)
@click.option(
    "--reasoning-parser",
    shell_complete=completed("reasoning_parser"),
    help="Reasoning format to use; none: without one.",
)
@click.option("--parser-plugin", multiple=True, type=click.Path(exists=True, dir_okay=False), help="More formats.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: str,
    model: str | None,
    tokenizer_path: str | None,
    pull: bool,
    chat_template: Path | None,
    tool_parser: str | None,
    reasoning_parser: str | None,
    parser_plugin: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the request in FILE again, with the engine's recorded steps and today's code, and show the first difference.

    FILE is what 'portico trace ID --export FILE' wrote (- for standard input). No model and no engine is needed: what
    the trace lacks is taken as recorded, and said. If the recorded model is on this machine, its tokenizer is used.

    Examples:

      portico replay bug.json

      portico replay bug.json --tool-parser qwen3_coder

      portico replay bug.json --model ./Qwen3-0.6B
    """
    try:
        recorded = read_export(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
        for plugin in parser_plugin:
            load_plugin(plugin)
        found = _loaded(recorded, model, tokenizer_path, pull)
        means = Means(
            tokenizer=found.tokenizer,
            renderer=found.renderer,
            template=chat_template.read_text(encoding="utf-8") if chat_template is not None else None,
            tool_parser=tool_parser,
            reasoning_parser=reasoning_parser,
        )
        again = asyncio.run(rerun(recorded, means))
    except (CannotReplayError, PorticoError, ValueError) as error:
        _refuse(getattr(error, "message", None) or str(error), as_json)
    difference = first_difference(recorded, again)
    if as_json:
        echo(json.dumps(_as_json(difference, found), ensure_ascii=False, indent=2))
    else:
        _print(recorded, again, difference, found, Terminal(highlight=False))
    sys.exit(0 if difference is None else 1)


def _refuse(why: str, as_json: bool) -> None:
    if as_json:
        echo(json.dumps({"identical": None, "cannot": why}, ensure_ascii=False, indent=2))
    click.secho(f"portico: this cannot be replayed: {shown(why)}", fg="red", err=True)
    sys.exit(2)


# -- the tokenizer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loaded:
    """What there is of the model, and a remark on it for people."""

    tokenizer: Tokenizer | None
    renderer: Renderer | None
    remark: str


def _loaded(recorded: Export, model: str | None, tokenizer_path: str | None, pull: bool) -> _Loaded:
    """The tokenizer to use: that of the model that is named, else of the recorded one if it is here and the same."""
    asked = model is not None or tokenizer_path is not None or pull
    wanted = model or tokenizer_path or recorded.facts.get("model")
    if wanted is None or wanted == "none":
        return _Loaded(None, None, "the prompt's tokens are taken as recorded")
    if not (pull or is_here(wanted)):
        if model is not None:
            raise BadRequestError(f"The model {wanted} is not here; --pull fetches it.", param="model")
        return _Loaded(None, None, f"the prompt's tokens are taken as recorded: {wanted} is not here (--model, --pull)")
    with progress_bar(wanted) as progress:
        tokenizer, path = tokenizer_of(tokenizer_path or wanted, progress)
    renderer = known_renderer(tokenizer, path)  # for where neither a template was recorded nor one is given
    if _agrees(tokenizer, recorded):
        return _Loaded(tokenizer, renderer, f"everything is made anew, with the tokenizer of {wanted}")
    if asked:
        return _Loaded(tokenizer, renderer, f"the tokenizer of {wanted} is not the recorded one")
    return _Loaded(None, None, f"the prompt's tokens are taken as recorded: the {wanted} here has another tokenizer")


def _agrees(tokenizer: Tokenizer, recorded: Export) -> bool:
    """Whether every token of the trace stands for the same bytes."""
    tokens = (recorded.vocabulary or {}).get("tokens", ())
    return all(tokenizer.token_bytes(token) == base64.b64decode(piece) for token, piece, *_ in tokens)


# -- what came of it --------------------------------------------------------------------------------------------------


def _print(recorded: Export, again: Export, difference: Difference | None, found: _Loaded, console: Terminal) -> None:
    head = recorded.trace
    console.print(Text(f"{head.id}  {head.method} {head.path}  {head.model or ''}", style="bold"))
    by = recorded.facts.get("portico", "?")
    console.print(f"  recorded by portico {by}, replayed by {__version__}; {found.remark}", soft_wrap=True)
    for lane in LANES:
        differs = difference is not None and difference.lane == lane
        count = f"{len(made(recorded, lane))} as recorded"
        verdict = Text("differs", style="bold red") if differs else Text(count, style="green")
        if lane == "tokens":
            verdict = Text(f"{len(recorded.of_kind('step'))} steps given again", style="dim")
        elif difference is not None and LANES.index(lane) > LANES.index(difference.lane):
            verdict = Text("follows from that", style="dim")
        console.print(Text(f"  {lane:<8} ").append_text(verdict))
    if difference is None:
        console.print(Text("Nothing has changed.", style="bold green"))
        return
    console.print(_title(difference))
    left, right = _values(difference)
    console.print(_side("recorded", difference.expected, left, right), soft_wrap=True)
    console.print(_side("now", difference.got, right, left), soft_wrap=True)
    for name, fault in zip(("recorded", "now"), difference.errors, strict=True):
        if fault is not None:
            console.print(Text(f"  {name}, it ended with {_fault(fault)}", style="red"), soft_wrap=True)


def _title(difference: Difference) -> Text:
    one = difference.expected or difference.got
    where = ""
    if one is not None and one.artifact.choice is not None:
        where = f" of choice {one.artifact.choice}, after step {one.step}"
    return Text(f"First difference: {difference.lane}{where}", style="bold red")


def _values(difference: Difference) -> tuple[str, str]:
    expected, got = difference.expected, difference.got
    left, right = (None if one is None else one.value for one in (expected, got))
    if isinstance(left, dict) and isinstance(right, dict):  # only what differs
        names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
        left, right = ({name: side.get(name) for name in names} for side in (left, right))
    return _spelled(left), _spelled(right)


def _side(name: str, one: Made | None, own: str, other: str) -> Text:
    if one is None:
        return Text(f"  {name:<9} nothing")
    at = next(
        (i for i, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), min(len(own), len(other))
    )
    start = max(0, at - AROUND)
    line = Text(f"  {name:<9} #{one.artifact.id} {one.what}, after step {one.step}: ")
    line.append("…" * (start > 0) + own[start:at])
    line.append(own[at : at + AROUND], style="bold red")
    return line.append("…" * (len(own) > at + AROUND))


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _fault(fault: Fault) -> str:
    return f"{fault.status} {fault.code} from {fault.layer}: {fault.message}"


def _as_json(difference: Difference | None, found: _Loaded) -> dict[str, Any]:
    value: dict[str, Any] = {"identical": difference is None, "tokenizer": found.remark}
    if difference is not None:
        value["layer"] = difference.lane
        for name, one in (("recorded", difference.expected), ("now", difference.got)):
            value[name] = None
            if one is not None:
                artifact = msgspec.to_builtins(one.artifact)
                value[name] = {"what": one.what, "step": one.step, "value": one.value, "artifact": artifact}
        value["errors"] = msgspec.to_builtins(difference.errors)
    return value
