"""Published records: pydantic models derived from the indexer's frozen dataclasses, so that a field is written once.

A record has the fields of its dataclass in the same order, the first line of its docstring as description, and what
stands in ``Annotated`` beside a field as the description of that field. Times, paths and lines are converted as their
``Form`` says. Only records that say more than one dataclass are written by hand.
"""

from __future__ import annotations

import types
import typing
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Self, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from indexer.slot.slot_types import Counters, GpuStatus, MemoryStatus, QueueStatus, SlotStatus
from indexer.status_types import (
    FileCounts,
    FileProblem,
    FormatCounts,
    IndexReport,
    ModelAvailability,
    ReasonCount,
    Status,
    Work,
)
from indexer.types import FolderCoverage, Form, Reranking, Semantic
from mcp_server.untrusted import one_line, shown_path

T = TypeVar("T")

_NAMES: dict[type[Any], str] = {
    FileCounts: "FilesRecord",
    FileProblem: "ProblemRecord",
    FolderCoverage: "CoverageRecord",
    FormatCounts: "FormatRecord",
    IndexReport: "IndexResult",
    ModelAvailability: "AvailabilityRecord",
    ReasonCount: "ReasonRecord",
    Status: "StatusResult",
}
"""Names in the published schema; all others are the dataclass's own, with ``Record`` for ``Status`` at its end."""
_REQUIRED = frozenset(
    [Counters, FileCounts, GpuStatus, MemoryStatus, QueueStatus, Reranking, Semantic, SlotStatus, Work]
)
"""Published without defaults: every field is promised. The dataclass has defaults for our own code only."""

_FIRST, _LAST = -62_135_596_800.0, 253_402_214_400.0
"""The years 1 and 9999 in seconds since the epoch: what ``datetime`` can say."""


def to_iso(value: Any) -> Any:
    """Turn seconds since the epoch into ISO 8601 in the local zone, to the second; leave anything else alone."""
    if not isinstance(value, int | float):
        return value
    moment = datetime.fromtimestamp(min(max(float(value), _FIRST), _LAST), tz=UTC)
    with suppress(OverflowError, ValueError):  # the local zone can push the first and last day out of the range
        moment = moment.astimezone()
    return moment.isoformat(timespec="seconds")


def _line(value: Any) -> Any:
    return one_line(value) if isinstance(value, str) else value


Time = Annotated[str, BeforeValidator(to_iso), Field(json_schema_extra={"format": "date-time"})]
"""ISO 8601 with zone, made from seconds since the epoch."""
Path = Annotated[str, BeforeValidator(shown_path)]
"""Absolute path; its ``file://`` address where the name cannot be written as plain text."""
Line = Annotated[str, BeforeValidator(_line)]
"""One line of text that may quote names of files."""

_PUBLISHED = {Form.TIMESTAMP: Time, Form.PATH: Path, Form.ONE_LINE: Line}
_SAFE = {Form.PATH: shown_path, Form.ONE_LINE: one_line}


class Record(BaseModel):
    """A result or a part of one: made from frozen data, refuses what it does not know."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")


class DerivedRecord(Record):
    """What ``record`` makes."""

    @classmethod
    def of(cls, value: object) -> Self:
        """Make the record of an instance of its dataclass."""
        return cls.model_validate(value)


class AsRecord:
    """Marks a dataclass in a handwritten record, which is published as its record: ``Annotated[Work, AsRecord()]``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic use the record in place of the dataclass."""
        return handler.generate_schema(record(source))


@cache
def record(kind: Any) -> type[DerivedRecord]:
    """Return the record of a frozen dataclass."""
    hints = _hints(kind)
    given: dict[str, Any] = {}
    for each in fields(kind):
        default = ... if each.default is MISSING or kind in _REQUIRED else each.default
        given[each.name] = (_published(hints[each.name]), list(default) if isinstance(default, tuple) else default)
    name = _NAMES.get(kind) or kind.__name__.removesuffix("Status") + "Record"
    description = (kind.__doc__ or "").partition("\n")[0]
    made: type[DerivedRecord] = create_model(
        name, __base__=DerivedRecord, __module__=__name__, __doc__=description, **given
    )
    return made


def safe(value: T) -> T:
    """Return a dataclass whose paths and lines are as clients may see them; times stay numbers."""
    made: T = _safe(type(value), value)
    return made


def _published(hint: Any) -> Any:
    """Return the type that a record has for a type of a dataclass."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        form = next((_PUBLISHED[part] for part in parts if isinstance(part, Form)), None)
        about = [Field(description=part) for part in parts[1:] if isinstance(part, str)]
        made = form or _published(parts[0])
        return Annotated[(made, *about)] if about else made
    if origin in (Union, types.UnionType):
        return Union[tuple(_published(part) for part in parts)]  # noqa: UP007 - the parts are known at run time
    if origin is tuple:
        return list[_published(parts[0])]  # type: ignore[misc]
    return record(hint) if is_dataclass(hint) and isinstance(hint, type) else hint


def _safe(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        form = next((part for part in parts if part in _SAFE), None)
        return _SAFE[form](value) if form else _safe(parts[0], value)
    if origin in (Union, types.UnionType):
        return _safe(next(part for part in parts if part is not types.NoneType), value)
    if origin is tuple:
        return tuple(_safe(parts[0], item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _safe(part, getattr(value, name)) for name, part in _hints(hint).items()})
    return value


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
