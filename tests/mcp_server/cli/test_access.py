"""``access``: tokens made, listed and ended from the command line; nothing that lets in is shown twice."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer.config import RecordSettings
from indexer.errors import FolderMcpError
from mcp_server.access.access_file import AccessFile, parse
from mcp_server.access.tokens import digest_of
from mcp_server.cli.access import change_file
from mcp_server.record.record import Record

Run = Callable[..., int]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "access.toml"


def test_a_token_is_shown_once_and_only_its_digest_kept(
    run: Run, notes: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("access", "add", "ada", "--folder", str(notes)) == 0
    shown = capsys.readouterr()
    [token] = shown.out.splitlines()
    assert "Authorization: Bearer TOKEN" in shown.err and token not in shown.err
    assert "is not indexed: folder-mcp folders add" in shown.err
    text = file.read_text(encoding="utf-8")
    assert token not in text and digest_of(token) in text
    assert AccessFile(file).grants().users["ada"].folders == (str(notes),)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for words in (["access"], ["access", "list"], ["access", "list", "--json"]):
        assert run(*words) == 0
        listed = capsys.readouterr()
        assert "ada" in listed.out and str(notes) in listed.out
        assert token not in listed.out and digest_of(token) not in listed.out + listed.err


def test_json_documents(run: Run, notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("access", "add", "ada", "--folder", str(notes), "--expires", "2999-01-01", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "ada" and made["token"].startswith("fmcp_") and made["folders"] == [str(notes)]
    Record(tmp_path / "data", RecordSettings()).write({"at": "2026-11-28T12:00:00.000Z", "user": "ada"})
    assert run("access", "list", "--json") == 0
    [user] = json.loads(capsys.readouterr().out)["users"]
    assert (user["name"], user["expired"], user["groups"]) == ("ada", False, [])
    assert user["expires"].startswith("2999-01-0") and user["last_used"].startswith("2026-11-28")
    assert run("access", "remove", "ada", "--json") == 0
    assert json.loads(capsys.readouterr().out)["users"] == []


def test_removing_ends_a_token_and_keeps_all_else(
    run: Run, notes: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.parent.mkdir()
    file.write_text("# ours\n[groups.team] # the team\nfolders = ['/srv/team']\n", encoding="utf-8")
    before = file.read_bytes()
    assert run("access", "add", "ada", "--group", "team", "--folder", str(notes)) == 0
    assert run("access", "add", "ben", "--group", "team") == 0
    assert file.read_text(encoding="utf-8").startswith("# ours\n[groups.team] # the team\n")
    assert AccessFile(file).grants().users["ada"].folders == (str(notes), "/srv/team")
    assert run("access", "remove", "ada") == 0
    assert list(AccessFile(file).grants().users) == ["ben"]
    assert run("access", "remove", "ben") == 0
    assert file.read_bytes().startswith(before.rstrip())
    assert run("access", "remove", "ben") == 2
    assert "no token for 'ben'; there are none" in capsys.readouterr().err


WRONG: list[tuple[list[str], str]] = [
    (["add", "ada"], "say what ada may see"),
    (["add", "../ada", "--folder", "."], "is no name for a token"),
    (["add", "a b", "--folder", "."], "is no name for a token"),
    (["add", "é", "--folder", "."], "is no name for a token"),
    (["add", "ada", "--folder", "./no-such-folder"], "there is no such folder"),
    (["add", "ada", "--group", "team"], "ada is in group 'team', which is missing"),
    (["add", "ada", "--folder", ".", "--expires", "soon"], "no date; write 2026-12-31"),
    (["add", "ada", "--folder", ".", "--expires", "2020-01-01"], "that is over"),
    (["remove", "ada"], "there is no token for 'ada'"),
]


@pytest.mark.parametrize(("words", "error"), WRONG)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    run: Run, file: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str
) -> None:
    assert run("access", *words) == 2
    assert error in capsys.readouterr().err
    assert not file.exists() and not list(file.parent.glob("access*"))


def test_a_name_is_not_given_twice(run: Run, notes: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("access", "add", "ada", "--folder", str(notes)) == 0
    before = file.read_bytes()
    assert run("access", "add", "ada", "--folder", str(notes)) == 2
    assert "there is a token for ada already" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", [["add", "ada", "--folder", "."], ["list"], ["remove", "zoe"]])
def test_a_file_that_is_wrong_is_told_with_its_line_and_left_as_it_is(
    run: Run, file: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    file.parent.mkdir()
    file.write_text("[users.zoe]\ntoken_sha256 = 'x'\n", encoding="utf-8")
    assert run("access", *words) == 2
    assert "access.toml: line 2: zoe needs token_sha256" in capsys.readouterr().err
    assert file.read_text(encoding="utf-8") == "[users.zoe]\ntoken_sha256 = 'x'\n"


def test_two_commands_do_not_write_at_once(file: Path) -> None:
    file.parent.mkdir()

    def change(text: str) -> str:
        with pytest.raises(FolderMcpError, match="another command is writing"):
            change_file(file, str)
        return text + "[groups.team]\nfolders = ['/srv']\n"

    change_file(file, change)
    assert parse(file.read_text(encoding="utf-8"), file).groups == {"team": ("/srv",)}
    assert [each.name for each in file.parent.iterdir()] == ["access.toml"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_file_that_is_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    real = tmp_path / "kept.toml"
    file.symlink_to(real)
    change_file(file, lambda text: text + "[groups.team]\nfolders = ['/srv']\n")
    assert file.is_symlink() and AccessFile(file).grants().groups == {"team": ("/srv",)}
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


# The record ---------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, **more: Any) -> None:
    line = {"at": "2026-11-28T12:00:00.000Z", "client": "editor", "version": "1", "user": "", "tool": "search"}
    (tmp_path / "data").mkdir(exist_ok=True)
    Record(tmp_path / "data", RecordSettings()).write({**line, "outcome": "ok", "ms": 1.5, **more})


def test_the_log_prints_what_was_shown_and_what_was_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, user="ada", hits=2, files=["/notes/a.md", "/notes/\x1b[2J.md"])
    written(tmp_path, tool="read", outcome="refused", asked=["/theirs/x.md"])
    assert run("log") == 0
    printed = capsys.readouterr().out
    assert "editor 1  ada  search: ok, 2 hits, 1.5 ms\n    /notes/a.md\n" in printed
    assert "editor 1  read: refused, 1.5 ms\n    asked for /theirs/x.md\n" in printed
    assert "\x1b" not in printed


def test_no_name_in_the_log_looks_like_another_answer(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "2026-11-28 12:00:00  page  search: ok, 0 hits, 1 ms"
    written(
        tmp_path, client=f"x\n{forged}", user=f"a\r{forged}", files=[f"/notes/\n{forged}", f"/notes/\u2028{forged}"]
    )
    written(tmp_path, outcome="refused", asked=[f"x\n{forged}"])
    assert run("log") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(forged)] == []


def test_the_log_is_narrowed_and_printed_as_json_lines(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, user="ada", files=["/notes/\udcff.md"])
    written(tmp_path, client="page", at="2001-01-01T00:00:00.000Z")
    with next((tmp_path / "data" / "record").iterdir()).open("ab") as stream:
        stream.write(b'{"at":"20')

    def shown(*words: str) -> list[dict[str, Any]]:
        assert run("log", "--json", *words) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [one["client"] for one in shown()] == ["editor", "page"]
    assert [one["files"] for one in shown("--user", "ada")] == [["/notes/\udcff.md"]]
    assert [one["client"] for one in shown("--client", "page")] == ["page"]
    assert [one["client"] for one in shown("--since", "2026-01-01")] == ["editor"]
    assert shown("--since", "1m") == []
    assert run("log") == 0
    assert "1 lines of the record cannot be read" in capsys.readouterr().err
    assert run("log", "--since", "yesterday") == 2
    assert "--since yesterday: write 30m" in capsys.readouterr().err


def test_commands_in_this_process_are_recorded(
    run: Run, notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    run("folders", "add", str(notes))
    run("search", "signing", "key")
    run("read", str(notes / "keys.md"))
    run("read", str(tmp_path / "elsewhere.md"))
    capsys.readouterr()
    assert run("log", "--json", "--client", "command") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["tool"], one["outcome"]) for one in found] == [("search", "ok"), ("read", "ok"), ("read", "refused")]
    assert found[0]["files"] == found[1]["files"] == [str(notes / "keys.md")]
    assert found[2]["asked"] == [str(tmp_path / "elsewhere.md")]
    assert "signing" not in json.dumps(found).replace("signing-key", "")
