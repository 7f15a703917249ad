"""Calls of the engine as JSON and back, for what the owner and our own commands say to each other.

Written by hand because paths may hold bytes that are not text: they travel as lone surrogates, which JSON can escape
and stricter writers refuse.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any

from mcp_server.port import EnginePort


def plain(value: Any) -> Any:
    """Return a dataclass (or a sequence of them) as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def made(kind: Any, value: Any) -> Any:
    """Return the value of a type that JSON was made of; unknown fields are passed over, missing ones have defaults.

    Args:
        kind: A dataclass, ``tuple[...]``, a sequence or an optional of these, or anything JSON has itself.
        value: What JSON gave.

    Raises:
        TypeError: A field without a default is missing.
    """
    origin = typing.get_origin(kind)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return made(next(part for part in typing.get_args(kind) if part is not types.NoneType), value)
    if origin in (tuple, Sequence):
        parts = typing.get_args(kind)
        if parts[-1] is Ellipsis or origin is Sequence:
            return tuple(made(parts[0], item) for item in value)
        return tuple(made(part, item) for part, item in zip(parts, value, strict=True))
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        given: Mapping[str, Any] = value
        return kind(**{name: made(hint, given[name]) for name, hint in hints.items() if name in given})
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    resolved = typing.get_type_hints(kind)
    return {each.name: resolved[each.name] for each in fields(kind)}


@cache
def call_types(method: str) -> Mapping[str, Any]:
    """Types of the arguments of a method of ``EnginePort`` by name, and of what it returns as ``return``.

    Empty when there is no such method, or none that another process can call.
    """
    from indexer import history, status_types  # noqa: PLC0415
    from indexer import types as types_module  # noqa: PLC0415 - the port names them for checkers only
    from indexer.folders import registry  # noqa: PLC0415 - the port names them for checkers only

    if method.startswith("_") or method == "connected" or method not in vars(EnginePort):
        return {}
    names = {**vars(types_module), **vars(history), **vars(registry), **vars(status_types)}
    return typing.get_type_hints(getattr(EnginePort, method), localns=names)
