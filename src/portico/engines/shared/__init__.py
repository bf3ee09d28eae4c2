"""An engine in another process of this machine, used by one front door or shared by several.

    hub       the side that has the engine: takes requests from every process, deals each step's outputs out
    engine    the ``Engine`` that such a process uses: the other end of a socket
    wire      the frames between them, which llama.cpp's process speaks too

An engine step is one frame per process, whatever number of requests it moved, so sharing costs the engine's side a few
microseconds a step and not one wake-up per token.
"""

from portico.engines.shared.engine import SharedEngine
from portico.engines.shared.hub import Hub

__all__ = ["Hub", "SharedEngine"]
