"""The forms clients keep their configuration in, behind one door: read, put an entry, take it out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from mcp_server.clients import edit_json, edit_toml, edit_yaml
from mcp_server.clients.entry import ClientError, at
from mcp_server.clients.line_patch import BY_HAND, one_span

FormName = Literal["json", "toml", "yaml"]


class Form(Protocol):
    """What a module of a form offers."""

    def read(self, text: str) -> Any:
        """Return the document."""

    def put(self, text: str, path: Sequence[str], value: dict[str, Any]) -> str:
        """Return the text with the keys at a path set."""

    def take(self, text: str, path: Sequence[str]) -> str:
        """Return the text without what is at a path."""


FORMS: dict[FormName, Form] = {"json": edit_json, "toml": edit_toml, "yaml": edit_yaml}
_EMPTY = ("", "{}", "null", "~")
"""What an entry may take the place of, white space aside: the spellings of an empty table."""


def put(form: FormName, text: str, path: Sequence[str], entry: dict[str, Any]) -> str:
    """Return the text with the entry in it, and everything else as it was.

    Args:
        form: The form of the text.
        text: The document; may be empty.
        path: Keys from the root to the entry.
        entry: Flat: texts, numbers, truth values and lists of texts. Other keys of an entry that is there are kept.

    Raises:
        Unparsable: The text is not in this form.
        ClientError: The text cannot be changed in this way; nothing is lost.
    """
    before = FORMS[form].read(text)
    new = FORMS[form].put(text, path, entry)
    there = at(before, path)
    _see_the_rest_unchanged(form, before, new, path, {**(there if isinstance(there, dict) else {}), **entry})
    gone, come = one_span(text, new)
    if there is None and not any(
        gone.startswith(empty) and come.startswith(gone.removeprefix(empty)) for empty in _EMPTY
    ):
        raise ClientError(BY_HAND)
    return new


def take(form: FormName, text: str, path: Sequence[str]) -> str:
    """Return the text without the entry, and everything else as it was.

    Raises:
        Unparsable: The text is not in this form.
        ClientError: The text cannot be changed in this way; nothing is lost.
    """
    before = FORMS[form].read(text)
    new = FORMS[form].take(text, path)
    _see_the_rest_unchanged(form, before, new, path, None)
    return new


def find(form: FormName, text: str, path: Sequence[str]) -> Any:
    """Return what is at a path; None when nothing is.

    Raises:
        Unparsable: The text is not in this form.
    """
    return at(FORMS[form].read(text), path)


def differ_by_entry_only(form: FormName, one: str, other: str, path: Sequence[str]) -> bool:
    """Whether two texts say the same, in the same order, but for what is at a path.

    Raises:
        Unparsable: A text is not in this form.
    """
    return _rest(FORMS[form].read(one), path) == _rest(FORMS[form].read(other), path)


def _see_the_rest_unchanged(form: FormName, before: Any, text: str, path: Sequence[str], entry: Any) -> None:
    """See that a changed text reads as it should: the last guard before anything is written."""
    try:
        after = FORMS[form].read(text)
    except ClientError as error:
        raise ClientError(BY_HAND) from error
    if at(after, path) != entry or _rest(after, path) != _rest(before, path):
        raise ClientError(BY_HAND)


def _rest(document: Any, path: Sequence[str]) -> str:
    """Return all but what is at a path and the tables that hold nothing else, written out: order and types count."""

    def without(node: Any, keys: Sequence[str]) -> Any:
        if not isinstance(node, dict) or keys[0] not in node:
            return node
        part = without(node[keys[0]], keys[1:]) if keys[1:] else None
        rest = {key: value for key, value in node.items() if key != keys[0]}
        return rest if part in (None, {}) else {**node, keys[0]: part}

    return repr(without(document, path))
