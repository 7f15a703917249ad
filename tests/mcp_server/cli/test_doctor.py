"""``folder-mcp doctor`` as a whole: on a healthy set-up, on one where everything is broken, without its packages."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from engines import engine_over, settings
from fakes_engine import open_fake

from indexer.folders.registry import add_folder
from mcp_server.cli import main

ROOT = Path(__file__).resolve().parents[3]
CHECKS = {
    "python", "packages", "configuration", "torch", "device", "memory", "data directory", "disk space", "file watches",
    "background process", "parser", "index",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    return {
        "HOME": str(tmp_path),
        "FOLDER_MCP_CONFIG": str(tmp_path / "config.toml"),
        "FOLDER_MCP_DATA_DIR": str(tmp_path / "data"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"verdict", "findings"}
    return {finding["name"]: finding for finding in document["findings"]}


def indexed(data: Path, notes: Path) -> None:
    async def index() -> None:
        async with engine_over(data, notes) as engine:
            assert (await engine.index()).complete

    anyio.run(index)


@pytest.mark.slow
def test_a_healthy_set_up_has_no_failure(
    tmp_path: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    indexed(tmp_path / "data", notes)
    server = {"mcpServers": {"folder-mcp": {"command": sys.executable, "args": ["-m", "mcp_server"]}}}
    (tmp_path / ".claude.json").write_text(json.dumps(server), encoding="utf-8")
    capsys.readouterr()
    assert main.main(["doctor", "--json"], environ, open_fake) == 0
    found = told(capsys)
    assert {name for name in CHECKS if found[name]["verdict"] == "failure"} == set()
    assert found["index"]["detail"].startswith("opens; 2 files, ")
    assert found[f"folder {notes}"]["verdict"] == "ok"
    assert "SHA-256 verified" in found["model all-MiniLM-L6-v2"]["detail"]
    assert found["client Claude Code"]["verdict"] == "ok"
    assert found["packages"]["verdict"] == "ok" and found["parser"]["verdict"] == "ok"


@pytest.mark.slow
def test_the_lines_have_a_remedy_each_and_are_counted(
    tmp_path: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    add_folder(settings(tmp_path / "data"), str(notes), model="bge-m3")
    assert main.main(["doctor"], environ, open_fake) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("FAILURE  model bge-m3: "))
    assert lines[at].endswith(f"{notes} is searched by word only.")
    assert lines[at + 1] == "         -> Run: folder-mcp models pull bge-m3"
    for mark in ("FAILURE", "WARNING"):
        for number, line in enumerate(lines):
            assert not line.startswith(mark) or lines[number + 1].startswith("         -> "), line
    assert lines[-1].endswith(" warnings, 1 failures")
    assert not (tmp_path / "data" / "logs").exists(), "looking leaves nothing behind"


def test_when_everything_is_broken_every_check_still_speaks(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe not TOML")
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / ".claude.json").write_text("{", encoding="utf-8")
    broken = {**environ, "FOLDER_MCP_DATA_DIR": str(tmp_path / "file" / "data"), "PYTHON_PATH": "/nowhere/python"}
    assert main.main(["doctor", "--json"], broken, open_fake) == 1
    found = told(capsys)
    assert set(found) >= CHECKS
    failed = {name for name, finding in found.items() if finding["verdict"] == "failure"}
    assert {"configuration", "data directory", "parser"} <= failed
    assert found["client Claude Code"]["verdict"] == "warning"
    assert not [finding for finding in found.values() if "could not be looked at" in finding["detail"]]
    assert all(finding["remedy"] for finding in found.values() if finding["verdict"] != "ok")


@pytest.mark.slow
def test_damage_in_the_data_directory_is_told_file_by_file(
    tmp_path: Path, notes: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    indexed(tmp_path / "data", notes)
    (tmp_path / "data" / "folders.json").write_text("{", encoding="utf-8")
    for manifest in (tmp_path / "data/index/tables/chunks.lance/_versions").glob("*.manifest"):
        manifest.write_bytes(b"nonsense")
    capsys.readouterr()
    assert main.main(["doctor", "--json"], environ, open_fake) == 1
    found = told(capsys)
    assert "folders.json" in found["folders"]["detail"]
    assert found["index"]["verdict"] == "failure" and found["index"]["remedy"].startswith("start a client")


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {gone!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Gone())
from mcp_server.cli.main import main
sys.exit(main(["doctor", "--json"], {environ!r}))
"""
GONE = {
    "anyio", "pydantic", "mcp", "rich", "lancedb", "pyarrow", "torch", "numpy", "tokenizers", "psutil", "platformdirs",
    "watchfiles", "re2", "huggingface_hub", "onnxruntime", "xberg",
}  # fmt: skip


def without_packages(environ: dict[str, str]) -> tuple[int, dict[str, Any]]:
    run = doctor(WITHOUT.format(gone=GONE, environ=environ))
    assert run.stdout, run.stderr
    return run.returncode, {finding["name"]: finding for finding in json.loads(run.stdout)["findings"]}


@pytest.mark.slow
def test_without_any_of_its_packages_the_doctor_still_works(
    tmp_path: Path, notes: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "data" / "index" / "tables").mkdir(parents=True)
    code, found = without_packages(environ)
    assert code == 1
    assert set(found) >= CHECKS
    assert found["index"]["remedy"] == "run: pip install lancedb"
    assert found["python"]["verdict"] == found["configuration"]["verdict"] == "ok"


HEAVY = {"torch", "transformers", "lancedb", "pyarrow", "numpy", "onnxruntime", "huggingface_hub", "mcp", "pydantic"}


@pytest.mark.slow
def test_the_doctor_imports_nothing_heavy_where_there_is_no_index(environ: dict[str, str]) -> None:
    run = doctor(
        f"from mcp_server.cli.main import main; main(['doctor'], {environ!r}); import sys; print(*sys.modules)"
    )
    assert "there is none yet" in run.stdout, run.stderr
    assert not HEAVY & set(run.stdout.splitlines()[-1].split())


def doctor(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
