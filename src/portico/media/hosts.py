"""To whom this server speaks because a client named an address: hosts that the operator lists, and no inner ones.

* A host is listed as ``example.org``, ``*.example.org`` or ``example.org:8443``; a port other than the scheme's own
  must be listed with it.
* It is resolved once, every address it has must be public, and the connection goes to the address that was checked:
  private, loopback, link-local, shared, multicast and reserved ranges are refused, in IPv4, in IPv6 and where IPv6
  only wraps IPv4.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

__all__ = ["Address", "Hosts", "Resolver", "is_public"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Hosts:
    """The hosts that are ``listed``.

    ``resolve`` takes the place of the system's resolver, ``public`` that of the rule for addresses: for tests, and for
    operators who know their network.
    """

    def __init__(
        self,
        listed: Collection[str] = (),
        *,
        resolve: Resolver | None = None,
        public: Callable[[Address], bool] | None = None,
    ) -> None:
        self.listed = frozenset(host.lower() for host in listed)
        self._resolve = resolve or _system_resolver
        self._public = public or is_public

    def lists(self, host: str, port: int | None) -> bool:
        """Whether ``host`` is listed; ``port`` is None where it is the scheme's own."""
        host = host.lower()
        domains = [host, *(f"*.{host.split('.', n)[n]}" for n in range(1, host.count(".") + 1))]
        return any((domain if port is None else f"{domain}:{port}") in self.listed for domain in domains)

    async def address(self, host: str, port: int) -> str | None:
        """An address of the host in the form that URLs have it; None where any that it has is not public.

        Raises ``OSError`` or ``UnicodeError`` where it has none.
        """
        addresses = [ipaddress.ip_address(one) for one in await self._resolve(host, port)]
        if not addresses or not all(self._public(one) for one in addresses):
            return None
        return f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, looking inside IPv6 addresses that wrap IPv4 ones."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def _system_resolver(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]
