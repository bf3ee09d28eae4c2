"""``portico render``: the prompt that messages become, and its tokens."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any, BinaryIO

import rich_click as click
from rich.text import Text

from portico.commands.loading import tokenizer_and_renderer
from portico.commands.options import completed
from portico.prompting import Prompt, Prompter, RenderRequest, Tokenizer
from portico.terminal import Terminal, echo

__all__ = ["command"]

SPECIAL = "bold magenta"
SHADES = ("", "on grey15")  # neighbouring tokens, so that one sees where each ends


@click.command("render")
@click.argument("messages", type=click.File("rb"))
@click.option(
    "--model",
    required=True,
    metavar="MODEL",
    shell_complete=completed("model"),
    help="A model name, a GGUF file, a tokenizer or its directory.",
)
@click.option("--tools", type=click.File("rb"), help="JSON file with a list of tools.")
@click.option(
    "--chat-template",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Jinja template to use instead of the model's own.",
)
@click.option(
    "--set", "variables", multiple=True, metavar="NAME=VALUE", help="A template variable; VALUE is JSON or text."
)
@click.option("--reasoning-effort", help="none, minimal, low, medium, high, xhigh or max.")
@click.option("--continue", "continued", is_flag=True, help="Leave the last message open, to be continued.")
@click.option("--no-generation-prompt", is_flag=True, help="Do not open an answer at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: prompt, token ids, tokens, tail.")
def command(
    messages: BinaryIO,
    model: str,
    tools: BinaryIO | None,
    chat_template: Path | None,
    variables: tuple[str, ...],
    reasoning_effort: str | None,
    continued: bool,
    no_generation_prompt: bool,
    as_json: bool,
) -> None:
    """Show the prompt that MESSAGES become, and its tokens.

    MESSAGES is a JSON file (- for standard input): a list of messages, or a whole chat request.
    On a terminal, special tokens are coloured; in a pipe, the prompt comes out as it is.

    Examples:

      portico render --model smollm2 messages.json

      echo '[{"role":"user","content":"Hi"}]' | portico render --model ./Qwen3-0.6B - --set enable_thinking=false
    """
    request = _json(messages, "MESSAGES")
    options = dict(request) if isinstance(request, dict) else {"messages": request}
    asked: dict[str, Any] = {
        "messages": options.get("messages"),
        "tools": _json(tools, "--tools") if tools is not None else options.get("tools"),
        "documents": options.get("documents"),
        "add_generation_prompt": False if no_generation_prompt else options.get("add_generation_prompt"),
        "continue_final_message": continued or bool(options.get("continue_final_message")),
        "reasoning_effort": reasoning_effort or options.get("reasoning_effort"),
    }
    kwargs = {**(options.get("chat_template_kwargs") or {}), **dict(map(_variable, variables))}
    tokenizer, renderer = tokenizer_and_renderer(model, chat_template)
    if tokenizer is None:
        rendered = renderer.render(RenderRequest(**asked, kwargs=kwargs)) if renderer is not None else None
        prompt = Prompt([], rendered.text, rendered.tail) if rendered is not None else Prompt([])
    else:
        prompt = Prompter(tokenizer, renderer).render_chat(**asked, chat_template_kwargs=kwargs)
    if as_json:
        echo(json.dumps(_described(prompt, tokenizer), ensure_ascii=False, indent=2))
        return
    console = Terminal(highlight=False)
    if not console.is_terminal or tokenizer is None:
        echo(prompt.text, nl=console.is_terminal)
        return
    console.print(_coloured(prompt, tokenizer), soft_wrap=True)
    console.print(f"── {len(prompt.token_ids):,} tokens ──", style="dim")
    console.print(_listed(prompt, tokenizer))
    for name in prompt.passed_over:
        console.print(f"[yellow]The model does not know the variable '{name}'; it was passed over.[/yellow]")


def _json(file: BinaryIO, what: str) -> Any:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is not JSON: {error}") from None


def _variable(setting: str) -> tuple[str, Any]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise click.UsageError(f"--set {setting}: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _described(prompt: Prompt, tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {
        "prompt": prompt.text,
        "count": len(prompt.token_ids),
        "token_ids": list(prompt.token_ids),
        "tokens": [tokenizer.id_to_token(token) for token in prompt.token_ids] if tokenizer is not None else [],
        "tail": prompt.tail,
        "passed_over": list(prompt.passed_over),
    }


def _coloured(prompt: Prompt, tokenizer: Tokenizer) -> Text:
    """The prompt as one reads it: special tokens coloured, neighbours told apart by a shade."""
    text = Text()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may begin in one token and end in another
    for position, token in enumerate(prompt.token_ids):
        if _is_special(token, tokenizer):
            text.append(decoder.decode(b"", True) + (tokenizer.id_to_token(token) or ""), style=SPECIAL)
            decoder.reset()
        else:
            text.append(decoder.decode(tokenizer.token_bytes(token)), style=SHADES[position % 2])
    return text


def _listed(prompt: Prompt, tokenizer: Tokenizer) -> Text:
    """Each token with its id."""
    text = Text()
    for token in prompt.token_ids:
        style = SPECIAL if _is_special(token, tokenizer) else ""
        text.append(tokenizer.id_to_token(token) or "?", style=style)
        text.append(f" {token}   ", style="dim")
    return text


def _is_special(token: int, tokenizer: Tokenizer) -> bool:
    return token in tokenizer.special_ids or tokenizer.id_to_token(token) in tokenizer.added_tokens
