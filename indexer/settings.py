"""What can be set: every key of ``config.toml`` with its default, its check and its explanation.

The dataclasses below are the only list of keys. ``config`` reads files against them; ``config.example.toml`` and
``docs/configuration.md`` are tested against them.
"""

# ``setting`` makes dataclass fields:
# ruff: noqa: RUF009

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

Device = Literal["auto", "cpu", "cuda", "mps"]
Runtime = Literal["auto", "torch", "onnx"]

Check = Callable[[object], object]
"""Takes what TOML gave and returns what the setting holds.

Raises:
    ValueError: The value does not fit; the message says what would, as in ``must be true or false``.
"""

T = TypeVar("T")

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
LOCAL = ("/", "~", "./", "../")
"""How the name of a model in a local directory starts."""


def setting(default: T, check: Check, explanation: str) -> T:
    """A dataclass field that knows how to check a value and what it is for (one line, with its unit)."""
    made: T = field(default=default, metadata={"check": check, "explanation": explanation})
    return made


def number(low: float, high: float) -> Check:
    """Check for a number from ``low`` to ``high``, both included; an integer becomes a float."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return check


def whole(low: int, high: int) -> Check:
    """Check for a whole number from ``low`` to ``high``, both included."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def choice(*allowed: str) -> Check:
    """Check for one of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError("must be one of " + ", ".join(f'"{word}"' for word in allowed))
        return value

    return check


def switch(value: object) -> bool:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def model_name(value: object) -> str:
    """Check for a model: a hub name (``all-MiniLM-L6-v2``, ``BAAI/bge-m3``) or a local directory."""
    if isinstance(value, str) and value.startswith(LOCAL) and "\0" not in value:
        return value
    if not isinstance(value, str) or not _MODEL_NAME.fullmatch(value):
        raise ValueError(
            'must be a model name such as "all-MiniLM-L6-v2" or "BAAI/bge-m3", '
            'or a local directory that starts with "/", "~" or "./"'
        )
    return value


def model_name_or_none(value: object) -> str:
    """Check for a model, or an empty text for none."""
    return "" if value == "" else model_name(value)


def model_names(value: object) -> tuple[str, ...]:
    """Check for a list of models."""
    if not isinstance(value, list):
        raise ValueError('must be a list of model names, such as ["BAAI/bge-m3"]')
    return tuple(model_name(item) for item in value)


def patterns(value: object) -> tuple[str, ...]:
    """Check for a list of patterns in gitignore syntax, one pattern an item."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of patterns in gitignore syntax, such as ["drafts/", "*.log"]')
    for item in value:
        if not item.strip() or item.startswith("!") or "\n" in item or "\0" in item:
            raise ValueError(
                f'has {item!r}; a pattern is one line, not empty, and without a leading "!" '
                "(what exclude leaves out, include takes back in)"
            )
    return tuple(value)


def folder_path(value: object) -> str:
    """Check for a path: text, not empty, no NUL."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError('must be a path, such as "~/Documents"')
    return value


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """One ``[[folders]]`` table."""

    path: str = setting("", folder_path, "The folder to index; relative paths count from the configuration file.")
    model: str | None = setting(None, model_name, "Embedding model of this folder; unset: the default model.")
    include: tuple[str, ...] = setting((), patterns, "Patterns to index although a rule leaves them out.")
    exclude: tuple[str, ...] = setting((), patterns, "Patterns to leave out, relative to this folder.")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The ``[model]`` table."""

    default: str = setting(
        "all-MiniLM-L6-v2", model_name, "Embedding model of folders that name none: a hub name or a local directory."
    )
    device: Device = setting("auto", choice("auto", "cpu", "cuda", "mps"), "Where models run: auto, cpu, cuda or mps.")
    runtime: Runtime = setting(
        "auto",
        choice("auto", "torch", "onnx"),
        "What runs models: auto, torch or onnx; auto is onnx on the CPU and torch on a GPU.",
    )
    allow_remote_code: tuple[str, ...] = setting(
        (), model_names, "Models whose own Python code may run; only for sources you trust."
    )
    offline: bool = setting(False, switch, "Never download a model, use only what is on this machine.")


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """The ``[slot]`` table: the one place in memory where a model lives."""

    keep_warm: float = setting(
        300.0, number(0, 86_400), "Seconds a model stays loaded for the next search after the last one."
    )
    starvation_cap: float = setting(
        600.0, number(0, 86_400), "Seconds a folder waits for another model's warm time at most; 0: no limit."
    )
    allow_cpu_fallback: bool = setting(True, switch, "Load on the CPU when the GPU cannot take the model.")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The ``[search]`` table."""

    wait: float = setting(20.0, number(0.1, 600), "Seconds after which a search answers with what it has.")
    load_wait: float = setting(
        2.0, number(0, 600), "Seconds a search waits for a model that is being loaded, before it answers by word."
    )
    rerank: str = setting(
        "", model_name_or_none, "Reranker that reads the best hits again and orders them anew; empty: none."
    )
    rerank_top: int = setting(20, whole(2, 100), "How many of the best hits the reranker reads.")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The ``[index]`` table."""

    max_file_mb: float = setting(50.0, number(0.001, 4096), "Largest file to index, in MiB (1,048,576 bytes).")
    exclude: tuple[str, ...] = setting((), patterns, "Patterns to leave out of every folder, in gitignore syntax.")
    include: tuple[str, ...] = setting(
        (), patterns, "Patterns to index although a rule leaves them out (hidden, built-in, secret, .gitignore)."
    )
    hidden: bool = setting(False, switch, "Index files and directories whose name starts with a dot.")
    watch: bool = setting(True, switch, "Notice changes as they happen; false: only by the rescan.")
    rescan_minutes: float = setting(
        20.0, number(0, 10_080), "Minutes between full comparisons of folder and index; 0: only at start."
    )
    parser_workers: int = setting(1, whole(1, 64), "Processes that read and cut files.")


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """The ``[owner]`` table: the background process that all clients share."""

    linger: float = setting(
        7200.0, number(0, 604_800), "Seconds it goes on with unfinished indexing after the last client left."
    )
    idle_exit: float = setting(600.0, number(0, 604_800), "Seconds without client and work after which it ends.")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was set, checked; nothing else reads the configuration file or the environment.

    Attributes:
        data_dir: Where index, logs and locks live; absolute, need not exist yet.
        config_file: The file that was read, None when there was none.
        folders: The folders the file names, in its order; paths absolute, not resolved, perhaps missing.
        parser_python: Interpreter for the parser processes (``PYTHON_PATH``), None for the running one.
        hub_cache: Where downloaded models are kept.
    """

    data_dir: Path
    config_file: Path | None = None
    folders: tuple[FolderSettings, ...] = ()
    model: ModelSettings = ModelSettings()
    slot: SlotSettings = SlotSettings()
    search: SearchSettings = SearchSettings()
    index: IndexSettings = IndexSettings()
    owner: OwnerSettings = OwnerSettings()
    parser_python: str | None = None
    hub_cache: Path = Path("~/.cache/huggingface/hub")


TABLES: Mapping[str, type[Any]] = MappingProxyType(
    {
        "model": ModelSettings,
        "slot": SlotSettings,
        "search": SearchSettings,
        "index": IndexSettings,
        "owner": OwnerSettings,
    }
)
"""The plain tables of the file; ``[[folders]]`` (``FolderSettings``) and ``data_dir`` stand beside them."""


def keys(table: type[Any]) -> Mapping[str, Check]:
    """The keys of a table and the check of each."""
    return {each.name: each.metadata["check"] for each in fields(table)}
