"""The embedded engine: llama.cpp, driven at token level in a process of its own.

Read in this order: ``engine`` (the front door's side), ``process`` (what is started), ``child`` (the process itself),
``generating`` with ``scheduler``, ``sampling`` and ``grammar``, ``embedding``; ``libllama`` is the only file that
touches native code.
"""

from portico.engines.llamacpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
