"""What stands in front of a server: TLS, proxies, a path, Unix sockets, systemd. Each is used as its clients use it."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from websockets.sync.client import connect

from portico.config import Settings, load_settings
from portico.errors import BadRequestError
from portico.server.http.fronted import fronted
from portico.server.process.certificates import Certificates
from portico.server.process.listener import bind_unix, refuse_to_be_open
from support.certificates import client_context, write_pair
from support.processes import children
from support.server import running_server
from support.wait import SAFETY, until


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps({"text": "Hello."}) + "\n")
    return path


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service tells systemd its state."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(SAFETY)
        yield heard


def requests_in(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{") and '"route"' in line]


def test_tls_behind_a_proxy(script: Path, tmp_path: Path, manager: socket.socket, smollm2_path: Path) -> None:
    ours, theirs = write_pair(tmp_path, "server"), write_pair(tmp_path, "client")
    tls = ("--tls-cert", ours[0], "--tls-key", ours[1], "--tls-client-ca", theirs[0])
    front = ("--root-path", "/llm", "--trusted-proxies", "127.0.0.0/8", "--trusted-proxies", "192.0.2.0/24")
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "900000000"}
    arguments = (smollm2_path, "--engine", f"replay:{script}", "--log-format", "json", *tls, *front)
    context = client_context(ours[0], theirs)
    with running_server(*arguments, env=environment, transport=httpx.HTTPTransport(verify=context)) as server:
        assert server.url.startswith("https://")
        assert {manager.recv(100) for _ in range(2)} == {b"READY=1", b"WATCHDOG=1"}
        told = {"x-forwarded-for": "203.0.113.9, 198.51.100.7, 192.0.2.1", "x-forwarded-proto": "https"}
        with httpx.Client(verify=context, timeout=SAFETY, headers=told) as client:
            for path in ("/llm/v1/models", "/v1/models"):  # a proxy may cut its path off, or not
                assert client.get(server.url + path).status_code == 200
            assert client.get(server.url + "/llmv1/models").status_code == 404
            assert client.get(server.url + "/llm/openapi.json").json()["servers"] == [{"url": "/llm"}]
            assert client.get(server.url + "/llm").json()["api"] == "/llm/v1"
            page = client.get(server.url + "/llm/batches").text
            assert 'href="/' not in page
            assert 'src="/' not in page
        until(lambda: len(requests_in(server.log())) >= 6)
        assert {one["address"] for one in requests_in(server.log())[-6:]} == {"198.51.100.7"}
        with connect(server.url.replace("https", "wss") + "/llm/v1/responses", ssl=context, open_timeout=SAFETY):
            pass

        with pytest.raises(httpx.TransportError):
            httpx.get(server.url + "/livez", verify=client_context(ours[0]), timeout=SAFETY)

        other = write_pair(tmp_path, "renewed")
        for old, new in zip(ours, other, strict=True):
            old.write_bytes(new.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "another certificate" in server.log())
        renewed = httpx.get(server.url + "/livez", verify=client_context(other[0], theirs), timeout=SAFETY)
        assert renewed.status_code == 200
        ours[1].write_bytes(theirs[1].read_bytes())  # of another certificate
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "stay as they are" in server.log())
        renewed = httpx.get(server.url + "/livez", verify=client_context(other[0], theirs), timeout=SAFETY)
        assert renewed.status_code == 200
        assert server.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.slow
def test_workers_on_a_unix_socket_that_systemd_opened(
    script: Path, tmp_path: Path, manager: socket.socket, smollm2_path: Path
) -> None:
    path = tmp_path / "socket"
    with bind_unix(path) as listener:
        listener.listen()
        start = (
            f"import os, sys; os.dup2({listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.executable, sys.argv[1:])"
        )
        arguments = (smollm2_path, "--engine", f"replay:{script}", "--workers", "2", "--host", "0.0.0.0")
        logged = ("--log-format", "json", "--trusted-proxies", "unix")
        transport = httpx.HTTPTransport(uds=str(path))
        with running_server(
            *(*arguments, *logged),
            env={"NOTIFY_SOCKET": manager.getsockname(), "LISTEN_FDS": "1"},
            through=(sys.executable, "-c", start),
            inherits=[listener.fileno()],
            transport=transport,
        ) as server:
            assert manager.recv(100) == b"READY=1"
            assert len(children(server.process.pid, "portico.server.process.worker")) == 2
            with httpx.Client(transport=transport, timeout=SAFETY) as client:
                asked = client.get("http://localhost/v1/models", headers={"x-forwarded-for": "198.51.100.7"})
                assert asked.status_code == 200
            until(lambda: any(one.get("address") == "198.51.100.7" for one in requests_in(server.log())))
            assert server.stop() == 0
    assert path.is_socket()  # it is systemd's


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        (("203.0.113.1", 1), "198.51.100.7", "203.0.113.1"),  # anybody may write the header
        (("10.1.2.3", 1), "198.51.100.7", "198.51.100.7"),
        (("::ffff:10.1.2.3", 1), "198.51.100.7", "198.51.100.7"),
        (("10.1.2.3", 1), "203.0.113.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),  # what a client wrote comes first
        (("10.1.2.3", 1), "[2001:db8::1]:443", "2001:db8::1"),
        (("10.1.2.3", 1), None, "10.1.2.3"),
        (None, "198.51.100.7", "198.51.100.7"),
    ],
    ids=str,
)
async def test_who_asks(peer: tuple[str, int] | None, forwarded: str | None, seen: str) -> None:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["client"][0])

    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "client": peer, "headers": headers, "path": "/", "raw_path": b"/"}
    nothing: Any = None
    await fronted(app, "", ["10.0.0.0/8", "unix"])(scope, nothing, nothing)
    assert found == [seen]


@pytest.mark.parametrize(
    "flags",
    [
        {"trusted_proxies": ["10.0.0.1/8"]},
        {"trusted_proxies": ["*"]},
        {"root_path": "llm"},
        {"root_path": "/v1"},
        {"root_path": "/a b"},
        {"idle_timeout": 0},
    ],
    ids=str,
)
def test_what_cannot_be_meant(flags: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        load_settings(flags)
    assert refused.value.errors()[0]["loc"] == tuple(flags)


def test_certificates_that_do_not_fit(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, "one")
    _, another = write_pair(tmp_path, "other")
    (tmp_path / "empty").write_bytes(b"")
    for cert, private, ca, told in [
        (certificate, None, None, "both"),
        (None, None, certificate, "both"),
        (certificate, another, None, "mismatch"),
        (certificate, tmp_path / "absent", None, "no such file"),
        (tmp_path / "empty", key, None, "no certificate with its key"),
        (certificate, key, tmp_path / "empty", "cannot be read as CA"),
    ]:
        with pytest.raises(BadRequestError, match=told):
            Certificates(Settings(tls_cert=cert, tls_key=private, tls_client_ca=ca))
    assert isinstance(Certificates(Settings(tls_cert=certificate, tls_key=key)).context, ssl.SSLContext)


def test_a_unix_socket_is_its_owners_and_replaces_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    bind_unix(path).close()
    with bind_unix(path) as living:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        living.listen()
        with pytest.raises(BadRequestError, match="already in use"):
            bind_unix(path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadRequestError):
        bind_unix(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_hides_a_server() -> None:
    beyond = {"host": "0.0.0.0", "uds": Path("s")}
    refuse_to_be_open(Settings(**beyond))
    with pytest.raises(BadRequestError):
        refuse_to_be_open(Settings(**beyond, grpc_port=0))  # that is on the host all the same
