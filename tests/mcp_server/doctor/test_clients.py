"""Clients' configurations, as they write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from client_files import FILES
from findings import by_name, one

from mcp_server.clients.entry import Launch
from mcp_server.clients.install import install
from mcp_server.clients.machine import Machine
from mcp_server.clients.registry import CLIENTS
from mcp_server.doctor.setup import client_files, client_findings


def machine(home: Path, platform: str = "linux") -> Machine:
    return Machine(platform, home, {}, lambda _: None)


def test_clients_that_name_us_are_found_at_any_depth(tmp_path: Path) -> None:
    every = client_files(machine(tmp_path), tmp_path / "project")
    found = {place.client: place.file for place in every}
    server = {"command": sys.executable, "args": ["-m", "mcp_server"]}
    for client, document in {
        "Claude Desktop": {"mcpServers": {"notes": server}},
        "Claude Code": {"projects": {"/srv/folder-mcp": {"mcpServers": {"folder-mcp": {"command": "folder-mcp"}}}}},
        "Cursor": {"mcpServers": {"other": {"command": "other"}}},
    }.items():
        found[client].parent.mkdir(parents=True, exist_ok=True)
        found[client].write_text(json.dumps(document), encoding="utf-8")
    vscode = found["VS Code"]
    vscode.parent.mkdir(parents=True)
    vscode.write_text(
        '{ // mine\n "servers": { "f": { "command": "/nowhere/folder-mcp", "url": "http://x//y", }, }, }',
        encoding="utf-8",
    )
    told = by_name(client_findings(every, {"folder-mcp": "/usr/bin/folder-mcp"}.get))
    assert told["client Claude Desktop"].verdict == "ok"
    assert "found as /usr/bin/folder-mcp" in told["client Claude Code"].detail
    assert told["client VS Code"].verdict == "failure" and "is not there" in told["client VS Code"].detail
    assert set(told) == {"client Claude Desktop", "client Claude Code", "client VS Code"}


def test_no_client_is_a_warning_and_a_damaged_file_too(tmp_path: Path) -> None:
    found = client_files(machine(tmp_path, "darwin"), tmp_path)
    assert "Library/Application Support/Claude" in str(found[0].file)
    assert one(client_findings(found)).verdict == "warning"
    (tmp_path / ".claude.json").write_text('{"mcpServers": ', encoding="utf-8")
    told = by_name(client_findings(found))
    assert "line 1, column 16" in told["client Claude Code"].detail and "clients" in told


@pytest.mark.parametrize("key", CLIENTS)
def test_what_install_writes_is_found_again(key: str, tmp_path: Path) -> None:
    client, here = CLIENTS[key], machine(tmp_path)
    file = client.file(here)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(FILES[key]["usual"])
    assert one(client_findings(client_files(here, tmp_path / "work"))).verdict == "warning"
    install(client, file, Launch(sys.executable, ("-m", "mcp_server", "serve")))
    told = one(client_findings(client_files(here, tmp_path / "work")))
    assert (told.name, told.verdict) == (f"client {client.title}", "ok")
