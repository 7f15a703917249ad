"""``serve FOLDER --only``: a limit that holds with a shared owner, its successor, without an owner, and over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client as SdkClient
from mcp.client.streamable_http import streamable_http_client
from relays import ROOT, Client, Home, wait_gone

from mcp_server.processes.attach import OwnerConnector, OwnerUnresponsive
from mcp_server.processes.handshake import PROTOCOL_KEY, LineSocket, handshake_request
from mcp_server.processes.launch import absolute_folder, parse_relay_arguments
from mcp_server.processes.owner_lock import PROTOCOL, OwnerLock, owner_files_for
from mcp_server.state_files import write_state

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
SECRET = "quarrystone"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Two folders: ``notes``, which the client may see, and ``other``, which the owner knows as well."""
    made = Home(tmp_path)
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / f"{SECRET}.md").write_text(f"# Other\n\nThe signing {SECRET} of another client.\n", encoding="utf-8")
    (other / "deep" / "inner.md").write_text("# Inner\n\nThe signing of the inner folder.\n", encoding="utf-8")
    yield made
    made.close()


def sees_only(client: Client, folder: Path, hit: Path, other: Path) -> None:
    """Everything that a client of the one folder can ask shows nothing of the other."""
    answers = [
        client.tool("search", query="signing"),
        client.tool("search", query=SECRET, mode="keyword", top_k=50),
        client.tool("search", query="signing", folders=[str(other)]),
        client.tool("search", query="signing", folders=["other"]),
        client.tool("search", query="signing", path_glob="../other/**"),
        client.tool("read", path=str(other / f"{SECRET}.md")),
        client.tool("read", path=f"{folder}/../other/{SECRET}.md"),
        client.tool("status", verbose=True),
        client.ask("resources/read", uri="folder-mcp://status"),
    ]
    for answer in answers:
        text = json.dumps(answer).replace(str(other / f"{SECRET}.md"), "").replace(f'"query": "{SECRET}"', "")
        assert SECRET not in text.replace(f"../other/{SECRET}.md", ""), text
    assert [hit["path"] for hit in answers[0]["result"]["structuredContent"]["hits"]] == [str(hit)]
    refused, unknown = answers[5]["result"], client.tool("read", path=str(other / "nothing.md"))["result"]
    assert refused["isError"] is unknown["isError"] is True
    assert refused["content"] == unknown["content"]
    assert [one["path"] for one in client.status()["folders"]] == [str(folder)]


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("modern", [False, True])
def test_a_limit_holds_with_a_shared_owner_with_its_successor_and_without_one(home: Home, modern: bool) -> None:
    other = home.base / "other"
    free = home.client(str(home.notes), str(other)).begin()
    assert free.finds(SECRET)
    client = home.client(str(home.notes), modern=modern, words=["--only"]).begin()
    assert client.finds("signing")
    first = home.owner()
    sees_only(client, home.notes, home.notes / "keys.md", other)
    os.kill(first, signal.SIGKILL)
    wait_gone(first)
    assert free.finds(SECRET)
    assert client.finds("signing")
    assert home.owner() != first
    sees_only(client, home.notes, home.notes / "keys.md", other)
    os.kill(home.owner(), signal.SIGSTOP)
    try:
        assert client.finds("signing")
        answer = client.tool("search", query="signing")["result"]["structuredContent"]
        assert any("does not answer" in notice for notice in answer["notices"]), "another process answers"
        sees_only(client, home.notes, home.notes / "keys.md", other)
    finally:
        os.kill(home.owner(), signal.SIGCONT)


@pytest.mark.slow
@LINUX
def test_a_part_of_an_indexed_folder_is_a_limit_and_is_not_indexed_a_second_time(home: Home) -> None:
    other = home.base / "other"
    free = home.client(str(other)).begin()
    assert free.finds(SECRET)
    client = home.client(str(other / "deep"), words=["--only"]).begin()
    assert client.finds("signing") == [str(other / "deep" / "inner.md")]
    sees_only(client, other / "deep", other / "deep" / "inner.md", other)
    (folder,) = client.status()["folders"]
    assert (folder["files"]["indexed"], folder["chunks"], folder["source"]) == (1, 1, "part")
    assert [one["path"] for one in free.status()["folders"]] == [str(other)]


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("spelled", ["~/notes", "file://{}", "{}/", "{}/../notes", "link", "{}/./"])
def test_a_limit_is_the_folder_however_it_is_spelled(home: Home, spelled: str) -> None:
    (home.base / "link").symlink_to(home.notes)
    name = str(home.base / "link") if spelled == "link" else spelled.format(home.notes)
    free = home.client(str(home.base / "other")).begin()
    assert free.finds(SECRET)
    client = home.client(name, words=["--only"], env={**os.environ, "HOME": str(home.base)}).begin()
    assert client.finds("signing") == [str(home.notes / "keys.md")]
    assert client.found(SECRET) == []


@pytest.mark.slow
@LINUX
def test_a_limit_holds_in_a_process_that_serves_its_client_alone(home: Home) -> None:
    home.command("index", str(home.base / "other"), "--no-daemon")
    client = home.client(str(home.notes), words=["--only", "--no-daemon"]).begin()
    assert client.finds("signing")
    assert home.owners() == []
    sees_only(client, home.notes, home.notes / "keys.md", home.base / "other")


@pytest.mark.slow
@LINUX
def test_a_limit_to_what_is_no_folder_shows_nothing(home: Home) -> None:
    free = home.client(str(home.base / "other")).begin()
    assert free.finds(SECRET)
    client = home.client(str(home.base / "nowhere"), words=["--only"]).begin()
    answer = client.tool("search", query="signing")["result"]["structuredContent"]
    assert answer["hits"] == []
    assert any("does not exist" in notice for notice in answer["notices"])
    assert client.status()["folders"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("serve", "--only"), ("serve", "--only", "--http"), ("install", "cursor", "--only")]
)
def test_a_limit_without_a_folder_is_wrong_usage(home: Home, words: tuple[str, ...]) -> None:
    done = home.command(*words)
    assert done.returncode == 2
    assert "--only needs the folders" in done.stderr


@pytest.mark.slow
@LINUX
async def test_over_http_the_folders_are_the_limit_of_every_client(home: Home) -> None:
    other = home.base / "other"
    home.command("index", str(other), "--no-daemon")  # its model is missing: by word only
    words = ["serve", "--http", "127.0.0.1:0", "--only", *home.flags, str(home.notes)]
    command = [sys.executable, "-m", "mcp_server", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        url = process.stderr.readline().split("serving ")[1].split(";")[0]
        token = (home.data / "http-token").read_text(encoding="ascii").strip()
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as web:
            for mode in ("legacy", "auto"):
                transport: Any = streamable_http_client(url, http_client=web)
                async with SdkClient(transport, mode=mode) as client:
                    for tool, arguments in (
                        ("search", {"query": "signing"}),
                        ("search", {"query": "signing", "folders": [str(other)]}),
                        ("read", {"path": str(other / "deep" / "inner.md")}),
                        ("status", {}),
                    ):
                        answer = (await client.call_tool(tool, arguments)).model_dump_json()
                        assert "inner folder" not in answer
                        assert SECRET not in answer
        process.terminate()


# Owners of other versions -------------------------------------------------------------------------------------------


def test_an_owner_that_does_not_know_limits_is_not_used(tmp_path: Path) -> None:
    files = owner_files_for(str(tmp_path / "data"))
    path = (
        Path(files.directory) / "owner.sock"
    )  # where an owner has it; a note that names another place is not believed
    asked: list[dict[str, Any]] = []

    def serve(listening: socket.socket) -> None:
        with listening.accept()[0] as accepted:
            line = LineSocket(accepted)
            asked.append(line.receive())
            line.send({PROTOCOL_KEY: PROTOCOL, "ok": True, "instance": "i", "version": "0.0.1", "pid": 1})

    with OwnerLock(files) as lock, socket.socket(socket.AF_UNIX) as listening:
        assert lock.acquire()
        listening.bind(str(path))
        listening.listen()
        write_state(files.state_file, {"pid": 1, "endpoint": {"kind": "unix", "path": str(path)}})
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        connector = OwnerConnector(files, [], {}, "0.0.1")
        found = connector.attach(handshake_request("client", folders=["/a"], only=True), 5.0)
        thread.join()
    assert asked[0]["only"] is True
    assert isinstance(found, OwnerUnresponsive)
    assert "does not know --only" in found.reason


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["serve", "--only", "/a"], ["/a"]),
        (["serve", "/a", "/b", "--only"], ["/a", "/b"]),
        (["/a", "--only"], ["/a"]),
    ],
)
def test_a_relay_takes_the_limit_from_its_command_line(words: list[str], folders: list[str]) -> None:
    found = parse_relay_arguments(words)
    assert found is not None
    assert (found.folders, found.only) == (folders, True)


def test_a_limit_without_a_folder_is_left_to_the_command_line_to_refuse() -> None:
    assert parse_relay_arguments(["serve", "--only"]) is None
    assert parse_relay_arguments(["--only"]) is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a", "/a"),
        ("/a/../b/", "/b"),
        ("~/x", f"{os.path.expanduser('~')}/x"),
    ],
)
def test_a_folder_of_a_command_line_becomes_a_path(name: str, path: str) -> None:
    assert absolute_folder(name) == path
