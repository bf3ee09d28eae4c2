"""Which layer made which artifact: the record of single requests, from the bytes that came to the bytes that went."""

from portico.trace.artifacts import LANES, Artifact, Fault, Head, Lane
from portico.trace.recorder import Recorder
from portico.trace.trace import Trace, exact_bytes

__all__ = [
    "LANES",
    "Artifact",
    "Fault",
    "Head",
    "Lane",
    "Recorder",
    "Trace",
    "exact_bytes",
]
