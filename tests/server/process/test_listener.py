"""The listening socket: what is accepted on it must not wait for more bytes before it sends."""

from __future__ import annotations

import asyncio
import socket

from portico.server.process.listener import bind


def test_what_is_accepted_sends_at_once_on_asyncios_own_loop() -> None:
    listener = bind("127.0.0.1", 0)
    seen: list[int] = []

    async def main() -> None:
        done = asyncio.Event()

        class Connection(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                done.set()

        server = await asyncio.get_running_loop().create_server(Connection, sock=listener)
        with socket.create_connection(listener.getsockname()):
            await asyncio.wait_for(done.wait(), 120)
        server.close()

    asyncio.run(main())
    assert seen[0] != 0
