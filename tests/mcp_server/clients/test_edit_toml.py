"""One table of a TOML file changes, and not a byte besides."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.clients import edit, edit_toml
from mcp_server.clients.entry import ClientError, Unparsable

ENTRY: dict[str, Any] = {"command": "/opt/folder-mcp", "args": ["serve", "/notes"], "startup_timeout_sec": 30}
PATH = ["mcp_servers", "folder-mcp"]
BLOCK = '[mcp_servers.folder-mcp]\ncommand = "/opt/folder-mcp"\nargs = ["serve", "/notes"]\nstartup_timeout_sec = 30\n'

keys = st.text(alphabet='ab_-.#=[]" é', min_size=1, max_size=5)
plain = st.booleans() | st.integers(-9, 9) | st.text(alphabet="ab#=\"'\\[]{}\n\té", max_size=8)
values = plain | st.lists(plain, max_size=3)


def rendered(value: Any) -> str:
    """A JSON string is a TOML string."""
    return json.dumps(value, ensure_ascii=False)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A configuration as some hand may have written it."""
    new = draw(st.sampled_from(["\n", "\r\n"]))
    comment = draw(st.sampled_from(["", " # c", "  # [mcp_servers.folder-mcp]"]))

    def quoted(key: str) -> str:
        return key if key.replace("_", "").replace("-", "").isascii() and key.isalpha() else rendered(key)

    def value_of(value: Any) -> str:
        if isinstance(value, str) and "'" not in value and "\n" not in value and draw(st.booleans()):
            return f"'{value}'"
        if isinstance(value, list) and draw(st.booleans()):
            return f"[ # ]{new}" + "".join(f"  {value_of(each)},{new}" for each in value) + "]"
        return rendered(value)

    def pairs() -> str:
        found = draw(st.dictionaries(keys, values, max_size=3))
        return "".join(f"{quoted(key)} = {value_of(value)}{comment}{new}" for key, value in found.items())

    tables = draw(st.lists(keys.filter(lambda key: key != "folder-mcp"), max_size=3, unique=True))
    text = pairs() + "".join(f"{new}[mcp_servers.{quoted(each)}]{comment}{new}{pairs()}" for each in tables)
    return text[: -len(new)] if text.endswith(new) and draw(st.booleans()) else text


@pytest.mark.slow
@settings(max_examples=scaled(80))
@given(documents())
def test_an_added_table_leaves_the_text_before_it_and_comes_out_again(text: str) -> None:
    before = tomllib.loads(text)
    new = edit.put_entry("toml", text, PATH, ENTRY)
    assert new.startswith(text)
    servers = before.get("mcp_servers", {})
    assert tomllib.loads(new) == {**before, "mcp_servers": {**servers, "folder-mcp": ENTRY}}
    assert edit.put_entry("toml", new, PATH, ENTRY) == new
    assert edit.remove_entry("toml", new, PATH) == text
    changed = edit.put_entry("toml", new, PATH, {**ENTRY, "args": ["serve"]})
    assert changed.startswith(text) and edit.remove_entry("toml", changed, PATH) == text


def test_a_new_file_and_one_with_other_servers() -> None:
    assert edit_toml.set_value("", PATH, ENTRY) == BLOCK
    other = '# mine\nmodel = "o"\n\n[mcp_servers.docs]  # keep\ncommand = "npx"\n'
    assert edit_toml.set_value(other, PATH, ENTRY) == other + "\n" + BLOCK


def test_a_changed_key_leaves_the_others_of_our_table() -> None:
    before = (
        '[mcp_servers.folder-mcp] # ours\nargs = [\n  "serve", # old\n]\nenabled = true\n\n'
        '[mcp_servers.folder-mcp.env]\nA = "1"\n\n# next\n[z]\n'
    )
    after = edit.put_entry("toml", before, PATH, ENTRY)
    assert after == (
        '[mcp_servers.folder-mcp] # ours\nargs = ["serve", "/notes"]\nenabled = true\ncommand = "/opt/folder-mcp"\n'
        'startup_timeout_sec = 30\n\n[mcp_servers.folder-mcp.env]\nA = "1"\n\n# next\n[z]\n'
    )
    assert edit.remove_entry("toml", after, PATH) == "\n# next\n[z]\n"


def test_comments_after_our_table_belong_to_what_comes_next() -> None:
    text = '[mcp_servers.a]\nb = 1\n\n# [profiles.o3]\n[[hooks]]\nevent = "stop"\n'
    inside = text.replace("\n# [profiles", "\n" + BLOCK + "\n# [profiles")
    assert edit.remove_entry("toml", inside, PATH) == text
    longer = inside.replace('["serve", "/notes"]', '["serve", "/notes", "/more"]').replace(
        "startup_timeout_sec = 30\n", ""
    )
    assert edit.put_entry("toml", longer, PATH, ENTRY) == inside


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("mcp_servers = { a = { b = 'x' } } # c\n", "mcp_servers = { a = { b = 'x' }, folder-mcp = OURS} # c\n"),
        ("mcp_servers = {}\nz = 1\n", "mcp_servers = {folder-mcp = OURS}\nz = 1\n"),
        ('mcp_servers.a.command = "x"\nz = 1\n', None),
        ('mcp_servers.a.command = "x"\n[p]\nq = 1\n', None),
        ('[mcp_servers]\na.command = "x"\n\n\t[z]\n\tq = 1\n', None),
        ('["mcp_servers"."a"]\nb = 1\n[p]\nc = 1\n[ mcp_servers . z ]\nd = 1\n[[q]]\n', None),
        ('[p]\ra = 1\n'.replace("\r", "\r\n") + "t = \"\"\"\n[mcp_servers.folder-mcp]\r\n\"\"\"\n", None),
    ],
)  # fmt: skip
def test_tables_written_in_unusual_ways_keep_their_layout(text: str, changed: str | None) -> None:
    found = edit.put_entry("toml", text, PATH, ENTRY)
    if changed is None:
        assert found.startswith(text)
    else:
        ours = '{command = "/opt/folder-mcp", args = ["serve", "/notes"], startup_timeout_sec = 30}'
        assert found == changed.replace("OURS", ours)
    servers = tomllib.loads(text).get("mcp_servers", {})
    assert tomllib.loads(found)["mcp_servers"] == {**servers, "folder-mcp": ENTRY}
    assert tomllib.loads(edit.remove_entry("toml", found, PATH)).get("mcp_servers", {}) == servers


def test_an_entry_written_in_one_line_is_brought_up_to_date_and_comes_out_again() -> None:
    text = '[mcp_servers]\n\tfolder-mcp = { command = "folder-mcp", enabled = true } # ours\n\ta = { command = "x" }\n'
    changed = edit.put_entry("toml", text, PATH, ENTRY)
    assert tomllib.loads(changed)["mcp_servers"]["folder-mcp"] == {**ENTRY, "enabled": True}
    assert changed.endswith(' # ours\n\ta = { command = "x" }\n')
    assert edit.remove_entry("toml", changed, PATH) == '[mcp_servers]\n\ta = { command = "x" }\n'


@pytest.mark.parametrize("text", ["mcp_servers = [1]\n", 'mcp_servers = "x"\n', "[[mcp_servers]]\na = 1\n"])
def test_what_is_no_table_is_not_written_over(text: str) -> None:
    with pytest.raises(ClientError):
        edit.put_entry("toml", text, PATH, ENTRY)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\na = 2\n", 2), ("[t]\n[t]\n", 2), ("a = {b = 1\n", 1), ("a = 1\rb = 2\n", 1), ("a = " + "[" * 9000, 1)],
)  # fmt: skip
def test_what_a_client_would_refuse_is_refused_with_its_place(text: str, line: int) -> None:
    with pytest.raises(Unparsable) as caught:
        edit.remove_entry("toml", text, PATH)
    assert caught.value.line == line


def test_what_is_no_toml_is_named_with_its_place() -> None:
    with pytest.raises(Unparsable) as caught:
        edit.put_entry("toml", "a = 1\nb = \n", PATH, ENTRY)
    assert (caught.value.line, caught.value.column) == (2, 5)
