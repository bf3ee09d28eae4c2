"""Web pages: which of them may ask, where no key is needed.

A browser sends requests for any page that it shows, to this machine too: with simple ones it does not even ask first,
and a name elsewhere that points to 127.0.0.1 (DNS rebinding) makes the page one of ours. It cannot hide where it asks
from, though, so a server without keys looks at that. With keys there is nothing to look at: no page knows one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from portico.errors import PermissionDeniedError
from portico.server.http.exchange import Exchange

__all__ = ["Browsers", "is_loopback", "is_private", "with_port", "without_port"]

OWN = frozenset({"same-origin", "same-site", "none"})  # values of Sec-Fetch-Site; the Origin tells sites apart
PRIVATE = (".localhost", ".local", ".internal")  # endings that no public name has


class Browsers:
    """What is asked under ``host``, the address that the server is bound to, or by pages of ``origins``."""

    def __init__(self, host: str = "127.0.0.1", origins: Collection[str] = ()) -> None:
        self._host = host
        self._local = is_loopback(host)
        self._origins = frozenset(origins)

    def check(self, exchange: Exchange) -> None:
        """Raise ``PermissionDeniedError`` where a page asks that nobody named."""
        host = exchange.header(b"host")
        if host is not None and not self._is_here(without_port(host.rsplit("@")[-1])):
            raise PermissionDeniedError(
                f"Without API keys this server answers under the address that it is bound to ({self._host}), not under "
                "the name in this request's Host header. Set --api-key to serve under any name.",
                code="host_not_allowed",
            )
        origin = exchange.header(b"origin")
        if self._origins & {origin, "*"}:
            return
        site = exchange.header(b"sec-fetch-site")
        if (origin is not None and origin.partition("://")[2] != host) or (site is not None and site not in OWN):
            raise PermissionDeniedError(
                "Without API keys this server answers no pages of other origins; name yours with --cors-origins.",
                code="origin_not_allowed",
            )

    def _is_here(self, name: str) -> bool:
        """Whether no page elsewhere can have made its browser ask under this name."""
        if is_loopback(name) or name == self._host:
            return True
        return not self._local and is_private(name)


def is_loopback(host: str) -> bool:
    """Whether a host, without a port, is this machine and seen from nowhere else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(name: str) -> bool:
    """Whether no public DNS can say where this host is: an address, or a name of somebody's own network."""
    return "." not in name or name.endswith(PRIVATE) or _is_address(name)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def with_port(host: str, port: int) -> str:
    """As a URL has them: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def without_port(host: str) -> str:
    """A host as a Host header or an operator spells it, as a name alone."""
    name = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower().removesuffix(".")
