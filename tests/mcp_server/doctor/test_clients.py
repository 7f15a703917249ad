"""Clients' configurations, as they write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from findings import by_name, one

from mcp_server.doctor.clients import clients, parsed, places


def test_clients_that_name_us_are_found_at_any_depth(tmp_path: Path) -> None:
    found = dict(places(tmp_path, tmp_path / "project", "linux"))
    server = {"command": sys.executable, "args": ["-m", "mcp_server"]}
    for client, document in {
        "Claude Desktop": {"mcpServers": {"notes": server}},
        "Claude Code": {"projects": {"/work/folder-mcp": {"mcpServers": {"folder-mcp": {"command": "folder-mcp"}}}}},
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
    told = by_name(clients(list(found.items()), {"folder-mcp": "/usr/bin/folder-mcp"}.get))
    assert told["client Claude Desktop"].verdict == "ok"
    assert "found as /usr/bin/folder-mcp" in told["client Claude Code"].detail
    assert told["client VS Code"].verdict == "failure" and "is not there" in told["client VS Code"].detail
    assert set(told) == {"client Claude Desktop", "client Claude Code", "client VS Code"}


def test_no_client_is_a_warning_and_a_damaged_file_too(tmp_path: Path) -> None:
    found = places(tmp_path, tmp_path, "darwin")
    assert "Library/Application Support/Claude" in str(found[0][1])
    assert one(clients(found)).verdict == "warning"
    (tmp_path / ".claude.json").write_text('{"mcpServers": ', encoding="utf-8")
    told = by_name(clients(found))
    assert "not valid JSON" in told["client Claude Code"].detail and "clients" in told


def test_comments_in_strings_are_text() -> None:
    assert parsed('{"a": "http://x/*y*/", /* c */ "b": ["//", 1,],}') == {"a": "http://x/*y*/", "b": ["//", 1]}
    with pytest.raises(ValueError, match="Expecting"):
        parsed("{nothing")
