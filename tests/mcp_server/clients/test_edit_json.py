"""One entry of a JSON file changes, and not a byte besides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.clients import edit_json
from mcp_server.clients.edit_json import parse
from mcp_server.clients.entry import ClientError, Unparsable

ENTRY = {"command": "/opt/bin/folder-mcp", "args": ["serve", "/home/ada/notes"]}
PATH = ["mcpServers", "folder-mcp"]

keys = st.text(alphabet='abmcpS"\\/é\u2028😀 \t', max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3), max_leaves=8
)
comments = st.sampled_from(["/* c */", "/* } */", '/* " */', "// line\n", "// {\r\n", "/* two\nlines */", "//\n"])
blanks = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\t", "\n    ", "\n\n"])


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value as some hand may have written it."""

    def noise() -> str:
        return draw(blanks) + (draw(comments) + draw(blanks) if draw(st.integers(0, 5)) == 0 else "")

    def text_of(value: Any) -> str:
        if isinstance(value, dict):
            parts = [
                f"{noise()}{text_of(key)}{noise()}:{noise()}{text_of(part)}{noise()}" for key, part in value.items()
            ]
            return "{" + ",".join(parts) + ("," + noise() if parts and draw(st.booleans()) else noise()) + "}"
        if isinstance(value, list):
            parts = [noise() + text_of(part) + noise() for part in value]
            return "[" + ",".join(parts) + ("," + noise() if parts and draw(st.booleans()) else noise()) + "]"
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    return noise() + text_of(value) + noise()


@st.composite
def documents(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A client's document and its text: with our table, without it, or with an empty one."""
    document = draw(st.dictionaries(keys, values, max_size=4))
    if draw(st.integers(0, 3)):
        document["mcpServers"] = draw(st.dictionaries(keys, values, max_size=3))
    items = draw(st.permutations(list(document.items())))
    return dict(items), draw(written(dict(items)))


def outside(before: str, after: str) -> tuple[str, str]:
    """What of each text is not in the other, when one span of the one became one span of the other."""
    start = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    same = 0
    while same < min(len(before), len(after)) - start and before[-1 - same] == after[-1 - same]:
        same += 1
    return before[start : len(before) - same], after[start : len(after) - same]


@settings(max_examples=scaled(80))
@given(documents())
def test_an_added_entry_is_one_span_and_everything_else_stays(case: tuple[dict[str, Any], str]) -> None:
    document, text = case
    assert edit_json.load(text) == document
    new = edit_json.set_value(text, PATH, ENTRY)
    servers = document.get("mcpServers", {})
    assert edit_json.load(new) == {**document, "mcpServers": {**servers, "folder-mcp": ENTRY}}
    gone, _ = outside(text, new)
    assert not gone.strip()
    assert gone == "" or not servers  # only the blanks of an empty object are written over
    assert edit_json.set_value(new, PATH, ENTRY) == new
    if servers:
        assert edit_json.remove_value(new, PATH) == text
    elif document and "mcpServers" not in document:
        assert edit_json.remove_value(new, PATH[:1]) == text


@pytest.mark.slow
@settings(max_examples=scaled(60))
@given(documents(), st.lists(st.text(), max_size=3))
def test_a_changed_entry_leaves_every_byte_around_it(case: tuple[dict[str, Any], str], args: list[str]) -> None:
    _, text = case
    old = edit_json.set_value(text, PATH, {"command": "folder-mcp", "args": ["x"]})
    new = edit_json.set_value(old, PATH, {"args": args})
    before, after = entry_of(old), entry_of(new)
    assert (old[: before[0]], old[before[1] :]) == (new[: after[0]], new[after[1] :])
    assert edit_json.load(new)["mcpServers"]["folder-mcp"] == {"command": "folder-mcp", "args": args}


@settings(max_examples=scaled(60))
@given(documents(), st.data())
def test_any_key_can_be_taken_out_and_the_others_stay(case: tuple[dict[str, Any], str], data: st.DataObject) -> None:
    document, text = case
    if not document:
        return
    key = data.draw(st.sampled_from(sorted(document)))
    expected = {each: value for each, value in document.items() if each != key}
    assert edit_json.load(edit_json.remove_value(text, [key])) == expected


def entry_of(text: str) -> tuple[int, int]:
    node = parse(text)
    for key in PATH:
        member = node.member(key)
        assert member
        node = member.node
    return node.start, node.end


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "t": {\n    "n": {\n      "c": 1\n    }\n  }\n}\n'),
        ("{}", '{"t": {"n": {"c": 1}}}'),
        ("{/* c */}", '{"t": {"n": {"c": 1}}/* c */}'),
        ("{}\n", '{"t": {"n": {"c": 1}}}\n'),
        ('{\n}\n', '{\n  "t": {\n    "n": {\n      "c": 1\n    }\n  }\n}\n'),
        ('{"t":{"a":1}}', '{"t":{"n": {"c": 1},"a":1}}'),
        ('{ "t": { "a": 1 } }', '{ "t": { "n": {"c": 1}, "a": 1 } }'),
        ('{\n\t"t": {\n\t\t"a": 1\n\t}\n}', '{\n\t"t": {\n\t\t"n": {\n\t\t\t"c": 1\n\t\t},\n\t\t"a": 1\n\t}\n}'),
        ('{\r\n  "t": {}\r\n}', '{\r\n  "t": {\r\n    "n": {\r\n      "c": 1\r\n    }\r\n  }\r\n}'),
        ('{\n "t": { // mine\n  "a": 1,\n },\n}', '{\n "t": { // mine\n  "n": {\n   "c": 1\n  },\n  "a": 1,\n },\n}'),
        ("// only a comment", '// only a comment\n{\n  "t": {\n    "n": {\n      "c": 1\n    }\n  }\n}\n'),
    ],
)  # fmt: skip
def test_the_style_of_the_file_is_kept(before: str, after: str) -> None:
    assert edit_json.set_value(before, ["t", "n"], {"c": 1}) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"a":1,"n":2}', '{"a":1}'),
        ('{"n":2,"a":1}', '{"a":1}'),
        ('{"n":2}', "{}"),
        ('{\n  "a": 1, // a\n  "n": 2,\n  "b": 3\n}', '{\n  "a": 1, // a\n  "b": 3\n}'),
        ('{\n  "a": 1, // a\n  // about n\n  "n": 2\n}', '{\n  "a": 1 // a\n  // about n\n}'),
        ('{\n  "n": 2,\n}', "{}"),
        ('{\n  // kept\n  "n": 2\n}', "{\n  // kept\n}"),
    ],
)
def test_what_is_taken_out_leaves_no_trace(before: str, after: str) -> None:
    assert edit_json.remove_value(before, ["n"]) == after


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1', "line 1, column 8: expected ',' or '}', but the file ends"),
        ('{\n  "a" 1\n}', "line 2, column 7: expected ':' after the key 'a', but there is '1'"),
        ("{'a': 1}", "line 1, column 2: expected a key in quotes or '}', but there is \"'\""),
        ('{"a": tru}', "line 1, column 7: expected a value, but there is 't'"),
        ('{"a": "x\n"}', "line 1, column 7: a string that does not end on its line"),
        ('{"a": "\\x"}', "line 1, column 7: a string with an escape that JSON does not know"),
        ('{"a": 1} {', "line 1, column 10: expected the end of the file, but there is '{'"),
        ('{"a": /* ', "line 1, column 7: expected a value, but there is '/'"),
        ("[" * 300, "line 1, column 202: nested more than 200 deep"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(Unparsable) as caught:
        edit_json.set_value(text, PATH, ENTRY)
    assert str(caught.value) == place


@pytest.mark.parametrize("text", ["[]", '{"mcpServers": []}', '{"mcpServers": null}', '"text"'])
def test_what_is_no_object_is_not_written_over(text: str) -> None:
    with pytest.raises(ClientError, match="is not an object"):
        edit_json.set_value(text, PATH, ENTRY)


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(Unparsable, match="line 2, column 2: the key 'mcpServers' is there twice"):
        edit_json.set_value('{"mcpServers": {},\n "mcpServers": {}}', PATH, ENTRY)
