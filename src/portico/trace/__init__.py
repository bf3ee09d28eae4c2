"""Which layer made which artifact: the record of single requests, from the bytes that came to the bytes that went."""

from portico.trace.artifacts import LANES, Artifact, Fault, Head, Lane
from portico.trace.difference import Difference, first_difference
from portico.trace.export import Export, read_export
from portico.trace.record import exact_bytes, layer_of
from portico.trace.recorder import Recorder
from portico.trace.trace import Trace
from portico.trace.vocabulary import RecordedTokenizer, UnrecordedError, occurring, vocabulary

__all__ = [
    "LANES",
    "Artifact",
    "Difference",
    "Export",
    "Fault",
    "Head",
    "Lane",
    "RecordedTokenizer",
    "Recorder",
    "Trace",
    "UnrecordedError",
    "exact_bytes",
    "first_difference",
    "layer_of",
    "occurring",
    "read_export",
    "vocabulary",
]
