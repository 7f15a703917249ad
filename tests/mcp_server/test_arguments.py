from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server import arguments
from mcp_server.tools import tools

TOOLS = {tool.name: tool for tool in tools()}


@pytest.mark.parametrize(
    ("tool", "guess", "real"),
    [
        ("search", "limit", "top_k"),
        ("search", "Question", "query"),
        ("search", "directory", "folders"),
        ("search", "path", "path_glob"),
        ("search", "pathglob", "path_glob"),
        ("search", "since", "modified_after"),
        ("read", "file_path", "path"),
        ("read", "lines", "locator"),
        ("read", "limit", "max_chars"),
        ("status", "details", "verbose"),
    ],
)
def test_a_guessed_name_leads_to_the_real_one(tool: str, guess: str, real: str) -> None:
    assert f"did you mean {real!r}?" in arguments.unknown(TOOLS[tool].parameters, {guess: 1})


def test_every_synonym_leads_to_an_argument_that_exists() -> None:
    known = {name for tool in TOOLS.values() for name in tool.parameters["properties"]}
    assert set(arguments.ALSO) <= known


def test_known_arguments_are_not_complained_about() -> None:
    assert arguments.unknown(TOOLS["search"].parameters, {"query": "a", "top_k": 3}) == ""


def test_a_long_value_is_not_repeated_whole() -> None:
    schema = TOOLS["search"].parameters
    with pytest.raises(ValidationError) as caught:
        TOOLS["search"].fn_metadata.validate_arguments({"query": "a", "top_k": "x" * 5000})
    assert len(arguments.complaint(schema, caught.value)) < 200


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers())))
def test_any_arguments_are_taken_or_complained_about_in_words(given_arguments: dict[str, object]) -> None:
    for tool in TOOLS.values():
        if arguments.unknown(tool.parameters, given_arguments):
            continue
        cleaned = arguments.without_nulls(tool.parameters, given_arguments)
        try:
            tool.fn_metadata.validate_arguments(cleaned)
        except ValidationError as error:
            assert arguments.complaint(tool.parameters, error).strip()
