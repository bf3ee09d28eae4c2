"""The embedded engine: llama.cpp, driven at token level in a process of its own.

Read in this order: ``engine`` (the front door's side), ``process`` (what is started), ``child`` (the process itself),
``generating`` with ``scheduler`` (over ``slots``), ``sampling``, ``thinking`` and ``grammar``, ``embedding``.
``model`` is libllama as objects, ``libllama`` the one file that knows its layouts, ``waiting`` how its threads wait for
each other.
"""

from portico.engines.llamacpp.engine import LlamaCppEngine
from portico.engines.llamacpp.tuning import Tuning

__all__ = ["LlamaCppEngine", "Tuning"]
