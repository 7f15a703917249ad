"""``docs/tools.md`` names every argument and every field, and none that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_server.protocol import arguments
from mcp_server.protocol.application import INSTRUCTIONS
from mcp_server.protocol.tools import tools

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
TOOLS = {tool.name: tool for tool in tools()}


def names(schema: Any) -> Iterator[str]:
    """Every property at every depth of a schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from names(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from names(part)


@pytest.mark.parametrize("name", TOOLS)
def test_every_argument_and_field_is_explained(name: str) -> None:
    told = set(re.findall(r"`(\w+)`", SECTIONS[name]))
    assert set(names(TOOLS[name].parameters)) - told == set()
    assert set(names(TOOLS[name].output_schema)) - told == set()


@pytest.mark.parametrize("name", TOOLS)
def test_no_field_is_explained_that_does_not_exist(name: str) -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE))
    assert explained - set(names(TOOLS[name].parameters)) - set(names(TOOLS[name].output_schema)) == set()


@pytest.mark.parametrize("name", TOOLS)
def test_defaults_and_ranges_are_the_real_ones(name: str) -> None:
    arguments = SECTIONS[name].split("### The answer")[0]
    for argument, schema in TOOLS[name].parameters["properties"].items():
        row = re.search(rf"^\| `{argument}` \| ([^|]*) \|", arguments, re.MULTILINE)
        assert row, argument
        for value in (schema.get("minimum"), schema.get("maximum"), schema.get("default")):
            if isinstance(value, int) and not isinstance(value, bool):
                assert f"{value:,}" in row[1], (argument, value)


TASKS = re.findall(
    r"^\| ([^|]+) \| `(\w+)\(([^`]*)\)` \| (.+) \|$", PAGE.split("## What a model picks")[1], re.MULTILINE
)


def test_ten_tasks_are_listed() -> None:
    assert len(TASKS) == 10
    assert {name for _, name, _, _ in TASKS} == set(TOOLS)


@pytest.mark.parametrize(("task", "name", "given", "because"), TASKS, ids=[task[0] for task in TASKS])
def test_a_task_leads_to_a_call_that_is_taken_by_words_that_are_there(
    task: str, name: str, given: str, because: str
) -> None:
    call = ast.parse(f"f({given.replace('true', 'True')})", mode="eval").body
    assert isinstance(call, ast.Call)
    values = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
    tool = TOOLS[name]
    assert arguments.unknown_arguments(tool.parameters, values) == ""
    tool.fn_metadata.validate_arguments(arguments.normalized(tool.parameters, values))
    described = [field["description"] for field in tool.parameters["properties"].values()]
    told = " ".join([INSTRUCTIONS, *(each.description for each in TOOLS.values()), *described])
    for words in because[1:-1].split('"; "'):
        assert words in " ".join(told.split()), words
