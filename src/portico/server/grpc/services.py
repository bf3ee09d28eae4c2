"""The gRPC server beside HTTP: same process, same event loop, same line, same keys.

Its calls are those of ``grpc.vllm_engine`` and ``grpc.inference``.
"""

from __future__ import annotations

from typing import Any

from portico.keys.audit import Audit
from portico.server.grpc.calls import Calls
from portico.server.grpc.inference import InferenceService
from portico.server.grpc.server import GrpcServer
from portico.server.grpc.vllm_engine import VllmEngineService
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.line.served import Served
from portico.server.observe.metrics import Metrics

__all__ = ["grpc_server"]


def grpc_server(
    served: Served, keys: Keys, metrics: Metrics, gate: Gate, audit: Audit | None = None, **where: Any
) -> GrpcServer:
    """A server over ``served``; ``where`` is as ``GrpcServer`` takes it."""
    calls = Calls(metrics, gate, audit or Audit(None))
    services = [calls.service(VllmEngineService(served)), calls.service(InferenceService(served))]
    return GrpcServer(services, keys, lambda: served.healthy, audit=audit, **where)
