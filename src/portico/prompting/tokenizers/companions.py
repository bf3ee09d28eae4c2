"""The files that stand beside a tokenizer and say what its tokens are for.

    tokenizer_config.json, special_tokens_map.json   roles (bos_token, …), further added tokens, chat template
    generation_config.json, config.json              the ids that end a generation
    chat_template.jinja, chat_template.json, additional_chat_templates/*.jinja   templates; they outrank the config's

All are optional; they mean the same whatever kind of file holds the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portico.prompting.tokenizers.base import ChatTemplates, TokenizerError

__all__ = ["Companions", "read_chat_templates", "read_companions", "token_text"]

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Companions:
    """``config`` is ``tokenizer_config.json`` (empty if absent), ``roles`` maps a role to its token's text."""

    config: Mapping[str, Any]
    roles: Mapping[str, str]
    eos_ids: frozenset[int]
    chat_template: ChatTemplates


def read_companions(directory: Path) -> Companions:
    """What the companion files in ``directory`` say. Raises ``TokenizerError`` where one is not JSON."""
    config = _read_object(directory / "tokenizer_config.json")
    roles_map = _read_object(directory / "special_tokens_map.json")
    roles = {role: text for role in ROLES if (text := token_text(config.get(role, roles_map.get(role)))) is not None}
    extra = config.get("extra_special_tokens")
    if isinstance(extra, dict):  # multimodal models name further roles here
        roles.update({role: text for role, value in extra.items() if (text := token_text(value)) is not None})
    return Companions(config, roles, _eos_ids(directory), read_chat_templates(directory, config))


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path.name} must hold a JSON object, it holds a {type(value).__name__}")
    return value


def token_text(token: object) -> str | None:
    """The text of a token given as text or as an object with its matching rules."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _eos_ids(directory: Path) -> frozenset[int]:
    for name in ("generation_config.json", "config.json"):
        value = _read_object(directory / name).get("eos_token_id")
        ids = [value] if isinstance(value, int) else value if isinstance(value, list) else []
        if ids:
            return frozenset(i for i in ids if isinstance(i, int))
    return frozenset()


def read_chat_templates(directory: Path, config: Mapping[str, Any] | None = None) -> ChatTemplates:
    """The chat templates of a model directory, in the order of precedence of ``transformers``.

    Template files are read without newline translation: what the model was trained on may hold CRLF.
    """
    named: dict[str, str] = {}
    value = _read_object(directory / "chat_template.json").get("chat_template")
    if value is None and config is not None:
        value = config.get("chat_template")
    if isinstance(value, str):
        named["default"] = value
    elif isinstance(value, dict):
        named.update({str(name): source for name, source in value.items() if isinstance(source, str)})
    elif isinstance(value, list):  # [{"name": …, "template": …}, …]
        for entry in value:
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                source = entry.get("template")
                if isinstance(source, str):
                    named[entry["name"]] = source
    if (file := directory / "chat_template.jinja").is_file():
        named["default"] = file.read_bytes().decode("utf-8")
    for file in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        named[file.stem] = file.read_bytes().decode("utf-8")
    if not named:
        return None
    return named["default"] if list(named) == ["default"] else named
