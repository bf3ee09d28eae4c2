"""Keys in a file: TOML with a table ``[[keys]]`` for each, or JSON Lines with an object for each.

A key has a ``name``, the ``hash`` of its secret as ``sha256:`` and hex digits, and what ``Terms`` has; ``expires`` is
a date or a time. Nothing in the file opens a door: secrets are not in it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico.errors import BadRequestError
from portico.keys.key import TERMS, Key, new_terms
from portico.keys.moments import moment

__all__ = ["read_keys"]

_FIELDS = ("name", "hash", *TERMS)


def read_keys(path: Path) -> list[Key]:
    """The keys in a file. Raises ``BadRequestError``, which names the file, the key and the field at fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadRequestError(f"The keys file {path} cannot be read: {told}.", param="keys_file") from None
    keys: list[Key] = []
    for place, entry in _entries(path, text):
        try:
            key = _key(entry)
            if any(key.name == other.name for other in keys):
                raise BadRequestError("its name is another key's, too.")
            if any(key.hash == other.hash for other in keys):
                raise BadRequestError("its hash is another key's, too.")
        except BadRequestError as error:
            raise BadRequestError(f"{path}, {place}: {error.message}", param="keys_file") from None
        keys.append(key)
    return keys


def _entries(path: Path, text: str) -> list[tuple[str, Any]]:
    """What describes a key, with where it stands."""
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    found.append((f"line {number}", json.loads(line)))
                except ValueError:
                    raise BadRequestError(f"{path}, line {number}: no JSON object.", param="keys_file") from None
        return found
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequestError(f"{path} is not valid TOML: {error}.", param="keys_file") from None
    entries = content.pop("keys", [])
    if content or not isinstance(entries, list):
        raise BadRequestError(f"{path}: it may hold tables [[keys]] and nothing else.", param="keys_file")
    return [(f"key {number}", entry) for number, entry in enumerate(entries, 1)]


def _key(entry: Any) -> Key:
    if not isinstance(entry, Mapping):
        raise BadRequestError("a key must be a table or an object.")
    if unknown := [field for field in entry if field not in _FIELDS]:
        raise BadRequestError(f"'{str(unknown[0])[:64]}' is no field of a key; there are {', '.join(_FIELDS)}.")
    for field in ("name", "hash"):
        if not isinstance(entry.get(field), str):
            raise BadRequestError(f"'{field}' is missing, or no text.")
    terms = {field: entry[field] for field in TERMS if field in entry}
    if "expires" in terms:
        terms["expires"] = moment(terms["expires"], "expires")
    return new_terms(entry["name"], entry["hash"], terms)
