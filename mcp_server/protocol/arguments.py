"""The arguments of tool calls: near misses are normalized, wrong ones refused with a correction."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolRequestParams, CallToolResult, TextContent
from pydantic import ValidationError

from indexer.errors import QueryError
from indexer.types import MAX_QUERY
from mcp_server.protocol.lines import repaired
from mcp_server.protocol.untrusted import clean

SYNONYMS = {
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

NULLS = ("", "null", "none", "undefined")
"""What models write for an argument that they do not want to give, in lower case."""

Schema = Mapping[str, Any]
"""The JSON schema of a tool's arguments."""


def unknown_arguments(schema: Schema, arguments: Mapping[str, Any]) -> str:
    """Return a message about arguments with unknown names; empty when all names are known."""
    known = list(schema["properties"])
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return ""
    close = {name: _nearest(name.lower(), known) for name in unknown}
    sentences = [
        f"unknown argument {name[:60]!r}" + (f", did you mean {near[0]!r}?" if near else ".")
        for name, near in close.items()
    ]
    return " ".join(sentences) + f" Known arguments: {', '.join(known)}."


def _nearest(name: str, known: list[str]) -> list[str]:
    synonyms = [real for real in known if name in SYNONYMS.get(real, ())]
    return synonyms or difflib.get_close_matches(name, known, 1, 0.6)


def normalized(schema: Schema, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as they were meant, where that is unambiguous.

    Nulls, also those written as text, and empty text for optional arguments mean "not given". A number becomes text
    where text is expected, a list of one its element, text with a JSON list that list; the words of a choice match in
    any case.
    """
    required = schema.get("required", ())
    return {
        name: _normalized_value(schema["properties"].get(name, {}), value)
        for name, value in arguments.items()
        if name in required or not _is_nothing(value)
    }


def _is_nothing(value: Any) -> bool:
    """Whether an argument is null, empty, or null as models write it in text; a list of these too."""
    if isinstance(value, list):
        return all(_is_nothing(each) for each in value)
    return value is None or (isinstance(value, str) and value.strip().lower() in NULLS)


def _normalized_value(field: Schema, value: Any) -> Any:
    field = _given_type(field)
    expected = field.get("type")
    if expected != "array" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if expected == "array" and isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError):
            return json.loads(value)
    if expected == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if "enum" in field and isinstance(value, str):
        return next((choice for choice in field["enum"] if choice == value.strip().lower()), value)
    return value


def _given_type(field: Schema) -> Schema:
    """Return what an argument takes when it is given: the part of its schema that is not null."""
    return next((part for part in field.get("anyOf", ()) if part.get("type") != "null"), field)


def validation_message(schema: Schema, error: ValidationError) -> str:
    """Return what is invalid, one sentence for each argument, without pydantic's own wording where possible."""
    seen: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        seen.setdefault(name, _sentence(schema, name, detail))
    return " ".join(seen.values())


def _sentence(schema: Schema, name: str, detail: Any) -> str:
    field = schema.get("properties", {}).get(name, {})
    if detail["type"] == "missing":
        return f"{name} is required: {field.get('description', '')}".rstrip(": ")
    expected = _expected(field)
    given = repr(detail["input"])
    given = given if len(given) <= 60 else given[:57] + "..."
    text = f"{name} must be {expected}, got {given}." if expected else f"{name}: {detail['msg']}, got {given}."
    choices = field.get("enum")
    if choices and isinstance(detail["input"], str):
        near = difflib.get_close_matches(detail["input"].lower(), choices, 1, 0.5)
        text += f" Did you mean {near[0]!r}?" if near else ""
    return text


def _expected(field: Schema) -> str:
    """Describe the values of an argument, from its schema."""
    field = _given_type(field)
    if "enum" in field:
        return "one of " + ", ".join(repr(choice) for choice in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f"a whole number from {low} to {high:,}"
    if low is not None:
        return f"a whole number, {low} or more"
    names = {"string": "text", "boolean": "true or false", "array": "a list of text", "integer": "a whole number"}
    return names.get(str(field.get("type")), "")


_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

# From arguments to a query ------------------------------------------------------------------------------------------
# Query text, paths, folder names and dates, for tools, commands and the page.


def cut_query(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the part of a query that is used, and a notice if the query is longer.

    Control characters and halves of characters, which no text has, become spaces.

    Raises:
        QueryError: The query is empty.
    """
    text = _NO_TEXT.sub(" ", text)
    if not text.strip():
        raise QueryError("query is empty; say what to look for, in words or as a question")
    if len(text) <= MAX_QUERY:
        return text, ()
    note = f"The query has {len(text):,} characters; only the first {MAX_QUERY:,} were used. Ask for less at a time."
    return text[:MAX_QUERY], (note,)


def path_from(text: str) -> str:
    """Return the path that ``text`` names: a ``file://`` address, a path with ``~``, or a path as it is.

    Raises:
        QueryError: The address is not of a local file, or the path holds characters that no file name has.
    """
    try:
        path = _path_of_address(text) if text.startswith("file:") else text
        valid = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise QueryError("this path holds characters that no file name has; give it exactly as search did")
    return path if text.startswith("file:") else os.path.expanduser(path)


def _path_of_address(text: str) -> str:
    """Return the path of a ``file:`` address; its percent escapes are taken out once."""
    try:
        host = urlsplit(text).netloc
    except ValueError:
        raise QueryError(f"path {text[:200]!r} is not an address of a file; give the path as search did") from None
    if host not in ("", "localhost"):
        raise QueryError(f"path {text[:200]!r} is on another machine; only local files are indexed")
    # A name may hold "?" and "#", which an address written by hand leaves bare.
    return os.fsdecode(unquote_to_bytes(os.fsencode(text[len("file:") :].removeprefix(f"//{host}"))))


def roots_of(names: Sequence[str], roots: Sequence[str], *, follow_links: bool = True) -> tuple[str, ...]:
    """Return the roots that folder names of a call mean.

    A name is a root's path (``~`` and ``file://`` are understood), or the last part of exactly one root.

    Args:
        names: As the call has them.
        roots: What they may mean.
        follow_links: Whether a name may be a link to a root; not for callers who must not learn which links there are.

    Raises:
        QueryError: A name matches no root, or several; says what would match.
    """
    return tuple(dict.fromkeys(_root_of(name, roots, follow_links=follow_links) for name in names))


def _root_of(name: str, roots: Sequence[str], *, follow_links: bool) -> str:
    path = os.path.normpath(path_from(name))
    real = os.path.realpath(path) if follow_links else path
    for root in roots:
        if root in (path, real):
            return root
    named = [root for root in roots if PurePath(root).name.lower() == path.lower()]
    if len(named) == 1:
        return named[0]
    for root in roots:
        if PurePath(real).is_relative_to(root):
            inner = PurePath(real).relative_to(root).as_posix()
            raise QueryError(
                f"folder {name[:200]!r} is a part of the indexed folder {root}; "
                f'use folders=["{root}"] and path_glob="{inner}/**"'
            )
    known = ", ".join(roots[:10]) + (", ..." if len(roots) > 10 else "")
    near = difflib.get_close_matches(path, roots, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise QueryError(
        f"folder {name[:200]!r} is not indexed; {hint}"
        + (f"indexed folders: {known}" if known else "no folder is indexed: run `folder-mcp folders add FOLDER`")
    )


def parse_time(text: str) -> float:
    """Return a date or time (ISO 8601, local when it has no zone) as seconds since the epoch.

    Raises:
        QueryError: It is neither.
    """
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise QueryError(
            f"modified_after {text[:60]!r} is not a date; write it like 2026-11-01 or 2026-11-01T09:00+01:00"
        ) from None


# Middleware ---------------------------------------------------------------------------------------------------------


class ArgumentMiddleware(Extension):
    """Validates the arguments of every tool call, suggests corrections, strips the SDK's error prefix; both eras."""

    identifier = "io.github.folder-mcp/forgiving-arguments"

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Refuse wrong arguments with a sentence that leads to right ones; pass others on, normalized."""
        tool = self._tools.get(params.name)
        if tool is None:
            return _error(f"There is no tool {params.name[:60]!r}; the tools are {', '.join(self._tools)}.")
        given = params.arguments or {}
        message = unknown_arguments(tool.parameters, given)
        if message:
            return _error(f"{tool.name}: {message}")
        params.arguments = normalized(tool.parameters, given)
        try:
            tool.fn_metadata.validate_arguments(params.arguments)
        except ValidationError as error:
            return _error(f"{tool.name}: {validation_message(tool.parameters, error)}")
        return _writable(await call_next(ctx), f"Error executing tool {tool.name}: ")


def _writable(result: HandlerResult, prefix: str) -> HandlerResult:
    """Return a result that every JSON writer takes: a name that is no text would end the connection."""
    if isinstance(result, CallToolResult):
        for part in result.content:
            if isinstance(part, TextContent):
                part.text = _told(part.text.removeprefix(prefix)) if result.is_error else repaired(part.text)
        result.structured_content = repaired(result.structured_content)
    return result


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=_told(text))], is_error=True)


def _told(text: str) -> str:
    return clean(repaired(text))
