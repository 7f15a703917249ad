"""The command line: each command with the fake engine in this process, its exit codes, what goes where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from fakes_engine import open_fake

from mcp_server.cli import arguments, main
from mcp_server.cli.index import FoldersResult, IndexResult
from mcp_server.processes import http
from mcp_server.protocol.results import ReadResult, SearchResult, StatusResult
from mcp_server.version import release

HERE = Path(__file__).resolve().parents[1]
Run = Callable[..., int]


@pytest.fixture
def known(run: Run, notes: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("folders", "add", str(notes)) == 0
    capsys.readouterr()
    return notes


def test_folders_are_added_listed_and_removed(run: Run, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("folders") == 0
    assert "folder-mcp folders add" in capsys.readouterr().out
    assert run("folders", "add", str(notes), "--model", "other/model") == 0
    assert capsys.readouterr().out == f"added {notes}\n"
    assert run("folders", "list", "--json") == 0
    listed = FoldersResult.model_validate_json(capsys.readouterr().out)
    assert [(each.path, each.model, each.exists) for each in listed.folders] == [(str(notes), "other/model", True)]
    assert run("folders", "remove", str(notes)) == 0
    assert str(notes) in capsys.readouterr().out


def test_index_reports_what_it_did(run: Run, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", str(notes)) == 0
    captured = capsys.readouterr()
    assert "2 files indexed" in captured.out
    assert "files," in captured.err
    assert run("index", "--json") == 0
    report = IndexResult.model_validate_json(capsys.readouterr().out)
    assert (report.indexed, report.complete, report.folders) == (2, True, [str(notes)])


def test_index_without_any_folder_says_how_to_name_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index") == 2
    assert "folder-mcp index FOLDER" in capsys.readouterr().err


def test_search_prints_place_and_passage(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "signing", "key", "-k", "1") == 0
    out = capsys.readouterr().out
    assert f"{known / 'keys.md'}  lines 3" in out
    assert "    Rotate the signing key every March." in out
    assert "more: --offset 1" in out


def test_search_takes_types_neighbours_and_a_budget(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (known / "long.py").write_text("\n".join(f"signing = {n}" for n in range(30)), encoding="utf-8")
    assert run("search", "signing", "--type", "py", "--context", "1", "--max-chars", "2000") == 0
    shown = capsys.readouterr().out
    assert "long.py" in shown and "keys.md" not in shown and "signing = 29" in shown
    assert run("search", "signing", "--type", "md") == 0
    assert "long.py" not in capsys.readouterr().out
    assert run("search", "signing", "--context", "9") == 1
    assert "context" in capsys.readouterr().err


def test_search_json_is_the_tools_result(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "--json", "flour", "--folder", "notes", "--path", "*.md", "--mode", "keyword") == 0
    result = SearchResult.model_validate_json(capsys.readouterr().out)
    assert [hit.path for hit in result.hits] == [str(known / "bread.md")]
    assert result.mode_used == "keyword"


def test_read_prints_numbered_lines(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("read", str(known / "keys.md"), "--lines", "3-3") == 0
    assert capsys.readouterr().out.startswith("3  Rotate the signing key")
    assert run("read", str(known / "keys.md"), "--at", "lines 5", "--json") == 0
    assert ReadResult.model_validate_json(capsys.readouterr().out).first_line == 5


def test_a_place_nobody_understands_is_answered_with_examples(
    run: Run, known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("read", str(known / "keys.md"), "--lines", "a-b") == 1
    assert '"lines 12-40"' in capsys.readouterr().err


def test_status_for_people_and_for_programs(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status") == 0
    assert f"{known}: ready, 2 files indexed" in capsys.readouterr().out
    assert run("status", "--json") == 0
    result = StatusResult.model_validate_json(capsys.readouterr().out)
    assert result.folders[0].files.indexed == 2


@pytest.mark.slow
def test_status_before_anything_is_indexed_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mcp_server", "--data-dir", str(tmp_path / "data"), "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the index is missing; it is made when a folder is indexed: folder-mcp index FOLDER" in done.stdout
    assert "error" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("state", "code"), [("idle", 0), ("keyword", 0), ("indexed", 0), ("ready", 1)])
def test_status_waits_for_a_state_and_says_whether_it_came(
    run: Run, known: Path, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    assert run("status", "--wait", state, "--timeout", "0.2") == code
    assert ("was not reached" in capsys.readouterr().err) == bool(code)


def test_status_watch_writes_a_document_for_each_change(tmp_path: Path, known: Path, run: Run) -> None:
    @asynccontextmanager
    async def opener(config, *, start=None, read_only=False):  # type: ignore[no-untyped-def]
        async with open_fake(config, start=start) as engine:
            plain = engine.watch

            async def watch():  # type: ignore[no-untyped-def]
                yield engine.status()
                engine.change(state="loading", stage="weights")
                yield engine.status()
                yield engine.status()

            await engine._opened()
            engine.watch = watch
            yield engine
            assert plain

    command = ("--data-dir", str(tmp_path / "data"), "status", "--watch", "--json")
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main.main(command, {"HOME": str(tmp_path)}, opener) == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines() if line.startswith('{"at"')]
    assert [line["slot"]["state"] for line in lines] == ["idle", "loading"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["serach", "x"], 2, "did you mean 'search'"),
        (["search"], 2, "QUERY"),
        (["search", "x", "--mode", "magic"], 2, "magic"),
        (["search", "x", "-k", "many"], 2, "many"),
        (["search", "  "], 1, "query is empty"),
        (["search", "x", "-k", "0"], 1, "between 1 and 50"),
        (["search", "x", "-k", "10000"], 1, "between 1 and 50"),
        (["search", "x", "--folder", "/nowhere"], 1, "not indexed"),
        (["search", "x", "--after", "soon"], 1, "2026-11-01"),
        (["read", "/etc/passwd"], 1, "not an indexed file"),
        (["folders", "add", "/nowhere/at/all"], 2, "does not exist"),
        (["folders", "remove", "/nowhere/at/all"], 2, "not a known folder"),
        (["index", "/etc/passwd"], 2, "/etc/passwd"),
        (["status", "--config", "/nowhere.toml"], 2, "no such configuration file"),
        (["--config", "/nowhere.toml", "status"], 2, "no such configuration file"),
        (["status", "--wait", "bliss"], 2, "bliss"),
    ],
)
def test_every_mistake_gets_one_line_and_its_exit_code(
    run: Run, known: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str
) -> None:
    assert run(*argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("folder-mcp: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


def test_a_traceback_comes_with_v_only(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("read", "/etc/passwd")
    assert "Traceback" not in capsys.readouterr().err
    run("-v", "read", "/etc/passwd")
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet_root_logger: None) -> None:
    @asynccontextmanager
    async def opener(config, **_):  # type: ignore[no-untyped-def]
        async with anyio.create_task_group():
            raise ZeroDivisionError("oh")
        yield

    assert main.main(["--data-dir", str(tmp_path), "status"], {"HOME": str(tmp_path)}, opener) == 1
    assert (
        capsys.readouterr().err
        == "folder-mcp: failed with ZeroDivisionError: oh; run it again with -v for the details\n"
    )


@pytest.mark.parametrize("argv", [["--version"], ["-v", "--version"]])
def test_version_is_the_projects(run: Run, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert run(*argv) == 0
    assert capsys.readouterr().out == f"folder-mcp {release()}\n"


def test_help_names_every_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in arguments.COMMANDS)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ["serve"]),
        (["-v"], ["serve", "-v"]),
        (["--data-dir", "search"], ["serve", "--data-dir", "search"]),
        (["/notes"], ["serve", "/notes"]),
        (["~/notes", "-v"], ["serve", "~/notes", "-v"]),
        (["--config", "c.toml", "status"], ["--config", "c.toml", "status"]),
        (["--help"], ["--help"]),
    ],
)
def test_serve_is_the_command_when_none_is_given(argv: list[str], expected: list[str]) -> None:
    assert arguments.with_command(argv, arguments.Parser()) == expected


def test_the_help_names_the_address_that_http_serves() -> None:
    assert arguments.HTTP_ADDRESS == http.DEFAULT


def test_every_command_has_its_function() -> None:
    assert all(callable(main._function(name)) for name in arguments.COMMANDS)


def test_file_names_cannot_drive_the_terminal(run: Run, known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (known / "evil\x1b[2J.md").write_text("flour \x1b]0;title\x07", encoding="utf-8")
    assert run("search", "flour") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, mcp_server.cli.main as c; c.parse(['status']); print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parents[1]
    )
    assert not {"mcp", "pydantic", "rich", "numpy", "lancedb", "torch"} & set(found.stdout.split())


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(tmp_path: Path, notes: Path) -> None:
    fake = f"{sys.executable} {HERE / 'fake_main.py'} --data-dir {tmp_path / 'data'}"
    script = f"{fake} folders add {notes} && {fake} search key | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "0"
    assert "Broken" not in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_ctrl_c_ends_cleanly(tmp_path: Path, notes: Path) -> None:
    command = [sys.executable, str(HERE / "fake_main.py"), "--data-dir", str(tmp_path / "data"), "status", "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.decode() == "folder-mcp: interrupted; what was finished is kept\n"
