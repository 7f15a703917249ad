"""Edits one block of a YAML file with ``ruamel.yaml``; a new block goes before its siblings."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from mcp_server.clients.entry import ClientError, Unparsable, line_and_column, value_at
from mcp_server.clients.line_patch import patch

WIDTH = 1_000_000
"""Columns after which ``ruamel.yaml`` would break a line: never."""


def load(text: str) -> Any:
    """Return the document; an empty one when there is none.

    Raises:
        Unparsable: It is not one YAML document of plain values, or has a key twice.
    """
    found = _loaded("safe", text)[1]
    return {} if found is None else found


def set_value(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    """Set the keys of the block at a path of two keys; its other keys are kept.

    Raises:
        Unparsable: It is not one YAML document of plain values.
        ClientError: The block, or one around it, is no mapping.
    """
    outer, name = path
    document = load(text)
    for what, found in (
        ("the document", document),
        (outer, value_at(document, [outer])),
        (name, value_at(document, path)),
    ):
        if found is not None and not isinstance(found, dict):
            raise ClientError(f"{what} is not a mapping of keys to values")

    def change(document: Any) -> None:
        document.setdefault(outer, _block({}))
        if document[outer].get(name) is None:
            document[outer].insert(0, name, _block({}))
        for key, part in value.items():
            if document[outer][name].get(key) != part:
                document[outer][name][key] = _block(part)

    return _edited(text, outer, change)


def remove_value(text: str, path: Sequence[str]) -> str:
    """Remove the block at a path of two keys.

    Raises:
        Unparsable: It is not one YAML document of plain values.
    """
    outer, name = path
    if value_at(load(text), path) is None:
        return text

    def change(document: Any) -> None:
        del document[outer][name]
        if not document[outer]:  # ruamel.yaml would put its comment before the braces
            document[outer] = _block({})

    return _edited(text, outer, change)


def _edited(text: str, outer: str, change: Callable[[Any], None]) -> str:
    normalized = text.replace("\r\n", "\n") + ("" if text.endswith("\n") or not text else "\n")
    yaml, document = _loaded("rt", normalized)
    if document is None:  # nothing but comments: ruamel.yaml would drop them
        document = _block({})
        change(document)
        return patch(text, normalized, normalized + _dumped(yaml, document))
    if document.get(outer):
        yaml.indent(mapping=max(document[outer].lc.col, 2))
    elif outer in document:  # an empty one, in any spelling: its line changes
        document[outer] = _block({})
    before = _dumped(yaml, document)
    change(document)
    return patch(text, before, _dumped(yaml, document))


def _loaded(kind: str, text: str) -> tuple[Any, Any]:
    """Return the parser and the document that it has read."""
    yaml = YAML(typ=kind, pure=True)
    yaml.preserve_quotes = True
    yaml.width = WIDTH
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about YAML 1.1 numbers and redefined anchors: the user's file
            return yaml, yaml.load(text)
    except YAMLError as error:
        raise _wrong(text, error) from None
    except RecursionError:
        raise Unparsable("nested too deep", 1, 1) from None
    except ValueError as error:  # ruamel.yaml reads "-_" as a number
        raise ClientError(f"this program cannot read this file: {error}") from error


def _dumped(yaml: Any, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _block(value: Any) -> Any:
    """Return a value as it is written: texts in quotes, so that none is read as a number; lists in one line."""
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, dict):
        return CommentedMap((key, _block(part)) for key, part in value.items())
    if isinstance(value, list):
        listed = CommentedSeq(map(_block, value))
        listed.fa.set_flow_style()
        return listed
    return value


def _wrong(text: str, error: YAMLError) -> Unparsable:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Unparsable("a character that YAML does not know", *line_and_column(text, getattr(error, "position", 0)))
    what = (getattr(error, "problem", "") or "not YAML").partition(" with value")[0]
    return Unparsable(what, mark.line + 1, mark.column + 1)
