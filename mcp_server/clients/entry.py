"""Our entry in a client's configuration: the command that the client starts, in the client's own format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import FolderMcpError


class ClientError(FolderMcpError):
    """A client's configuration cannot be changed as asked. Nothing was written."""


class Unparsable(ClientError):
    """The file is not in the format of its client.

    Attributes:
        line: 1-based.
        column: 1-based, in characters.
        what: What is wrong there, without line and column.
    """

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.what = what
        self.line = line
        self.column = column


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, 1-based, of an offset in a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def value_at(document: Any, path: Sequence[str]) -> Any:
    """Return the value at a path of keys in nested mappings; None when there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


NAME = "folder-mcp"
ONLY = "--only"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_OURS = re.compile(r"folder[-_]mcp|\bmcp_server\b")
DESCRIPTION = "Search your own folders by meaning and by word"


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that a client starts.

    Attributes:
        command: Absolute path of a program.
        args: Its arguments.
        env: Variables besides those that the client passes on, and their values.
        cwd: Working directory; None when the client chooses.
    """

    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None


def plain_entry(launch: Launch, name: str) -> dict[str, Any]:
    """The format that Claude Desktop introduced."""
    return {"command": launch.command, "args": list(launch.args)}


def typed_entry(launch: Launch, name: str) -> dict[str, Any]:
    """The format of VS Code and Claude Code: with the transport."""
    return {"type": "stdio", **plain_entry(launch, name)}


def codex_entry(launch: Launch, name: str) -> dict[str, Any]:
    """The format of Codex, whose limit of 10 s is short for the first start on a slow disk."""
    return {**plain_entry(launch, name), "startup_timeout_sec": 30}


def goose_entry(launch: Launch, name: str) -> dict[str, Any]:
    """The format of Goose, which calls servers extensions."""
    return {
        "enabled": True,
        "type": "stdio",
        "name": name,
        "description": DESCRIPTION,
        "cmd": launch.command,
        "args": list(launch.args),
        "timeout": 300,
    }


def launch_of(entry: Mapping[str, Any]) -> Launch | None:
    """Return the command of an entry in any client's format; None when it has no command."""
    command: Any = entry.get("command", entry.get("cmd"))
    args: Any = entry.get("args") or []
    env: Any = entry.get("env", entry.get("envs")) or {}
    if isinstance(command, Mapping):  # Zed until 2025: {"command": {"path": ..., "args": [...]}}
        command, args, env = command.get("path"), command.get("args") or [], command.get("env") or {}
    if not isinstance(command, str) or not isinstance(args, Sequence) or not isinstance(env, Mapping):
        return None
    cwd = entry.get("cwd")
    named = tuple((str(key), str(value)) for key, value in env.items())
    return Launch(command, tuple(map(str, args)), named, cwd if isinstance(cwd, str) else None)


def is_ours(entry: Any) -> bool:
    """Whether an entry starts this program."""
    launch = launch_of(entry) if isinstance(entry, Mapping) else None
    return bool(launch and any(_OURS.search(word) for word in (Path(launch.command).name, *launch.args)))


def folders_of(launch: Launch) -> tuple[str, ...]:
    """Return the folders an entry of ours names."""
    if "serve" not in launch.args:
        return ()
    words = launch.args[launch.args.index("serve") + 1 :]
    return tuple(word for word in words if not word.startswith("-"))


def limits_of(launch: Launch) -> tuple[str, ...]:
    """Return the word of an entry of ours that makes its folders all that the client sees, or nothing."""
    return tuple(word for word in launch.args if word == ONLY)


def check_name(name: str) -> str:
    """Check that every client accepts a name for the entry: clients make it a part of tool names.

    Raises:
        ClientError: It has other characters than letters, digits, ``-`` and ``_``, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise ClientError(f"--name {name!r}: take letters, digits, '-' and '_', a letter first, 40 at most")
    return name


def check_arguments(launch: Launch, expands: re.Pattern[str] | None, title: str) -> None:
    """Check that a client starts exactly the command that is written.

    Raises:
        ClientError: A path is no text, or contains what the client would expand as a variable.
    """
    for word in (launch.command, *launch.args):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise ClientError(f"{word!r} cannot be written as text; rename it") from None
        if expands and expands.search(word):
            raise ClientError(
                f"{title} would take '$' in {word!r} for a variable; give the folder another name, or add it by "
                "folder-mcp folders add, and leave it out here"
            )
