"""One block of a YAML file changes, and not a byte besides."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.clients import forms, yaml_blocks
from mcp_server.clients.errors import ClientError, Unparsable

ENTRY: dict[str, Any] = {"enabled": True, "cmd": "/opt/folder-mcp", "args": ["serve", "/notes"]}
PATH = ["extensions", "folder-mcp"]
BLOCK = 'extensions:\n  folder-mcp:\n    enabled: true\n    cmd: "/opt/folder-mcp"\n    args: ["serve", "/notes"]\n'
GOOSE = """\
# my goose
GOOSE_PROVIDER: "anthropic"   # the good one
extensions:   # servers
    # the first one
    developer:
        bundled: true
        args:
        - '-x'
        - |
          two
          lines
        enabled: true

    memory: {type: builtin, enabled: false}
GOOSE_MODE: auto
prompt: >
  folded

  text
"""

keys = st.text(alphabet="abAB_:# -é", min_size=1, max_size=6)
plain = st.none() | st.booleans() | st.integers() | st.text(alphabet="ab:#-'\" \n[]{}é", max_size=10)
values = st.recursive(
    plain, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3), max_leaves=6
)


@settings(max_examples=scaled(60))
@given(
    st.dictionaries(keys, values, max_size=3),
    st.none() | st.dictionaries(keys, st.dictionaries(keys, values, min_size=1, max_size=3), max_size=3),
    st.integers(2, 6),
    st.sampled_from(["\n", "\r\n"]),
)
def test_an_added_block_is_one_span_and_comes_out_again(
    rest: dict[str, Any], extensions: dict[str, Any] | None, indent: int, new: str
) -> None:
    before = rest if extensions is None else {**rest, "extensions": extensions}
    text = yaml.safe_dump(before, indent=indent, allow_unicode=True, line_break=new) if before else ""
    changed = forms.put("yaml", text, PATH, ENTRY)
    assert yaml.safe_load(changed) == {**before, "extensions": {**(extensions or {}), "folder-mcp": ENTRY}}
    assert forms.put("yaml", changed, PATH, ENTRY) == changed
    if extensions:
        assert forms.take("yaml", changed, PATH) == text
    again = forms.put("yaml", changed, PATH, {**ENTRY, "args": ["serve"], "timeout": 3})
    assert yaml.safe_load(again)["extensions"]["folder-mcp"] == {**ENTRY, "args": ["serve"], "timeout": 3}


def test_comments_quotes_and_folded_text_stay() -> None:
    changed = forms.put("yaml", GOOSE, PATH, ENTRY)
    head, tail = GOOSE.split("    # the first one\n")
    ours = BLOCK.replace("extensions:\n", "").replace("    ", "      ").replace("  folder-mcp", "    folder-mcp", 1)
    assert changed == head + ours + "    # the first one\n" + tail
    assert forms.take("yaml", changed, PATH) == GOOSE


@pytest.mark.parametrize("empty", ["extensions:\n", "extensions: {}\n", "extensions: null\n", "extensions: ~ # no\n"])
def test_an_empty_table_is_filled(empty: str) -> None:
    changed = forms.put("yaml", empty + "mode: auto\n", PATH, ENTRY)
    assert yaml.safe_load(changed) == {"extensions": {"folder-mcp": ENTRY}, "mode": "auto"}
    assert yaml.safe_load(forms.take("yaml", changed, PATH)) == {"extensions": {}, "mode": "auto"}


def test_an_entry_written_over_several_lines_is_brought_up_to_date() -> None:
    text = (
        "extensions:\n  folder-mcp:\n    cmd: folder-mcp # old\n    args:\n    - serve\n    - /old\n"
        "    envs: {A: b}\nz: 1\n"
    )
    assert forms.put("yaml", text, PATH, ENTRY) == (
        'extensions:\n  folder-mcp:\n    enabled: true\n    cmd: "/opt/folder-mcp" # old\n'
        '    args: ["serve", "/notes"]\n    envs: {A: b}\nz: 1\n'
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extensions: {a: {b: c}}\n", "line 1, column 13: extensions is written in braces"),
        ("{a: b}\n", "the document is written in braces"),
        ("- a\n", "not a mapping"),
        ("extensions: [a]\n", "not a mapping"),
        ("a: 1\nextensions:\n  b: 1\nextensions:\n  c: 1\n", "twice"),
    ],
)
def test_what_cannot_be_changed_cleanly_is_left_alone(text: str, told: str) -> None:
    with pytest.raises(ClientError, match=told):
        forms.put("yaml", text, PATH, ENTRY)


@pytest.mark.parametrize(("text", "line"), [("a: 1\nb: [\n", 3), ("a: 1\n b: 2\n", 2), ("a: !x 1\n", 1), ("a\x01", 1)])
def test_what_is_no_yaml_is_named_with_its_place(text: str, line: int) -> None:
    with pytest.raises(Unparsable) as caught:
        forms.put("yaml", text, PATH, ENTRY)
    assert caught.value.line == line


def test_a_new_file_has_the_entry_only() -> None:
    assert yaml_blocks.put("", PATH, ENTRY) == BLOCK
    assert yaml_blocks.put("a: 1", PATH, ENTRY) == "a: 1\n" + BLOCK
