"""How a connection ends with its server."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from portico.server.http.connection import LINGER, connections


async def nobody(scope: Any, receive: Any, send: Any) -> None:
    """An application that is not asked."""


@pytest.mark.parametrize(("unsent", "cut"), [(0, True), (1, False)])
async def test_a_client_that_never_says_goodbye_does_not_hold_the_server_up(unsent: int, cut: bool) -> None:
    """As over TLS, where closing waits for the client's end. One that still reads may read on."""
    loop = Mock(wraps=asyncio.get_running_loop())
    loop.call_later = Mock()
    make = connections(max_head=1000, max_body=1000, client_timeout=600)
    config = uvicorn.Config(nobody, lifespan="off", log_config=None)
    connection = make(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    transport = Mock(spec=asyncio.Transport)
    transport.get_write_buffer_size.return_value = unsent
    connection.connection_made(transport)
    connection.shutdown()
    transport.close.assert_called_once_with()
    (later,) = (call.args[1] for call in loop.call_later.mock_calls if call.args[:1] == (LINGER,))
    later()
    assert transport.abort.called is cut
