"""TLS of the HTTP server: its certificate and key, and whose certificates clients must have."""

from __future__ import annotations

import ssl

from portico.config import Settings
from portico.errors import BadRequestError

__all__ = ["Certificates"]


class Certificates:
    """``context`` is for accepting connections; None where the settings name no certificate.

    Raises ``BadRequestError`` where a file is missing or does not fit.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.chain = b""  # as it was read last
        self.context = self._read()

    def read_again(self) -> None:
        """From now on connections get what the files say now. Raises as at the beginning; then nothing changes."""
        if self.context is not None and self._read() is not None:  # a pair that does not fit would spoil the context
            self._load_chain(self.context)

    def _read(self) -> ssl.SSLContext | None:
        cert, ca = self._settings.tls_cert, self._settings.tls_client_ca
        if (cert is None) != (self._settings.tls_key is None) or (ca is not None and cert is None):
            raise BadRequestError("TLS takes both --tls-cert and --tls-key.", param="tls_cert")
        if cert is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        self._load_chain(context)
        if ca is not None:
            try:
                context.load_verify_locations(ca)
            except OSError as error:
                raise BadRequestError(f"{ca} cannot be read as CA: {_why(error)}.", param="tls_client_ca") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        cert, key = self._settings.tls_cert, self._settings.tls_key
        assert cert is not None
        assert key is not None

        def no_password() -> str:  # without it OpenSSL would ask on the terminal
            raise BadRequestError(f"{key} is encrypted; give a key without a password.", param="tls_key")

        try:
            self.chain = cert.read_bytes()
            context.load_cert_chain(cert, key, no_password)
        except OSError as error:
            raise BadRequestError(
                f"{cert} and {key} are no certificate with its key: {_why(error)}.", param="tls_cert"
            ) from None


def _why(error: OSError) -> str:
    return (getattr(error, "reason", None) or error.strerror or str(error)).lower().replace("_", " ")
