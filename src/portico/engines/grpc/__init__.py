"""Engines elsewhere: any server that speaks ``vllm.grpc.engine.VllmEngine``, one or several with the same model.

engine      the ``Engine``: picks a host for every request, turns what all of them say into steps
host        one host: its channel, its health, its model
messages    requests and answers as the protocol writes them; pure
"""

from portico.engines.grpc.engine import GrpcEngine

__all__ = ["GrpcEngine"]
