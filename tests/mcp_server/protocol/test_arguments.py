from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server.protocol import arguments
from mcp_server.protocol.tools import tools

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
    assert f"did you mean {real!r}?" in arguments.unknown_arguments(TOOLS[tool].parameters, {guess: 1})


def test_every_synonym_leads_to_an_argument_that_exists() -> None:
    known = {name for tool in TOOLS.values() for name in tool.parameters["properties"]}
    assert set(arguments.SYNONYMS) <= known


def test_known_arguments_are_not_complained_about() -> None:
    assert arguments.unknown_arguments(TOOLS["search"].parameters, {"query": "a", "top_k": 3}) == ""


def test_a_long_value_is_not_repeated_whole() -> None:
    schema = TOOLS["search"].parameters
    with pytest.raises(ValidationError) as caught:
        TOOLS["search"].fn_metadata.validate_arguments({"query": "a", "top_k": "x" * 5000})
    assert len(arguments.validation_message(schema, caught.value)) < 200


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers())))
def test_any_arguments_are_taken_or_complained_about_in_words(given_arguments: dict[str, object]) -> None:
    for tool in TOOLS.values():
        if arguments.unknown_arguments(tool.parameters, given_arguments):
            continue
        cleaned = arguments.normalized(tool.parameters, given_arguments)
        try:
            tool.fn_metadata.validate_arguments(cleaned)
        except ValidationError as error:
            assert arguments.validation_message(tool.parameters, error).strip()


@pytest.mark.parametrize(
    ("given_arguments", "meant"),
    [
        ({"query": 2041}, {"query": "2041"}),
        ({"query": ["signing key"]}, {"query": "signing key"}),
        ({"query": "a", "path_glob": ["*.md"]}, {"query": "a", "path_glob": "*.md"}),
        ({"query": "a", "folders": '["/x", "/y"]'}, {"query": "a", "folders": ["/x", "/y"]}),
        ({"query": "a", "folders": "[work]"}, {"query": "a", "folders": "[work]"}),
        ({"query": "a", "folders": "", "modified_after": "", "file_types": []}, {"query": "a"}),
        ({"query": "a", "mode": " Keyword"}, {"query": "a", "mode": "keyword"}),
        ({"query": "a", "top_k": [8]}, {"query": "a", "top_k": 8}),
        ({"query": "", "offset": None}, {"query": ""}),
        ({"query": "a", "path_glob": ["*.md", "*.txt"]}, {"query": "a", "path_glob": ["*.md", "*.txt"]}),
        ({"query": True}, {"query": True}),
    ],
)
def test_what_can_be_meant_in_one_way_only_is_taken_so(
    given_arguments: dict[str, object], meant: dict[str, object]
) -> None:
    assert arguments.normalized(TOOLS["search"].parameters, given_arguments) == meant


def test_numbers_as_text_and_types_in_one_text_are_understood() -> None:
    given_arguments = {"query": "a", "top_k": "8", "offset": "16", "file_types": "pdf, .md docx", "folders": "notes"}
    mended = arguments.normalized(TOOLS["search"].parameters, given_arguments)
    taken = TOOLS["search"].fn_metadata.validate_arguments(mended)
    assert (taken["top_k"], taken["offset"]) == (8, 16)
    assert (taken["file_types"], taken["folders"]) == (["pdf", ".md", "docx"], ["notes"])
    assert TOOLS["status"].fn_metadata.validate_arguments({"verbose": "true"})["verbose"] is True


@pytest.mark.parametrize("name", TOOLS)
def test_complaints_never_carry_the_validators_own_noise(name: str) -> None:
    tool = TOOLS[name]
    for argument in tool.parameters["properties"]:
        for value in ({"a": 1}, [1, 2], "\u2028" * 3, -(10**9), 1e300, object):
            try:
                tool.fn_metadata.validate_arguments(arguments.normalized(tool.parameters, {argument: value}))
            except ValidationError as error:
                said = arguments.validation_message(tool.parameters, error)
                assert "pydantic" not in said and "http" not in said and "validation error" not in said, said
