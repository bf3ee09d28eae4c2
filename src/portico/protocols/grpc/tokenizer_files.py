"""A tokenizer as the files that other programs load it from, in one zip: what GetTokenizer sends.

    tokenizer.json           the algorithm and the vocabulary
    tokenizer_config.json    special tokens by role, and the chat template
    generation_config.json   every token that ends an answer
    config.json              nothing; but a gateway that misses it looks for it in the network, at every request

They are written from the tokenizer in use, not copied from disk, so a model whose tokenizer was rebuilt from a GGUF
file has them too. Equal tokenizers give equal bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from portico.errors import NotSupportedError
from portico.prompting import Tokenizer

__all__ = ["tokenizer_zip"]

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can tell


def tokenizer_zip(tokenizer: Tokenizer) -> bytes:
    """The zip file. Raises ``NotSupportedError`` for a kind of tokenizer that cannot be written as these files."""
    whole = tokenizer.to_json()
    if whole is None:
        raise NotSupportedError(
            f"This model's tokenizer ({tokenizer.kind}) has no tokenizer.json form; give the client its own files."
        )
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **tokenizer.special_tokens}
    template = tokenizer.chat_template
    if isinstance(template, str):
        config["chat_template"] = template
    elif template:
        config["chat_template"] = [{"name": name, "template": source} for name, source in template.items()]
    ends = {"eos_token_id": sorted(tokenizer.eos_token_ids)}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as files:
        for name, text in (
            ("tokenizer.json", whole),
            ("tokenizer_config.json", json.dumps(config, ensure_ascii=False)),
            ("generation_config.json", json.dumps(ends)),
            ("config.json", "{}"),
        ):
            files.writestr(zipfile.ZipInfo(name, _LONG_AGO), text, zipfile.ZIP_DEFLATED)
    return target.getvalue()
