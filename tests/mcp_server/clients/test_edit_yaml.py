"""One block of a YAML file changes, and not a byte besides."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.clients import edit, edit_yaml
from mcp_server.clients.entry import ClientError, Unparsable

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

keys = st.text(alphabet="abAB_:# -é", min_size=1, max_size=6).filter(lambda key: key.strip("-_"))  # no number, "-_"
plain = st.none() | st.booleans() | st.integers() | st.text(alphabet="ab:#-'\" \n[]{}é", max_size=10)
values = st.recursive(
    plain, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3), max_leaves=6
)


@pytest.mark.slow
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
    changed = edit.put_entry("yaml", text, PATH, ENTRY)
    assert yaml.safe_load(changed) == {**before, "extensions": {**(extensions or {}), "folder-mcp": ENTRY}}
    assert edit.put_entry("yaml", changed, PATH, ENTRY) == changed
    if extensions:
        assert edit.remove_entry("yaml", changed, PATH) == text
    again = edit.put_entry("yaml", changed, PATH, {**ENTRY, "args": ["serve"], "timeout": 3})
    assert yaml.safe_load(again)["extensions"]["folder-mcp"] == {**ENTRY, "args": ["serve"], "timeout": 3}


def test_comments_quotes_and_folded_text_stay() -> None:
    changed = edit.put_entry("yaml", GOOSE, PATH, ENTRY)
    head, tail = GOOSE.split("    # the first one\n")
    ours = BLOCK.replace("extensions:\n", "").replace("  ", "    ")
    assert changed == head + ours + "    # the first one\n" + tail
    assert edit.remove_entry("yaml", changed, PATH) == GOOSE


@pytest.mark.parametrize("empty", ["extensions:\n", "extensions: {}\n", "extensions: null\n", "extensions: ~ # no\n"])
def test_an_empty_table_is_filled(empty: str) -> None:
    changed = edit.put_entry("yaml", empty + "mode: auto\n", PATH, ENTRY)
    assert yaml.safe_load(changed) == {"extensions": {"folder-mcp": ENTRY}, "mode": "auto"}
    assert yaml.safe_load(edit.remove_entry("yaml", changed, PATH)) == {"extensions": {}, "mode": "auto"}


def test_an_entry_written_over_several_lines_is_brought_up_to_date() -> None:
    text = (
        "extensions:\n  folder-mcp:\n    cmd: folder-mcp # old\n    args:\n      - serve\n      - /old\n"
        "    envs: {A: b}\n  # the last one\n  z:   { b: 1 }\n"
    )
    changed = edit.put_entry("yaml", text, PATH, ENTRY)
    assert changed == (
        'extensions:\n  folder-mcp:\n    cmd: "/opt/folder-mcp" # old\n    args: ["serve", "/notes"]\n'
        "    envs: {A: b}\n    enabled: true\n  # the last one\n  z:   { b: 1 }\n"
    )
    assert edit.remove_entry("yaml", changed, PATH) == "extensions:\n  # the last one\n  z:   { b: 1 }\n"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("extensions: {a: {b: c}} # x\n", "extensions: {folder-mcp: OURS, a: {b: c}} # x\n"),
        ("{a: b}\n", "{a: b, extensions: {folder-mcp: OURS}}\n"),
        ("---\na: [1,\n 2,\n]\nextensions: {a: {b: 1}}\n...\n", None),
        ("---\na: 'x'  # c\nextensions:\n  a: { b: 1 }\n...\n", None),
        ("a: &x {b: 1}\nextensions:\n  <<: &y {c: 0x1F}\n  a: *x\n  b: 1_000\n", None),
        ("a: |+\n  # text\n\nextensions:\n\ta: 1\n".replace("\t", "     "), None),
        ('a: "x\\\n  y"\nb: >-\n  z\n\n  z\nextensions:\n  a:\n   - 1\n   -   2\n', None),
        ("a: 1\nextensions:\n  a:\n    cmd: x\n\n# about z\nz: 1\n", None),
        ('a: 1  \nextensions:\n  a:  \n    b: "x\ty"\n', None),
    ],
)
def test_layout_that_the_library_would_change_stays(text: str, changed: str | None) -> None:
    found = edit.put_entry("yaml", text, PATH, ENTRY)
    if changed:
        assert found == changed.replace("OURS", '{enabled: true, cmd: "/opt/folder-mcp", args: ["serve", "/notes"]}')
    gone, come = outside(text, found)
    assert gone == "" and "folder-mcp" in come
    if not changed and "extensions: {" not in text:
        assert edit.remove_entry("yaml", found, PATH) == text


def outside(before: str, after: str) -> tuple[str, str]:
    """What of each text is not in the other, when one span of the one became one span of the other."""
    shorter = min(len(before), len(after))
    head = next((n for n in range(shorter) if before[n] != after[n]), shorter)
    tail = next((n for n in range(shorter - head) if before[-1 - n] != after[-1 - n]), shorter - head)
    return before[head : len(before) - tail], after[head : len(after) - tail]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "the document is not a mapping"),
        ("extensions: [a]\n", "extensions is not a mapping"),
        ("a: 1\nextensions:\n  b: 1\nextensions:\n  c: 1\n", 'line 4, column 1: found duplicate key "extensions"'),
        ("extensions:\n  b: 1\n  b: 2\n", 'line 3, column 3: found duplicate key "b"'),
        ("a: &x {b: 1}\nextensions: *x\n", "by hand"),  # our entry would come into both
        ("extensions: {\n  a: {b: c},\n}\n", "by hand"),
        ("a: 1\n---\nb: 2\n", "document"),
    ],
)
def test_what_cannot_be_changed_cleanly_is_left_alone(text: str, told: str) -> None:
    with pytest.raises(ClientError, match=told):
        edit.put_entry("yaml", text, PATH, ENTRY)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [\n", 3),
        ("a: 1\n b: 2\n", 2),
        ("a: !x 1\n", 1),
        ("a\x01", 1),
        ("a:\n\tb: 1\n", 2),
        ("a: *x\n", 1),
        ("a: 1\t# c\n", 1),
        ("[" * 600, 1),
    ],
)
def test_what_is_no_yaml_is_named_with_its_place(text: str, line: int) -> None:
    with pytest.raises(Unparsable) as caught:
        edit.put_entry("yaml", text, PATH, ENTRY)
    assert caught.value.line == line


def test_a_new_file_has_the_entry_only() -> None:
    assert edit_yaml.set_value("", PATH, ENTRY) == BLOCK
    assert edit_yaml.set_value("a: 1\n", PATH, ENTRY) == "a: 1\n" + BLOCK
    assert edit_yaml.set_value("a: 1", PATH, ENTRY) == "a: 1\n" + BLOCK.rstrip("\n")
