"""Engines elsewhere, one host or several with the same model: Portico's own, or any that speaks
``vllm.grpc.engine.VllmEngine``.

engine      the ``Engine``: picks a host for every request, and another when that one goes
host        one host: its channel, its health, its tokenizer
steps       a host that ``portico engine`` serves: one stream of steps for all requests
calls       a host that speaks vLLM's protocol: one stream per request
messages    its requests and answers; pure
http2       what both kinds are spoken over
"""

from portico.engines.grpc.engine import SCHEMES, GrpcEngine

__all__ = ["SCHEMES", "GrpcEngine"]
