"""Who may come in: unix sockets and the loopback transport, both ends, over real sockets."""

from __future__ import annotations

import json
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketListener, SocketStream

from mcp_server.processes import handshake
from mcp_server.processes.connections import accept_handshake, listen
from mcp_server.processes.handshake import (
    PROTOCOL_KEY,
    HandshakeRefused,
    HandshakeTimeout,
    OwnerNotFound,
    dial,
    handshake_request,
)
from mcp_server.processes.owner_lock import PROTOCOL, OwnerFiles
from mcp_server.state_files import write_state

LIMIT = 5.0


@asynccontextmanager
async def owner(owner_files: OwnerFiles, *, tcp: bool) -> AsyncIterator[list[dict[str, Any]]]:
    """An owner that only says hello; yields the hellos of those who came in."""
    came: list[dict[str, Any]] = []
    address = listen(owner_files, "0123456789", tcp=tcp)
    write_state(owner_files.state_file, {"endpoint": address.endpoint})
    listener = await SocketListener.from_socket(address.socket)

    async def receive(stream: SocketStream) -> None:
        async with stream:
            connection = await accept_handshake(stream, address, {"instance": "i"})
            if connection is not None:
                came.append(connection.handshake)
                if (line := await connection.receive_line()) is not None:
                    await connection.send_line(line.upper())

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receive)
        yield came
        tasks.cancel_scope.cancel()
    address.unlink()


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_hellos_are_exchanged_and_nothing_of_what_follows_is_lost(owner_files: OwnerFiles, tcp: bool) -> None:
    async with owner(owner_files, tcp=tcp) as came:
        line, answer = await anyio.to_thread.run_sync(
            dial, owner_files, handshake_request("client", folders=["/a"]), LIMIT
        )
        assert answer["instance"] == "i"
        assert came[0]["folders"] == ["/a"]
        line.socket.sendall(b'{"a": "b"}\n')
        assert await anyio.to_thread.run_sync(line.receive) == {"A": "B"}
        line.close()


async def test_the_token_is_private_and_never_sent(owner_files: OwnerFiles) -> None:
    async with owner(owner_files, tcp=True):
        token = Path(owner_files.token_file).read_text(encoding="ascii")
        assert len(token) == 64
        assert stat.S_IMODE(Path(owner_files.token_file).stat().st_mode) == 0o600
        port = json.loads(Path(owner_files.state_file).read_text(encoding="utf-8"))["endpoint"]["port"]
        heard: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as between:
            thread = threading.Thread(target=_pass_on, args=(between, port, heard))
            thread.start()
            write_state(owner_files.state_file, {"endpoint": {"kind": "tcp", "port": between.getsockname()[1]}})
            line, _ = await anyio.to_thread.run_sync(dial, owner_files, handshake_request("client"), LIMIT)
            line.close()
            await anyio.to_thread.run_sync(thread.join, LIMIT)
    assert heard
    assert token.encode() not in b"".join(heard)


async def test_who_does_not_know_the_token_is_refused(owner_files: OwnerFiles) -> None:
    async with owner(owner_files, tcp=True) as came:
        right = Path(owner_files.token_file).read_text(encoding="ascii")

        def intrude() -> dict[str, Any]:
            endpoint = json.loads(Path(owner_files.state_file).read_text(encoding="utf-8"))["endpoint"]
            line = handshake.LineSocket(handshake.connect(endpoint, LIMIT))
            ours = handshake.nonce()
            line.send({PROTOCOL_KEY: PROTOCOL, "challenge": ours})
            said = line.receive()
            wrong = handshake.proof("00" * 32, "relay", said["challenge"], ours)
            assert wrong != handshake.proof(right, "relay", said["challenge"], ours)
            line.send({**handshake_request("client"), "proof": wrong})
            answer = line.receive()
            line.close()
            return answer

        answer = await anyio.to_thread.run_sync(intrude)
        assert answer["ok"] is False
        assert "token" in answer["error"]
        assert came == []


async def test_an_owners_proof_cannot_be_turned_into_a_relays(owner_files: OwnerFiles) -> None:
    """Two connections: what the owner proves on one is worth nothing as our proof on the other."""
    async with owner(owner_files, tcp=True) as came:

        def reflect() -> dict[str, Any]:
            endpoint = json.loads(Path(owner_files.state_file).read_text(encoding="utf-8"))["endpoint"]
            one, two = (handshake.LineSocket(handshake.connect(endpoint, LIMIT)) for _ in range(2))
            one.send({PROTOCOL_KEY: PROTOCOL, "challenge": "ab"})
            said = one.receive()
            two.send({PROTOCOL_KEY: PROTOCOL, "challenge": said["challenge"]})
            stolen = two.receive()["proof"]
            one.send({**handshake_request("client"), "proof": stolen})
            answer = one.receive()
            one.close()
            two.close()
            return answer

        assert (await anyio.to_thread.run_sync(reflect))["ok"] is False
        assert came == []


async def test_a_stranger_on_the_port_is_not_our_owner(owner_files: OwnerFiles) -> None:
    """It may even repeat what it is sent; it does not get our proof."""
    async with owner(owner_files, tcp=True):
        pass  # leaves a token behind
    heard: list[bytes] = []

    def squat(listening: socket.socket) -> None:
        one, _ = listening.accept()
        with one:
            heard.append(one.recv(65536))
            one.sendall(json.dumps({PROTOCOL_KEY: PROTOCOL, "challenge": "00", "proof": "11"}).encode() + b"\n")
            heard.append(one.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=squat, args=(listening,))
        thread.start()
        write_state(owner_files.state_file, {"endpoint": {"kind": "tcp", "port": listening.getsockname()[1]}})
        with pytest.raises(OwnerNotFound, match="something else has the owner's port"):
            await anyio.to_thread.run_sync(dial, owner_files, handshake_request("client"), LIMIT)
        thread.join(LIMIT)
    assert heard[1] == b""


async def test_another_protocol_is_refused_with_the_reason(owner_files: OwnerFiles) -> None:
    async with owner(owner_files, tcp=False) as came:
        with pytest.raises(HandshakeRefused, match="protocol 99"):
            await anyio.to_thread.run_sync(dial, owner_files, {**handshake_request("client"), PROTOCOL_KEY: 99}, LIMIT)
        assert came == []


@pytest.mark.parametrize("said", [b"\n", b"[]\n", b"nonsense\n", b'{"folder-mcp": 1', b"[" * 5000 + b"\n"])
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
async def test_nonsense_is_answered_with_the_end(owner_files: OwnerFiles, said: bytes, tcp: bool) -> None:
    async with owner(owner_files, tcp=tcp) as came:

        def talk() -> bytes:
            endpoint = json.loads(Path(owner_files.state_file).read_text(encoding="utf-8"))["endpoint"]
            with handshake.connect(endpoint, LIMIT) as one:
                one.sendall(said)
                one.shutdown(socket.SHUT_WR)
                return one.recv(65536)

        heard = await anyio.to_thread.run_sync(talk)
        assert heard == b"" or json.loads(heard)["ok"] is False
        assert came == []


def test_nobody_there_is_told_from_silence(owner_files: OwnerFiles) -> None:
    with pytest.raises(OwnerNotFound):
        dial(owner_files, handshake_request("client"), LIMIT)
    path = str(Path(owner_files.directory, "owner.sock"))
    write_state(owner_files.state_file, {"endpoint": {"kind": "unix", "path": path}})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        with pytest.raises(OwnerNotFound):  # a leftover
            dial(owner_files, handshake_request("client"), LIMIT)
        listening.listen(1)
        with pytest.raises(HandshakeTimeout) as caught:
            dial(owner_files, handshake_request("client"), 0.05)
        accepted, _ = listening.accept()
        accepted.sendall(b'{"late": true}\n')
        assert caught.value.connection.receive() == {"late": True}  # the connection is kept: it may still answer
        caught.value.connection.close()
        accepted.close()


@pytest.mark.parametrize("endpoint", [None, {}, {"kind": "tcp"}, {"kind": "tcp", "port": "x"}, {"kind": "unix"}, 5])
def test_a_note_without_an_address_means_nobody_is_there(owner_files: OwnerFiles, endpoint: object) -> None:
    write_state(owner_files.state_file, {"endpoint": endpoint})
    with pytest.raises(OwnerNotFound):
        dial(owner_files, handshake_request("client"), LIMIT)


@pytest.mark.skipif(sys.platform == "win32", reason="unix sockets")
def test_a_leftover_socket_is_removed_and_a_squatters_is_not(owner_files: OwnerFiles) -> None:
    first = listen(owner_files, "aaaaaaaaaa")
    first.socket.close()  # as a killed owner leaves it
    second = listen(owner_files, "bbbbbbbbbb")
    assert second.endpoint == first.endpoint
    third = listen(owner_files, "cccccccccc")  # the second one answers
    assert third.endpoint["path"].endswith("owner-cccccccc.sock")
    assert Path(second.endpoint["path"]).exists()
    for one in (second, third):
        one.socket.close()
        one.unlink()
    assert not list(Path(owner_files.directory).glob("*.sock"))


def _pass_on(between: socket.socket, port: int, heard: list[bytes]) -> None:
    """Stand between relay and owner, and listen."""
    left, _ = between.accept()
    right = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            heard.append(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=pump, args=(right, left))
    back.start()
    pump(left, right)
    back.join(LIMIT)
    left.close()
    right.close()
