"""The owner's state file and what lies beside it hold anything: nothing hangs, is dialled outside, or killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from relays import ROOT, Home

from mcp_server.processes.connections import Connections, listen
from mcp_server.processes.handshake import (
    PROTOCOL_KEY,
    HandshakeRefused,
    HandshakeTimeout,
    OwnerNotFound,
    connect,
    dial,
    handshake_request,
)
from mcp_server.processes.owner_lock import PROTOCOL, OwnerFiles, OwnerLock, holder
from mcp_server.state_files import read_state, write_state
from mcp_server.version import newer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="unix sockets and pipes")

DEEP = "[" * 100_000
NOTES: dict[str, Any] = {
    "no json": "it was here",
    "empty": "",
    "list": "[]",
    "deep": DEEP,
    "not utf-8": b"\xff\xfe\x00",
    "long path": {"endpoint": {"kind": "unix", "path": "/" + "x" * 300}},
    "path with nul": {"endpoint": {"kind": "unix", "path": "/tmp/owner\0.sock"}},
    "path elsewhere": {"endpoint": {"kind": "unix", "path": "/run/systemd/private"}},
    "path above": {"endpoint": {"kind": "unix", "path": "../../owner.sock"}},
    "path that is none": {"endpoint": {"kind": "unix", "path": ["owner.sock"]}},
    "huge port": {"endpoint": {"kind": "tcp", "port": 99_999_999}},
    "port 10**400": '{"endpoint": {"kind": "tcp", "port": 1' + "0" * 400 + "}}",
    "negative port": {"endpoint": {"kind": "tcp", "port": -1}},
    "no port": {"endpoint": {"kind": "tcp", "port": 0}},
    "port as text": {"endpoint": {"kind": "tcp", "port": "ssh"}},
    "port as a number with a point": '{"endpoint": {"kind": "tcp", "port": 1e999}}',
    "port true": {"endpoint": {"kind": "tcp", "port": True}},
    "another kind": {"endpoint": {"kind": "http", "port": 80}},
    "endpoint as text": {"endpoint": "127.0.0.1:80"},
    "kind as a list": {"endpoint": {"kind": [], "port": 80}},
}


def forge(files: OwnerFiles, note: Any) -> None:
    path = Path(files.state_file)
    if isinstance(note, dict):
        write_state(str(path), {"pid": -1, "version": "9" * 5000, **note})
    else:
        path.write_bytes(note if isinstance(note, bytes) else note.encode())


@pytest.mark.parametrize("note", NOTES)
def test_a_forged_note_means_that_nobody_is_there(owner_files: OwnerFiles, note: str) -> None:
    forge(owner_files, NOTES[note])
    with pytest.raises(OwnerNotFound):
        dial(owner_files, handshake_request("client"), 5.0)


@pytest.mark.parametrize("kind", ["pipe", "huge", "directory", "link", "device"])
def test_what_is_no_small_file_is_no_note(owner_files: OwnerFiles, kind: str, tmp_path: Path) -> None:
    path = Path(owner_files.state_file)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(1 << 30)
    elif kind == "directory":
        path.mkdir()
    else:
        other = tmp_path / "other.json"
        other.write_text('{"pid": 7}', encoding="utf-8")
        path.symlink_to("/dev/zero" if kind == "device" else other)
    assert read_state(str(path)) == {}


def test_an_address_of_another_machine_is_never_dialled(owner_files: OwnerFiles) -> None:
    """Whatever host a note names: the port is looked for on loopback, and its holder has to prove itself."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        endpoint = {"kind": "tcp", "port": port, "host": "192.0.2.1", "address": "192.0.2.1"}
        connection = connect(endpoint, 5.0)
        assert connection.getpeername() == ("127.0.0.1", port)
        connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"ok": true}\n',
        DEEP.encode() + b"\n",
        b"x" * 2_000_000,
        b"\xff\n",
        json.dumps({PROTOCOL_KEY: PROTOCOL, "ok": False, "error": ["no"]}).encode() + b"\n",
    ],
    ids=["nothing", "empty", "list", "stranger", "deep", "endless", "no text", "refused"],
)
def test_whatever_a_foreign_process_answers_is_an_answer(owner_files: OwnerFiles, answer: bytes) -> None:
    path = os.path.join(owner_files.directory, "owner.sock")
    write_state(owner_files.state_file, {"endpoint": {"kind": "unix", "path": path}})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)

        def speak() -> None:
            one, _ = listening.accept()
            with one:
                one.recv(65536)
                try:
                    one.sendall(answer)
                except OSError:
                    return

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises((OwnerNotFound, HandshakeRefused)):
            dial(owner_files, handshake_request("client"), 5.0)
        thread.join(10)


def test_who_sends_a_byte_now_and_then_has_no_more_time_than_others(owner_files: OwnerFiles) -> None:
    path = os.path.join(owner_files.directory, "owner.sock")
    write_state(owner_files.state_file, {"endpoint": {"kind": "unix", "path": path}})
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)

        def drip() -> None:
            one, _ = listening.accept()
            with one:
                while not ended.wait(0.01):
                    try:
                        one.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(HandshakeTimeout) as caught:
            dial(owner_files, handshake_request("client"), 0.2)
        caught.value.connection.close()
        ended.set()
        thread.join(10)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can make a process of another user")
@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED")
def test_a_socket_of_another_user_is_not_spoken_to(owner_files: OwnerFiles) -> None:
    """Root is the relay here, and the stranger listens under another name: he hears nothing."""
    from mcp_server.processes import handshake

    path = os.path.join(owner_files.directory, "owner.sock")
    os.chmod(owner_files.directory, 0o777)
    os.chmod(os.path.dirname(owner_files.directory), 0o777)
    program = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(1); print('up', flush=True)\n"
        "one, _ = s.accept(); print(one.recv(100), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == "up\n"
        write_state(owner_files.state_file, {"endpoint": {"kind": "unix", "path": path}})
        with pytest.raises(OwnerNotFound, match="another user"):
            handshake.dial(owner_files, handshake_request("client"), 5.0)
        assert stranger.stdout.readline() == "b''\n"


@pytest.mark.parametrize("left", ["directory", "file", "pipe", "full"])
def test_what_lies_where_the_owners_socket_goes_does_not_keep_it_from_listening(
    owner_files: OwnerFiles, left: str
) -> None:
    path = Path(owner_files.directory, "owner.sock")
    with socket.socket(socket.AF_UNIX) as squatter:
        if left == "directory":
            (path / "inner").mkdir(parents=True)
        elif left == "pipe":
            os.mkfifo(path)
        elif left == "file":
            path.write_text("", encoding="utf-8")
        else:  # it listens and does not accept: connecting waits until the time is up
            squatter.bind(str(path))
            squatter.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(str(path))
        address = listen(owner_files, "abcdefgh12")
        usual = left in ("file", "pipe")
        assert address.endpoint["path"] == str(path if usual else path.with_name("owner-abcdefgh.sock"))
        connect(address.endpoint, 5.0).close()
        address.socket.close()
        for one in waiting if left == "full" else ():
            one.close()


@pytest.mark.parametrize("pid", ["abc", [1], {"a": 1}, 10**400, None, True, -1, 1.5])
def test_a_handshake_with_any_process_id_is_a_connection(pid: Any) -> None:
    connections = Connections("")
    with connections.registered({"kind": "client", "pid": pid, "folders": 5, "version": []}) as info:
        assert isinstance(info.pid, int)
        assert info.folders == ()
    assert not connections.present


def test_versions_of_thousands_of_digits_are_compared() -> None:
    assert not newer("9" * 5000, "1.0") or newer("9" * 5000, "1.0")
    assert not newer("", "9" * 5000)


# Who is killed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [-1, 0, 1, True, "7", None, 1.5])
def test_a_process_id_that_is_none_is_not_believed(owner_files: OwnerFiles, named: object) -> None:
    """``kill(-1)`` would end every process of the user."""
    assert holder(OwnerFiles(owner_files.directory + "/nowhere"), named) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
def test_the_kernel_says_who_holds_the_lock_whatever_the_note_says(owner_files: OwnerFiles) -> None:
    with OwnerLock(owner_files) as lock:
        assert lock.acquire()
        for named in (1, -1, os.getppid(), "x", os.getpid()):
            assert holder(owner_files, named) == os.getpid()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
def test_stop_with_force_kills_the_owner_and_not_what_the_note_names(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        home.client().begin().status()
        owner = home.owner()
        with subprocess.Popen(["sleep", "600"]) as bystander:
            os.kill(owner, signal.SIGSTOP)
            write_state(home.owner_files.state_file, {**home.note(), "pid": bystander.pid})
            done = home.command("stop", "--force")
            assert done.stdout == f"killed process {owner}, which does not answer\n"
            assert bystander.poll() is None
            bystander.kill()
    finally:
        home.close()


# Whole commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("note", ["no json", "long path", "huge port", "negative port", "deep", "path with nul"])
def test_a_client_finds_an_owner_behind_a_forged_note(home: Home, note: str) -> None:
    forge(home.owner_files, NOTES[note])
    client = home.client(str(home.notes)).begin()
    assert client.finds("signing")
    assert home.owners() == [home.owner()]


@pytest.mark.slow
def test_commands_end_in_time_beside_a_lock_that_somebody_holds_and_a_forged_note(home: Home) -> None:
    """The holder never answers; the note names a pipe, a port of nobody, a process of somebody."""
    assert home.command("index", str(home.notes), "--no-daemon").stderr is not None
    program = (
        "import sys; from mcp_server.processes.owner_lock import OwnerFiles, OwnerLock\n"
        "lock = OwnerLock(OwnerFiles(sys.argv[1])); assert lock.acquire(); print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, home.owner_files.directory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as stranger:
        assert stranger.stdout
        assert stranger.stdout.readline() == b"up\n"
        Path(home.owner_files.state_file).unlink()
        os.mkfifo(home.owner_files.state_file)
        for words, code, said in (
            (["search", "signing", "--mode", "keyword"], 0, "keys.md"),
            (["status"], 0, "folder-mcp"),
            (["stop"], 1, "cannot be reached"),
            (["doctor"], 1, "background process"),
        ):
            began = time.monotonic()
            done = home.command(*words)
            assert done.returncode == code, (words, done.stdout, done.stderr)
            assert said in done.stdout + done.stderr
            assert "Error" not in done.stderr
            assert time.monotonic() - began < 45, words
        assert stranger.poll() is None
        os.unlink(home.owner_files.state_file)
        stranger.kill()
