"""How a family's thoughts show in its text: what a budget needs to know to end one."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Thought"]


class Thought(Struct, frozen=True):
    """One of ``openers`` begins a thought, one of ``closers`` ends it; ``close`` is what the family writes there, with
    the white space around it. ``open``: the prompt has begun one. ``*`` in a marker stands for a checkpoint's suffix.
    """

    openers: tuple[str, ...]
    closers: tuple[str, ...]
    close: str
    open: bool
