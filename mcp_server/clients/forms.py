"""The forms clients keep their configuration in, behind one door: read, put an entry, take it out again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from mcp_server.clients import jsonc, toml_tables, yaml_blocks
from mcp_server.clients.document import at
from mcp_server.clients.errors import ClientError

FormName = Literal["json", "toml", "yaml"]


class Form(Protocol):
    """What a module of a form offers."""

    def read(self, text: str) -> Any:
        """Return the document."""

    def put(self, text: str, path: Sequence[str], value: dict[str, Any]) -> str:
        """Return the text with the keys at a path set."""

    def take(self, text: str, path: Sequence[str]) -> str:
        """Return the text without what is at a path."""


FORMS: dict[FormName, Form] = {"json": jsonc, "toml": toml_tables, "yaml": yaml_blocks}
BY_HAND = "this program cannot change a file of this shape without touching more than its own entry; add it by hand"


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
    wanted = copy.deepcopy(FORMS[form].read(text))
    new = FORMS[form].put(text, path, entry)
    if not isinstance(wanted, dict):
        raise ClientError("the document is not an object")
    place = wanted
    for key in path:
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
    place.update(entry)
    return _same(form, new, wanted)


def take(form: FormName, text: str, path: Sequence[str]) -> str:
    """Return the text without the entry, and everything else as it was.

    Raises:
        Unparsable: The text is not in this form.
        ClientError: The text cannot be changed in this way; nothing is lost.
    """
    wanted = copy.deepcopy(FORMS[form].read(text))
    new = FORMS[form].take(text, path)
    place = wanted
    for key in path[:-1]:
        place = place.get(key) or {}
    place.pop(path[-1], None)
    return _same(form, new, wanted)


def find(form: FormName, text: str, path: Sequence[str]) -> Any:
    """Return what is at a path; None when nothing is.

    Raises:
        Unparsable: The text is not in this form.
    """
    return at(FORMS[form].read(text), path)


def _same(form: FormName, text: str, wanted: Any) -> str:
    """See that a changed text reads as it should: the last guard before anything is written."""
    try:
        found = FORMS[form].read(text)
    except ClientError as error:
        raise ClientError(BY_HAND) from error
    if _filled(found) != _filled(wanted):
        raise ClientError(BY_HAND)
    return text


def _filled(value: Any) -> Any:
    """The document without empty tables at its top, which TOML does not tell from missing ones."""
    return {key: part for key, part in value.items() if part not in ({}, None)} if isinstance(value, dict) else value
