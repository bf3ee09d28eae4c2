"""Which of several hosts of a model gets a request: the one that has its prompt's prefix in its cache.

- A conversation is known by the first blocks of its prompt, as far as they are its own: blocks behind which many
  prompts differ (an agent's instructions) say nothing of it, a document that is asked about a few times does. What is
  whose is learned from the prompts that pass. A request with a key (``prompt_cache_key``) is known by that.
- Every conversation has an order of hosts that all front doors find alike (rendezvous hashing): several need not tell
  each other, and a host that comes or goes moves its own share alone.
- It gets the first of them that has no more than its share and a quarter of the requests in flight ("Consistent Hashing
  with Bounded Loads", 2016).

Pure: hosts are names, their loads are given.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from random import choice
from typing import Final

from portico.events import EngineRequest

__all__ = ["Placement"]

BLOCK: Final = 128  # tokens
LONGEST: Final = 128  # blocks of a prompt that are looked at
MANY: Final = 8  # ways in which prompts go on behind a block that is nobody's own
KNOWN: Final = 1 << 16  # blocks that are remembered
SHARE: Final = 1.25  # of the mean load
SLACK: Final = 2  # requests more than that


class Placement:
    """``by_prefix``: as above; otherwise the host with the fewest requests."""

    def __init__(self, *, by_prefix: bool = True) -> None:
        self._by_prefix = by_prefix
        self._known: OrderedDict[int, set[int]] = (
            OrderedDict()
        )  # a prefix, up to a block -> those that are longer by one

    def choose(self, loads: Mapping[str, int], request: EngineRequest) -> str:
        """One of the hosts in ``loads`` (name -> requests in flight), of which there is at least one."""
        if not self._by_prefix or len(loads) == 1:
            return _least(loads)
        known_by = request.cache_key.encode() if request.cache_key else self._own(request)
        if not known_by:
            return _least(loads)
        most = SHARE * (sum(loads.values()) + 1) / len(loads) + SLACK
        free = [host for host, load in loads.items() if load < most]
        return max(free, key=lambda host: blake2b(known_by + b" " + host.encode(), digest_size=8).digest())

    def _own(self, request: EngineRequest) -> bytes:
        """The beginning of the prompt up to the first block that is its conversation's own; empty for a prompt that is
        shorter than a block."""
        ids = array("I", request.token_ids[: LONGEST * BLOCK])
        content, size = ids.tobytes(), BLOCK * ids.itemsize
        prefix = hash((request.cache_salt, request.lora))  # prefixes are shared within these alone
        own = 0
        for end in range(size, len(content) + 1, size):
            longer = hash((prefix, content[end - size : end]))
            ways = self._known.setdefault(prefix, set())
            self._known.move_to_end(prefix)
            if len(ways) < MANY:
                ways.add(longer)
            if not own or len(ways) >= MANY:
                own = end
            prefix = longer
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return content[:own]


def _least(loads: Mapping[str, int]) -> str:
    """One of those with the fewest requests. Which of them is left to chance: front doors know only of their own, and
    would else all go to the first."""
    least = min(loads.values())
    return choice([host for host, load in loads.items() if load == least])
