"""What there may be beside HTTP, where the settings ask for it: the inspector, spans, gRPC."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

from portico.config import Settings
from portico.errors import BadRequestError
from portico.extras import installing
from portico.keys.audit import Audit
from portico.server.http.auth import Keys
from portico.server.http.gate import Gate
from portico.server.line.served import Served
from portico.server.observe.export import about
from portico.server.observe.inspector import Inspector
from portico.server.observe.metrics import Metrics
from portico.server.observe.trace_files import TraceFiles
from portico.trace import Recorder

if TYPE_CHECKING:
    from portico.server.grpc.server import GrpcServer, Tls
    from portico.server.observe.telemetry import Telemetry

__all__ = ["grpc_beside", "grpc_tls", "inspecting", "sending_spans"]

log = logging.getLogger("portico")

OTLP_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def inspecting(settings: Settings, served: Served) -> Inspector | None:
    """Who records requests, where the settings want any recorded."""
    if not settings.inspect and not settings.trace_header:
        return None
    recorder = Recorder(time.perf_counter, time.time, keep=settings.inspect_keep, redact=settings.inspect_redact)
    files = TraceFiles(settings.inspect_log, settings.inspect_keep) if settings.inspect_log is not None else None
    return Inspector(recorder, served, everything=settings.inspect, about=about(settings), files=files)


def sending_spans(settings: Settings) -> Telemetry | None:
    """Who sends spans, where the settings or OpenTelemetry's own variables ask for it."""
    asked = settings.otlp_endpoint is not None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if not asked and not any(os.environ.get(name) for name in OTLP_VARIABLES):
        return None
    try:
        from portico.server.observe.telemetry import Telemetry
    except ImportError as error:
        missing = f"OpenTelemetry needs more packages ({error.name} is missing): {installing('otel')}."
        if asked:
            raise BadRequestError(missing, param="otlp_endpoint") from None
        log.warning("no spans are sent: %s", missing)
        return None
    return Telemetry(settings.otlp_endpoint)


def grpc_beside(settings: Settings, served: Served, keys: Keys, metrics: Metrics, gate: Gate) -> GrpcServer | None:
    """The gRPC server that the settings ask for, if any. Raises ``BadRequestError`` where it cannot be had."""
    if settings.grpc_port is None:
        return None
    try:
        from portico.server.grpc.services import grpc_server
    except ImportError as error:
        raise BadRequestError(
            f"gRPC needs more packages ({error.name} is missing): {installing('grpc')}.", param="grpc_port"
        ) from None
    return grpc_server(
        served,
        keys,
        metrics,
        gate,
        Audit(settings.audit_log),
        host=settings.host,
        port=settings.grpc_port,
        max_message=settings.max_body,
        tls=grpc_tls(settings),
        share_port=settings.workers > 1,
    )


def grpc_tls(settings: Settings) -> Tls | None:
    """The files of gRPC's TLS, where the settings name them. Raises ``BadRequestError`` for a half of them."""
    from portico.server.grpc.server import Tls

    if settings.grpc_tls_cert is not None and settings.grpc_tls_key is not None:
        return Tls(settings.grpc_tls_cert, settings.grpc_tls_key, settings.grpc_tls_client_ca)
    if settings.grpc_tls_cert or settings.grpc_tls_key or settings.grpc_tls_client_ca:
        raise BadRequestError("TLS for gRPC takes both --grpc-tls-cert and --grpc-tls-key.", param="grpc_tls_cert")
    return None
