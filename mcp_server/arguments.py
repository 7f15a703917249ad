"""Forgiving arguments: what a model got wrong in a call, said so that it gets it right the next time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

ALSO = {
    "top_k": ("limit", "k", "n", "max_results", "num_results", "count", "size"),
    "query": ("q", "text", "question", "keywords", "search", "pattern"),
    "folders": ("folder", "directory", "directories", "dir", "root"),
    "path_glob": ("glob", "file_pattern", "include", "path"),
    "file_types": ("file_type", "type", "types", "extension", "extensions", "ext", "suffix", "format"),
    "context": ("neighbors", "neighbours", "surrounding", "window", "context_chunks"),
    "modified_after": ("since", "after", "date"),
    "offset": ("skip", "start", "cursor", "page"),
    "path": ("file", "filename", "file_path", "uri", "url", "id"),
    "locator": ("lines", "range", "page", "place", "section"),
    "max_chars": ("max_length", "max_tokens", "limit", "size"),
    "verbose": ("detailed", "details", "full"),
}
"""What models call our arguments when they guess."""

Schema = Mapping[str, Any]
"""The JSON schema of a tool's arguments."""


def unknown(schema: Schema, arguments: Mapping[str, Any]) -> str:
    """Return what is wrong with the names of the arguments; empty when all are known."""
    known = list(schema["properties"])
    wrong = [name for name in arguments if name not in known]
    if not wrong:
        return ""
    close = {name: _nearest(name.lower(), known) for name in wrong}
    said = [
        f"unknown argument {name[:60]!r}" + (f", did you mean {near[0]!r}?" if near else ".")
        for name, near in close.items()
    ]
    return " ".join(said) + f" Known arguments: {', '.join(known)}."


def _nearest(name: str, known: list[str]) -> list[str]:
    named = [real for real in known if name in ALSO.get(real, ())]
    return named or difflib.get_close_matches(name, known, 1, 0.6)


def mended(schema: Schema, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as they were meant, where there is only one way to mean them.

    Nulls and empty text for optional arguments mean "not given". A number is text where text is wanted, a list of one
    its element, text with a JSON list that list; words of a choice count in any case.
    """
    required = schema.get("required", ())
    return {
        name: _meant(schema["properties"].get(name, {}), value)
        for name, value in arguments.items()
        if name in required or value not in (None, "", [])
    }


def _meant(field: Schema, value: Any) -> Any:
    field = _given_type(field)
    wanted = field.get("type")
    if wanted != "array" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if wanted == "array" and isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            return json.loads(value)
    if wanted == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if "enum" in field and isinstance(value, str):
        return next((choice for choice in field["enum"] if choice == value.strip().lower()), value)
    return value


def _given_type(field: Schema) -> Schema:
    """Return what an argument takes when it is given: the part of its schema that is not null."""
    return next((part for part in field.get("anyOf", ()) if part.get("type") != "null"), field)


def complaint(schema: Schema, error: ValidationError) -> str:
    """Return what a validation found, one sentence for each argument, without pydantic's own words where possible."""
    seen: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        seen.setdefault(name, _sentence(schema, name, detail))
    return " ".join(seen.values())


def _sentence(schema: Schema, name: str, detail: Any) -> str:
    field = schema.get("properties", {}).get(name, {})
    if detail["type"] == "missing":
        return f"{name} is required: {field.get('description', '')}".rstrip(": ")
    wanted = _wanted(field)
    given = repr(detail["input"])
    given = given if len(given) <= 60 else given[:57] + "..."
    text = f"{name} must be {wanted}, got {given}." if wanted else f"{name}: {detail['msg']}, got {given}."
    choices = field.get("enum")
    if choices and isinstance(detail["input"], str):
        near = difflib.get_close_matches(detail["input"].lower(), choices, 1, 0.5)
        text += f" Did you mean {near[0]!r}?" if near else ""
    return text


def _wanted(field: Schema) -> str:
    """Say what an argument takes, from its schema."""
    field = _given_type(field)
    if "enum" in field:
        return "one of " + ", ".join(repr(choice) for choice in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f"a whole number from {low} to {high:,}"
    if low is not None:
        return f"a whole number, {low} or more"
    plain = {"string": "text", "boolean": "true or false", "array": "a list of text", "integer": "a whole number"}
    return plain.get(str(field.get("type")), "")
