"""One table of a TOML file changes, and not a byte besides."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.clients import forms, toml_tables
from mcp_server.clients.errors import ClientError, Unparsable

ENTRY: dict[str, Any] = {"command": "/opt/folder-mcp", "args": ["serve", "/notes"], "startup_timeout_sec": 30}
PATH = ["mcp_servers", "folder-mcp"]
BLOCK = '[mcp_servers.folder-mcp]\ncommand = "/opt/folder-mcp"\nargs = ["serve", "/notes"]\nstartup_timeout_sec = 30\n'

keys = st.text(alphabet='ab_-.#=[]" é', min_size=1, max_size=5)
plain = st.booleans() | st.integers(-9, 9) | st.text(alphabet="ab#=\"'\\[]{}\n\té", max_size=8)
values = plain | st.lists(plain, max_size=3)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A configuration as some hand may have written it."""
    new = draw(st.sampled_from(["\n", "\r\n"]))
    comment = draw(st.sampled_from(["", " # c", "  # [mcp_servers.folder-mcp]"]))

    def quoted(key: str) -> str:
        return key if key.replace("_", "").replace("-", "").isascii() and key.isalpha() else toml_tables._rendered(key)

    def value_of(value: Any) -> str:
        if isinstance(value, str) and "'" not in value and "\n" not in value and draw(st.booleans()):
            return f"'{value}'"
        if isinstance(value, list) and draw(st.booleans()):
            return f"[ # ]{new}" + "".join(f"  {value_of(each)},{new}" for each in value) + "]"
        return toml_tables._rendered(value)

    def pairs() -> str:
        found = draw(st.dictionaries(keys, values, max_size=3))
        return "".join(f"{quoted(key)} = {value_of(value)}{comment}{new}" for key, value in found.items())

    tables = draw(st.lists(keys.filter(lambda key: key != "folder-mcp"), max_size=3, unique=True))
    text = pairs() + "".join(f"{new}[mcp_servers.{quoted(each)}]{comment}{new}{pairs()}" for each in tables)
    return text[: -len(new)] if text.endswith(new) and draw(st.booleans()) else text


@settings(max_examples=scaled(80))
@given(documents())
def test_an_added_table_leaves_the_text_before_it_and_comes_out_again(text: str) -> None:
    before = tomllib.loads(text)
    new = forms.put("toml", text, PATH, ENTRY)
    assert new.startswith(text)
    servers = before.get("mcp_servers", {})
    assert tomllib.loads(new) == {**before, "mcp_servers": {**servers, "folder-mcp": ENTRY}}
    assert forms.put("toml", new, PATH, ENTRY) == new
    assert forms.take("toml", new, PATH) == text
    changed = forms.put("toml", new, PATH, {**ENTRY, "args": ["serve"]})
    assert changed.startswith(text) and forms.take("toml", changed, PATH) == text


def test_a_new_file_and_one_with_other_servers() -> None:
    assert toml_tables.put("", PATH, ENTRY) == BLOCK
    other = '# mine\nmodel = "o"\n\n[mcp_servers.docs]  # keep\ncommand = "npx"\n'
    assert toml_tables.put(other, PATH, ENTRY) == other + "\n" + BLOCK


def test_a_changed_key_leaves_the_others_of_our_table() -> None:
    before = (
        '[mcp_servers.folder-mcp] # ours\nargs = [\n  "serve", # old\n]\nenabled = true\n\n'
        '[mcp_servers.folder-mcp.env]\nA = "1"\n\n# next\n[z]\n'
    )
    after = toml_tables.put(before, PATH, ENTRY)
    assert after == (
        '[mcp_servers.folder-mcp] # ours\nstartup_timeout_sec = 30\ncommand = "/opt/folder-mcp"\n'
        'args = ["serve", "/notes"]\nenabled = true\n\n[mcp_servers.folder-mcp.env]\nA = "1"\n\n# next\n[z]\n'
    )
    assert forms.take("toml", after, PATH) == "\n# next\n[z]\n"


def test_a_table_written_in_one_line_is_left_alone() -> None:
    text = 'mcp_servers = { folder-mcp = { command = "x" } }\n'
    for change in (lambda: forms.put("toml", text, PATH, ENTRY), lambda: forms.take("toml", text, PATH)):
        with pytest.raises(ClientError, match="not a table of its own"):
            change()
    with pytest.raises(ClientError, match="by hand"):
        forms.put("toml", "mcp_servers = { a = { command = 'x' } }\n", PATH, ENTRY)


def test_what_is_no_toml_is_named_with_its_place() -> None:
    with pytest.raises(Unparsable) as caught:
        forms.put("toml", "a = 1\nb = \n", PATH, ENTRY)
    assert (caught.value.line, caught.value.column) == (2, 5)
