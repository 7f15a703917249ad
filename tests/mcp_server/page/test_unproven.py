"""Connections without the token are few, and the oldest gives way; the token is compared in constant time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest

from mcp_server.page import unproven
from mcp_server.page.unproven import FEWEST, MOST, DescriptorReserve, UnprovenConnections, token_matches
from mcp_server.page.web_server import Listener, _Connection


@pytest.mark.parametrize("given", [b"", b"x", b"t" * 42, b"t" * 43, b"t" * 44, b"t" * 100_000, b"\xff"])
def test_tokens_are_compared_as_digests_of_one_length(given: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared depends on every byte of both, so its time tells nothing of where they differ."""
    compared: list[tuple[bytes, bytes]] = []
    real = unproven.hmac.compare_digest

    def record(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(unproven.hmac, "compare_digest", record)
    assert token_matches(given, b"t" * 43) == (given == b"t" * 43)
    ((one, other),) = compared
    assert len(one) == len(other) == 32


@pytest.mark.parametrize(("descriptors", "limit"), [(64, FEWEST), (256, 32), (1024, 128), (1 << 20, MOST)])
def test_the_limit_follows_what_the_process_may_have(
    descriptors: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unproven, "descriptor_limit", lambda: descriptors)
    assert UnprovenConnections().limit == limit


def test_the_oldest_without_token_is_closed_and_who_has_shown_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unproven, "descriptor_limit", lambda: FEWEST * 8)
    connections, closed = UnprovenConnections(), []
    for number in range(FEWEST):
        connections.add(number, lambda number=number: closed.append(number))
    connections.discard(0)  # has shown the token
    for number in range(FEWEST, FEWEST + 3):
        connections.add(number, lambda number=number: closed.append(number))
    assert closed == [1, 2]
    assert len(connections) == FEWEST


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_the_reserve_is_taken_and_given_back() -> None:
    before, reserve = len(os.listdir("/proc/self/fd")), DescriptorReserve()
    reserve.fill()
    reserve.fill()
    assert len(os.listdir("/proc/self/fd")) == before + unproven.RESERVED
    reserve.release()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="uvicorn accepts there")
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_half_open_connections_give_way_also_before_a_tls_handshake(
    encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unproven, "descriptor_limit", lambda: FEWEST * 8)
    lost: list[_Connection] = []

    class Silent(asyncio.Protocol):
        def __init__(self, connection: _Connection) -> None:
            self.connection = connection

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(self.connection)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listener = Listener(listening, Silent, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if encrypted else None)
        clients = []
        for _ in range(FEWEST + 3):
            client = socket.socket()
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
            clients.append(client)
        async with asyncio.timeout(20):
            for client in clients[:3]:  # the oldest are closed
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
        for client in clients[3:]:
            with pytest.raises(BlockingIOError):
                client.recv(1)
        listener.close()
        for client in clients:
            client.close()
