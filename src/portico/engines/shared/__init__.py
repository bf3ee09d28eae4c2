"""An engine in another process, used by one front door or shared by several.

    hub       the side that has the engine: takes requests from every process, deals each step's outputs out
    asking    the side that uses it, whatever lies between the two
    engine    the ``Engine`` of a process of the same machine: the other end of a socket
    outgoing  what waits for a carrier between machines, which takes one message at a time (``server.grpc.steps``)
    wire      the frames between them, which llama.cpp's process speaks too

An engine step is one frame per process, whatever number of requests it moved, so sharing costs the engine's side a few
microseconds a step and not one wake-up per token.
"""

from __future__ import annotations

from portico.engines.shared.asking import Asking
from portico.engines.shared.engine import SharedEngine
from portico.engines.shared.hub import Hub, Member
from portico.engines.shared.outgoing import Outgoing

__all__ = ["Asking", "Hub", "Member", "Outgoing", "SharedEngine"]
