"""API keys as people: who may call under which name, which models, and how much of them.

``key.py`` says what a key is, ``reading.py`` where an operator writes keys down, ``spans.py`` and ``accounts.py`` how
what each has used is counted. Nothing here reads a socket or a database.
"""

from __future__ import annotations

from portico.keys.key import KEY, NOBODY, Key, check_operator, enter, hash_of, key_of, new_secret, new_terms
from portico.keys.moments import moment, seconds
from portico.keys.reading import read_keys

__all__ = [
    "KEY",
    "NOBODY",
    "Key",
    "check_operator",
    "enter",
    "hash_of",
    "key_of",
    "moment",
    "new_secret",
    "new_terms",
    "read_keys",
    "seconds",
]
