"""``portico show``: what is known of a model that is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click
from rich.filesize import decimal
from rich.table import Table

from portico import models
from portico.commands.loading import is_here
from portico.commands.options import model_argument
from portico.errors import ModelNotFoundError
from portico.parsing import detect
from portico.prompting import load_tokenizer
from portico.terminal import Terminal, echo

__all__ = ["command"]


@click.command("show")
@model_argument(required=True)
@click.option("--template", is_flag=True, help="Print its chat template, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the template.")
def command(model: str, template: bool, as_json: bool) -> None:
    """Show what is known of MODEL: architecture, context, parsers, quantisation, size.

    MODEL is a name from 'portico models', a file, or a directory in Hugging Face's layout. Nothing is fetched.

    Examples:

      portico show smollm2

      portico show ./model.gguf --template
    """
    facts = _facts(model)
    if template:
        if not facts["chat_template"]:
            raise ModelNotFoundError(f"{model} has no chat template")
        echo(facts["chat_template"], nl=not facts["chat_template"].endswith("\n"))
        return
    if as_json:
        echo(json.dumps(facts, indent=2))
        return
    facts["size"] = decimal(facts["size"])
    source = facts.pop("chat_template")
    facts["template"] = f"{len(source)} characters; --template prints it" if source else None
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), "none" if value is None else str(value))
    Terminal(highlight=False).print(table)


def _facts(spec: str) -> dict[str, Any]:
    path = Path(spec).expanduser()
    name, of_weights, tokens = _of_checkpoint(path) if path.is_dir() else _of_gguf(spec)
    tokenizer = load_tokenizer(tokens)
    template = tokenizer.chat_template if of_weights["kind"] == "chat" else None
    sources = template if isinstance(template, str) else (template or {}).get("default")
    found = detect(template, tokenizer.special_tokens.values()) if template is not None else None
    return {
        "name": name,
        **of_weights,
        "vocabulary": tokenizer.vocab_size,
        "tool_parser": found.tool_parser if found else None,
        "reasoning_parser": found.reasoning_parser if found else None,
        "chat_template": sources,
    }


def _of_gguf(spec: str) -> tuple[str, dict[str, Any], Path]:
    if not is_here(spec):
        raise ModelNotFoundError(f"{spec} is not here: fetch it with 'portico pull {spec}'")
    resolved = models.resolve(spec)
    facts = models.facts(resolved.path)  # which raises for what is no model
    weights = {
        "kind": facts.kind,
        "architecture": facts.architecture,
        "quantisation": facts.quantisation,
        "context_length": facts.context_length,
        "size": facts.size,
        "path": str(resolved.path),
    }
    return resolved.name, weights, resolved.tokenizer_path or resolved.path


def _of_checkpoint(directory: Path) -> tuple[str, dict[str, Any], Path]:
    """Of a directory in Hugging Face's layout, as vLLM takes it."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelNotFoundError(f"{directory} has no config.json that can be read: it is no model") from None
    inner = config.get("text_config") or config
    quantised = config.get("quantization_config") or {}
    weights = {
        "kind": "chat",
        "architecture": ", ".join(config.get("architectures") or []) or config.get("model_type"),
        "quantisation": quantised.get("quant_method") or config.get("dtype") or config.get("torch_dtype"),
        "context_length": inner.get("max_position_embeddings"),
        "size": sum(file.stat().st_size for file in directory.glob("*.safetensors")),
        "path": str(directory),
    }
    return directory.name, weights, directory
