"""What the SDK's own commands do with ``mcp_server/server.py``."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

from mcp_server.version import release

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "mcp_server" / "server.py"
MCP = Path(sys.executable).with_name("mcp")


def test_importing_the_server_builds_nothing() -> None:
    module = importlib.import_module("mcp_server.server")
    assert "mcp" not in vars(module)
    with pytest.raises(AttributeError, match="nonsense"):
        module.nonsense  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_mcp_run_serves_from_any_directory(tmp_path: Path, notes: Path, mode: str) -> None:
    data = tmp_path / "data"
    environment = {**os.environ, "FOLDER_MCP_DATA_DIR": str(data)}
    add = [sys.executable, "-m", "mcp_server", "folders", "add", str(notes)]
    subprocess.run(add, cwd=ROOT, env=environment, check=True, capture_output=True)
    command = StdioServerParameters(command=str(MCP), args=["run", str(FILE)], env=environment, cwd=str(tmp_path))
    with anyio.fail_after(90):
        async with Client(command, mode=mode) as client:
            assert client.server_info is not None
            assert client.server_info.version == release()
            while True:
                result = await client.call_tool("search", {"query": "signing key", "mode": "keyword"})
                if not result.is_error and result.structured_content["hits"]:
                    break
            assert result.structured_content["hits"][0]["path"] == str(notes / "keys.md")
    assert (data / "logs" / "folder-mcp.log").exists()
