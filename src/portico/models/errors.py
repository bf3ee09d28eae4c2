"""What can go wrong between a model's name and its file."""

from __future__ import annotations

from portico.errors import PorticoError

__all__ = ["OfflineError", "PullError"]


class PullError(PorticoError):
    """A model could not be fetched, checked or converted. The message says what to do about it."""

    status, type, code = 503, "server_error", "model_unavailable"


class OfflineError(PullError):
    """The package index or model hub could not be reached."""
