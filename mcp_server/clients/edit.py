"""Edits configuration files of clients in any of their formats: finds, puts and removes one entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from mcp_server.clients import edit_json, edit_toml, edit_yaml
from mcp_server.clients.entry import ClientError, value_at
from mcp_server.clients.line_patch import BY_HAND, changed_span

FormatName = Literal["json", "toml", "yaml"]


class Format(Protocol):
    """The functions of a format's module."""

    def load(self, text: str) -> Any:
        """Return the document."""

    def set_value(self, text: str, path: Sequence[str], value: dict[str, Any]) -> str:
        """Return the text with the keys of the table at a path set."""

    def remove_value(self, text: str, path: Sequence[str]) -> str:
        """Return the text without the value at a path."""


FORMATS: dict[FormatName, Format] = {"json": edit_json, "toml": edit_toml, "yaml": edit_yaml}
_EMPTY = ("", "{}", "null", "~")
"""The spellings of an empty table, without white space: a new entry may replace these."""


def put_entry(format_name: FormatName, text: str, path: Sequence[str], entry: dict[str, Any]) -> str:
    """Return the text with the entry, and everything else as it was.

    Args:
        format_name: Of the text.
        text: The document; may be empty.
        path: Keys from the root to the entry.
        entry: Flat: texts, numbers, booleans and lists of texts. Other keys of an existing entry are kept.

    Raises:
        Unparsable: The text is not in this format.
        ClientError: The text cannot be changed in this way; nothing is lost.
    """
    before = FORMATS[format_name].load(text)
    new = FORMATS[format_name].set_value(text, path, entry)
    existing = value_at(before, path)
    _check_rest_unchanged(
        format_name, before, new, path, {**(existing if isinstance(existing, dict) else {}), **entry}
    )
    removed, added = changed_span(text, new)
    if existing is None and not any(
        removed.startswith(empty) and added.startswith(removed.removeprefix(empty)) for empty in _EMPTY
    ):
        raise ClientError(BY_HAND)
    return new


def remove_entry(format_name: FormatName, text: str, path: Sequence[str]) -> str:
    """Return the text without the entry, and everything else as it was.

    Raises:
        Unparsable: The text is not in this format.
        ClientError: The text cannot be changed in this way; nothing is lost.
    """
    before = FORMATS[format_name].load(text)
    new = FORMATS[format_name].remove_value(text, path)
    _check_rest_unchanged(format_name, before, new, path, None)
    return new


def find_entry(format_name: FormatName, text: str, path: Sequence[str]) -> Any:
    """Return the entry at a path; None when there is none.

    Raises:
        Unparsable: The text is not in this format.
    """
    return value_at(FORMATS[format_name].load(text), path)


def differ_by_entry_only(format_name: FormatName, one: str, other: str, path: Sequence[str]) -> bool:
    """Whether two texts have the same content in the same order, except for the entry at a path.

    Raises:
        Unparsable: A text is not in this format.
    """
    return _rest(FORMATS[format_name].load(one), path) == _rest(FORMATS[format_name].load(other), path)


def _check_rest_unchanged(format_name: FormatName, before: Any, text: str, path: Sequence[str], entry: Any) -> None:
    """Check that a changed text has the entry and nothing else changed: the last check before anything is written."""
    try:
        after = FORMATS[format_name].load(text)
    except ClientError as error:
        raise ClientError(BY_HAND) from error
    if value_at(after, path) != entry or _rest(after, path) != _rest(before, path):
        raise ClientError(BY_HAND)


def _rest(document: Any, path: Sequence[str]) -> str:
    """Return the ``repr`` of all but the value at a path and tables with nothing else: order and types count."""

    def without(node: Any, keys: Sequence[str]) -> Any:
        if not isinstance(node, dict) or keys[0] not in node:
            return node
        part = without(node[keys[0]], keys[1:]) if keys[1:] else None
        rest = {key: value for key, value in node.items() if key != keys[0]}
        return rest if part in (None, {}) else {**node, keys[0]: part}

    return repr(without(document, path))
