"""Install and uninstall against real configuration files: everything but our entry keeps its bytes."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from client_files import FILES

from mcp_server.clients import edit
from mcp_server.clients import install as install_module
from mcp_server.clients.entry import ClientError, Launch
from mcp_server.clients.install import ChangedMeanwhile, install, snippet, uninstall
from mcp_server.clients.registry import CLIENTS, client

LAUNCH = Launch("/opt/folder mcp/bin/folder-mcp", ("serve", "/home/ada/notes", "/home/ada/Ünïcode"))
PLAIN = Launch(LAUNCH.command, ("serve",))


def put_back(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def added(before: bytes, after: bytes) -> bytes:
    """What was inserted; fails when anything else changed."""
    head = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    tail = before[head:]
    assert after.endswith(tail), "more than one span has changed"
    return after[head : len(after) - len(tail)]


@pytest.mark.parametrize(("key", "sample"), [(key, sample) for key in CLIENTS for sample in FILES[key]])
def test_only_our_entry_is_added_and_the_bytes_come_back(key: str, sample: str, tmp_path: Path) -> None:
    chosen, before = CLIENTS[key], FILES[key][sample]
    file = put_back(tmp_path / "settings", before)
    done = install(chosen, file, LAUNCH)
    assert done.action == "added" and done.copy and done.copy.read_bytes() == before
    after = file.read_bytes()
    if before.strip(b"\xef\xbb\xbf \r\n{}") and b"extensions: {}" not in before and b"{ }" not in before:
        assert b"folder-mcp" in added(before, after)
    entry = edit.find_entry(chosen.format, install_module.read_config_file(file).text, [*chosen.table, "folder-mcp"])
    assert entry == chosen.entry(LAUNCH, "folder-mcp") == done.entry
    assert install(chosen, file, LAUNCH).action == "unchanged"
    assert file.read_bytes() == after
    assert uninstall(chosen, file).action == "removed"
    assert file.read_bytes() == before
    assert uninstall(chosen, file).action == "absent"


@pytest.mark.parametrize("key", CLIENTS)
def test_without_the_copy_only_our_entry_is_taken_out(key: str, tmp_path: Path) -> None:
    chosen = CLIENTS[key]
    for sample, before in FILES[key].items():
        file = put_back(tmp_path / sample, before)
        document = edit.FORMATS[chosen.format].load(install_module.read_config_file(file).text)
        copy = install(chosen, file, LAUNCH).copy
        assert copy
        copy.unlink()
        uninstall(chosen, file)
        found = edit.FORMATS[chosen.format].load(install_module.read_config_file(file).text)
        assert {key: value for key, value in found.items() if value} == {k: v for k, v in document.items() if v}


@pytest.mark.parametrize("key", CLIENTS)
def test_a_file_that_we_made_goes_again(key: str, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "down" / "settings"
    done = install(CLIENTS[key], file, LAUNCH)
    assert done.action == "added" and done.copy is None
    assert file.read_text(encoding="utf-8") == snippet(CLIENTS[key], done.name, done.entry or {})
    assert uninstall(CLIENTS[key], file).action == "removed"
    assert not file.exists() and list(file.parent.iterdir()) == []


@pytest.mark.parametrize("key", CLIENTS)
def test_an_update_keeps_what_else_the_entry_says_and_its_folders(key: str, tmp_path: Path) -> None:
    chosen, file = CLIENTS[key], tmp_path / "settings"
    install(chosen, file, Launch("/old/folder-mcp", LAUNCH.args))
    text = edit.put_entry(
        chosen.format, file.read_text(encoding="utf-8"), [*chosen.table, "folder-mcp"], {"mine": "kept"}
    )
    file.write_text(text, encoding="utf-8")
    done = install(chosen, file, PLAIN)
    assert done.action == "updated"
    entry = edit.find_entry(chosen.format, file.read_text(encoding="utf-8"), [*chosen.table, "folder-mcp"])
    assert entry == {**chosen.entry(LAUNCH, "folder-mcp"), "mine": "kept"}


@pytest.mark.parametrize("key", CLIENTS)
def test_a_limit_of_an_entry_stays_with_its_folders_until_folders_are_named(key: str, tmp_path: Path) -> None:
    chosen, file = CLIENTS[key], tmp_path / "settings"
    limited = Launch(LAUNCH.command, ("serve", "--only", "/home/ada/notes"))
    install(chosen, file, Launch("/old/folder-mcp", limited.args))
    assert install(chosen, file, PLAIN).entry == chosen.entry(limited, "folder-mcp")
    assert install(chosen, file, LAUNCH).entry == chosen.entry(LAUNCH, "folder-mcp")


@pytest.mark.parametrize("key", ["cursor", "codex", "goose"])
def test_an_entry_that_was_brought_up_to_date_goes_without_a_trace_too(key: str, tmp_path: Path) -> None:
    before = FILES[key]["windows"]
    file = put_back(tmp_path / "set[t]ings*", before)
    install(CLIENTS[key], file, LAUNCH)
    assert install(CLIENTS[key], file, Launch("/new/folder-mcp", ("serve", "/more"))).action == "updated"
    assert install(CLIENTS[key], file, LAUNCH).action == "updated"
    uninstall(CLIENTS[key], file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("key", ["cursor", "codex", "goose"])
def test_a_copy_that_says_something_else_is_not_put_back(key: str, tmp_path: Path) -> None:
    chosen, before = CLIENTS[key], FILES[key]["usual"]
    file = put_back(tmp_path / "settings", before)
    copy = install(chosen, file, LAUNCH).copy
    assert copy
    copy.write_bytes(before.replace(b"npx", b"npm"))
    uninstall(chosen, file)
    assert file.read_bytes() == before


def test_after_changes_by_others_only_our_entry_goes(tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp.json", b'{"mcpServers": {"a": {"command": "a"}}}')
    install(client("cursor"), file, PLAIN)
    changed = file.read_bytes().replace(b'"command": "a"', b'"command": "b"')
    file.write_bytes(changed)
    uninstall(client("cursor"), file)
    assert file.read_bytes() == b'{"mcpServers": {"a": {"command": "b"}}}'


def test_seeing_what_would_be_done_writes_nothing(tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp.json", b"{}")
    assert install(client("cursor"), file, PLAIN, write=False).action == "would add"
    assert file.read_bytes() == b"{}" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("key", "data", "told"),
    [
        ("cursor", b'{"mcpServers": {\n  "a": 1,,\n}}', r"mcp, line 2, column 10: expected a key in quotes"),
        ("codex", b"model = \n", r"mcp, line 1, column 9: Invalid value"),
        ("goose", b"a: [1\nb: 2\n", r"mcp, line 2, column 2: "),
        ("zed", b'{"a": "\xff"}', r"mcp, line 1, column 8: not UTF-8"),
        ("zed", "{}".encode("utf-16"), r"not UTF-8"),
        ("cursor", b"[]", r"mcp: line 1, column 1: the document is not an object"),
        ("cursor", b'{"mcpServers": {"folder-mcp": {"command": "other"}}}', "something else; choose another --name"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_left_as_it_is(key: str, data: bytes, told: str, tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp", data)
    with pytest.raises(ClientError, match=told):
        install(client(key), file, LAUNCH)
    if data != b"[]":  # in which there is nothing of ours
        with pytest.raises(ClientError):
            uninstall(client(key), file)
    assert file.read_bytes() == data and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")
def test_mode_stays_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = put_back(tmp_path / "dotfiles" / "claude.json", b'{"token": "secret"}')
    real.chmod(0o640)
    link = tmp_path / ".claude.json"
    link.symlink_to(real)
    done = install(client("claude-code"), link, LAUNCH)
    assert link.is_symlink() and done.file == real and done.copy and done.copy.parent == real.parent
    assert stat.S_IMODE(real.stat().st_mode) == stat.S_IMODE(done.copy.stat().st_mode) == 0o640
    fresh = tmp_path / "new.json"
    install(client("cursor"), fresh, LAUNCH)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp.json", b"{}")
    os.chown(file, 1234, 2345)
    done = install(client("cursor"), file, LAUNCH)
    assert done.copy
    for each in (file, done.copy):
        assert (each.stat().st_uid, each.stat().st_gid) == (1234, 2345)


def test_a_file_written_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp.json", b'{"a": 1}')
    kept = install_module.read_config_file(file)
    file.write_bytes(b'{"a": 2}')
    with pytest.raises(ChangedMeanwhile, match="by somebody else"):
        install_module.write_config_file(kept, b"{}")
    assert file.read_bytes() == b'{"a": 2}' and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = put_back(tmp_path / "mcp.json", b"{}")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ClientError, match="cannot be written"):
            install(client("cursor"), file, LAUNCH)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("key", "word", "refused"),
    [
        ("claude-code", "/a/${HOME}", True),
        ("gemini-cli", "/a/$HOME", True),
        ("goose", "/cost $5", False),
        ("claude-code", "/a/$HOME", False),
        ("codex", "/a/${HOME}", False),
        ("codex", os.fsdecode(b"/a/\xff"), True),
    ],
)
def test_a_path_that_the_client_would_change_is_refused(key: str, word: str, refused: bool, tmp_path: Path) -> None:
    launch = Launch(LAUNCH.command, ("serve", word))
    if not refused:
        assert install(client(key), tmp_path / "f", launch).action == "added"
        return
    with pytest.raises(ClientError, match=r"variable|written as text"):
        install(client(key), tmp_path / "f", launch)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("name", ["", "a b", "ö", "1a", "a.b", "a" * 41])
def test_names_that_a_client_cannot_show_are_refused(name: str, tmp_path: Path) -> None:
    if not name:
        assert install(client("zed"), tmp_path / "f", PLAIN, name).name == "folder-mcp"
        return
    with pytest.raises(ClientError, match="--name"):
        install(client("zed"), tmp_path / "f", PLAIN, name)


def test_our_entry_under_another_name_is_the_one_that_changes(tmp_path: Path) -> None:
    servers: dict[str, Any] = {"folders": {"command": "folder-mcp", "args": ["serve", "/n"]}, "x": {"command": "x"}}
    file = put_back(tmp_path / "f", json.dumps({"mcpServers": servers}).encode())
    assert install(client("cursor"), file, PLAIN).name == "folders"
    assert install(client("cursor"), file, PLAIN, "second").name == "second"
    assert set(json.loads(file.read_bytes())["mcpServers"]) == {"second", "folders", "x"}


def test_an_unknown_client_is_answered_with_the_nearest() -> None:
    assert client("Claude Desktop").key == "claude-desktop"
    with pytest.raises(ClientError, match="did you mean 'cursor'"):
        client("curser")
