"""``portico detokenize``: token ids to text, and how the stream of it grows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click
from rich.table import Table
from rich.text import Text

from portico.decoding import Detokenizer
from portico.prompting import Tokenizer, load_tokenizer
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("detokenize")
@click.argument("ids", nargs=-1)
@click.option(
    "--tokenizer",
    "path",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A model directory, or a tokenizer.json, GGUF, SentencePiece, tiktoken, tekken or RWKV file.",
)
@click.option("--show", is_flag=True, help="Show, token by token, what comes out and what is held back.")
@click.option("--special", is_flag=True, help="Show special tokens too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the text, and token by token what comes out.")
def command(ids: tuple[str, ...], path: Path, show: bool, special: bool, as_json: bool) -> None:
    """Turn token IDS into text, as a stream would.

    IDS are numbers, apart by spaces or commas (a JSON list is fine too); without any, they are read from standard
    input.

    \b
    portico detokenize --tokenizer ./Qwen3-0.6B 9707 11 1879
    echo '[9707, 11, 1879]' | portico detokenize --tokenizer model.gguf --show
    """
    numbers = _numbers(" ".join(ids) if ids else sys.stdin.read())
    tokenizer = load_tokenizer(path)
    for number in numbers:
        if number >= tokenizer.vocab_size:
            raise click.UsageError(f"{number} is not a token id: the vocabulary ends at {tokenizer.vocab_size - 1}")
    if as_json:
        echo(json.dumps(_told(tokenizer, numbers, special), ensure_ascii=False, indent=2))
        return
    if show:
        Terminal().print(_table(tokenizer, numbers, special))
        return
    stream = Detokenizer(tokenizer, skip_special_tokens=not special)
    echo(stream.feed(numbers) + stream.close(), nl=sys.stdout.isatty())


def _numbers(text: str) -> list[int]:
    words = text.replace(",", " ").replace("[", " ").replace("]", " ").split()
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise click.UsageError(f"{word!r} is not a token id; give whole numbers, 0 or more")
    return [int(word) for word in words]


def _told(tokenizer: Tokenizer, ids: Sequence[int], special: bool) -> dict[str, Any]:
    """What the table shows, for programs; the text that comes out last stands at the end."""
    stream = Detokenizer(tokenizer, skip_special_tokens=not special)
    tokens, text = [], ""
    for token in ids:
        piece = stream.feed((token,))
        text += piece
        spelled = {"id": token, "token": tokenizer.id_to_token(token), "bytes": tokenizer.token_bytes(token).hex()}
        tokens.append({**spelled, "text": piece, "held": stream.held.hex()})
    last = stream.close()
    return {"text": text + last, "tokens": tokens, "last": last}


def _table(tokenizer: Tokenizer, ids: Sequence[int], special: bool) -> Table:
    table = Table(caption="held: the bytes of a character that is not complete yet")
    table.add_column("id", justify="right", style="dim")
    for column in ("token", "bytes", "text", "held"):
        table.add_column(column)
    stream = Detokenizer(tokenizer, skip_special_tokens=not special)
    for token in ids:
        text = stream.feed((token,))
        style = "magenta" if token in tokenizer.special_ids else ""
        spelled = Text(_visible(tokenizer.id_to_token(token) or "(none)"), style=style)
        held = Text(stream.held.hex(" "), style="yellow")
        table.add_row(str(token), spelled, tokenizer.token_bytes(token).hex(" "), Text(_quoted(text)), held)
    table.add_section()
    table.add_row("", Text("end", style="dim"), "", Text(_quoted(stream.close())), "")
    return table


def _quoted(text: str) -> str:
    return f"\u201c{_visible(text)}\u201d" if text else ""


def _visible(text: str) -> str:
    """``text`` with line ends, tabs and the like spelled out, so that a table stays one."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
