"""Mistral's ``tekken.json``: ranks, pattern and special tokens in one file, for the tiktoken library.

The special tokens have the first ids, the ranks follow. Files up to version 7 do not list their special tokens.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico.prompting.tokenizers.base import SpecialTokens, TokenizerError
from portico.prompting.tokenizers.companions import read_companions
from portico.prompting.tokenizers.tiktoken import TiktokenTokenizer

__all__ = ["load_tekken"]

# The special tokens of the files that do not list them (versions up to v7), in the order of their ids.
_EARLY_TEKKEN = (
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
)


def load_tekken(path: Path, content: Mapping[str, Any] | None = None) -> TiktokenTokenizer:
    """Mistral's ``tekken.json``; ``content`` is its JSON where it is already at hand."""
    try:
        if content is None:
            content = json.loads(path.read_bytes())
        config = content["config"]
        reserved = int(config["default_num_special_tokens"])
        inner = int(config["default_vocab_size"]) - reserved
        ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) for entry in content["vocab"][:inner]}
        listed = content.get("special_tokens")
        named = (
            {int(entry["rank"]): entry["token_str"] for entry in listed} if listed else dict(enumerate(_EARLY_TEKKEN))
        )
        pattern = config["pattern"]
    except (KeyError, TypeError, ValueError) as error:
        raise TokenizerError(f"{path.name} is not a tekken vocabulary: {error!r}") from error
    tokens = {named.get(i, f"<SPECIAL_{i}>"): i for i in range(reserved)}
    companions = read_companions(path.parent)
    roles = {role: text for role, text in (("bos_token", "<s>"), ("eos_token", "</s>")) if text in tokens}
    for role, text in (("unk_token", "<unk>"), ("pad_token", "<pad>")):
        if text in tokens:
            roles[role] = text
    bos, eos = tokens.get("<s>"), tokens.get("</s>")
    special = SpecialTokens(
        roles={**roles, **companions.roles},
        bos_token_id=bos,
        eos_token_id=eos,
        eos_token_ids=companions.eos_ids | ({eos} if eos is not None else set()),
        prefix_ids=(bos,) if bos is not None else (),
    )
    return TiktokenTokenizer(
        ranks,
        tokens,
        pattern=pattern,
        kind="tekken",
        special=special,
        offset=reserved,
        special_breaks=True,  # mistral-common decodes the text between special tokens piece by piece
        chat_template=companions.chat_template,
    )
