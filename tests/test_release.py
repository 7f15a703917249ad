"""What is published says the same everywhere, and the official tool takes the bundle."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mcp_server.clients.registry import CLIENTS
from mcp_server.protocol.tools import tools
from mcp_server.version import release

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def document(name: str) -> dict[str, Any]:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]  # type: ignore[no-any-return]


def test_every_document_has_the_projects_version() -> None:
    server = document("server.json")
    found = [document("bundle/manifest.json")["version"], server["version"], server["packages"][0]["version"]]
    assert {release(), *found} == {project()["version"]}


def test_the_changelog_has_this_version_or_says_that_it_is_to_come() -> None:
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", log, re.M)
    assert headings[0] == "Unreleased"
    released = [re.fullmatch(r"(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]]
    assert all(released), "## 0.1.0 - 2026-11-30"
    assert not released or (released[0] and released[0][1] == project()["version"])


def test_the_registrys_document_keeps_its_rules() -> None:
    server = document("server.json")
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", server["name"])
    assert 0 < len(server["description"]) <= 100
    package = server["packages"][0]
    assert package["registryType"] == "pypi" and package["identifier"] == project()["name"]
    assert package["transport"] == {"type": "stdio"}
    for argument in package["packageArguments"]:
        assert argument["type"] == "positional" and ("value" in argument or "valueHint" in argument)
    assert f"<!-- mcp-name: {server['name']} -->" in README, "how the registry sees that the package is the same"


def test_the_bundle_names_the_real_tools_and_command() -> None:
    manifest = document("bundle/manifest.json")
    assert manifest["manifest_version"] == "0.4"
    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in tools()]
    assert (ROOT / manifest["server"]["entry_point"]).is_file()
    words = manifest["server"]["mcp_config"]["args"]
    assert words[-3:] == ["folder-mcp", "serve", "${user_config.folders}"]
    assert words[-3] in project()["scripts"]
    assert manifest["user_config"]["folders"]["multiple"] is True
    assert manifest["compatibility"]["runtimes"]["python"] == project()["requires-python"]


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bundle_build", ROOT / "bundle" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bundle_has_everything_that_a_build_needs(tmp_path: Path) -> None:
    builder().collect(tmp_path)
    wanted = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))
    assert (tmp_path / wanted["project"]["readme"]).is_file()
    for name in (
        *wanted["project"]["license-files"],
        *wanted["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
    ):
        assert (tmp_path / name).exists(), name
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.slow
def test_the_official_tool_validates_and_packs_it(tmp_path: Path) -> None:
    if shutil.which("mcpb") is None:
        pytest.skip("mcpb is not on the path: npm install -g @anthropic-ai/mcpb")
    out = tmp_path / "folder-mcp.mcpb"
    command = [sys.executable, str(ROOT / "bundle" / "build.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(out) as packed:
        assert {"manifest.json", "pyproject.toml", "mcp_server/__main__.py"} <= set(packed.namelist())


@pytest.mark.slow
def test_the_wheel_has_every_file_and_runs_elsewhere(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob(f"folder_mcp-{release()}-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        packed.extractall(tmp_path / "elsewhere")
    for room in ("mcp_server", "indexer"):
        wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / room).rglob("*") if path.is_file()}
        assert {name for name in wanted if "__pycache__" not in name} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]
    script = "import sys; sys.argv[1:] = ['--version']; from mcp_server.__main__ import main; main()"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere")}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == f"folder-mcp {release()}\n"


def test_the_buttons_start_what_the_readme_says() -> None:
    cursor = re.search(r"https://cursor\.com/en/install-mcp\?[^)\s]+", README)
    vscode = re.search(r"https://vscode\.dev/redirect\?url=[^)\s]+", README)
    assert cursor and vscode
    asked = parse_qs(urlsplit(cursor[0]).query)
    config = json.loads(base64.b64decode(asked["config"][0]))
    assert asked["name"] == ["folder-mcp"] and config == {"command": "uvx", "args": ["folder-mcp", "serve"]}
    install = parse_qs(urlsplit(vscode[0]).query)["url"][0]
    assert install.startswith("vscode:mcp/install?")
    assert json.loads(unquote(install.split("?", 1)[1])) == {"name": "folder-mcp", **config}


def test_the_readme_names_every_client() -> None:
    for client in CLIENTS.values():
        assert client.title in README, client.title
