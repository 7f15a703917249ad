"""What we write into a client's configuration: which command it starts, in the client's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import FolderMcpError

# Errors -------------------------------------------------------------------------------------------------------------
# What can be wrong with a client's configuration file.


class ClientError(FolderMcpError):
    """A client's configuration cannot be changed as asked. Nothing was written."""


class Unparsable(ClientError):
    """The file is not what its client would read.

    Attributes:
        line: 1-based.
        column: 1-based, in characters.
        what: What was met there, without the place.
    """

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.what = what
        self.line = line
        self.column = column


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, 1-based, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


# Documents ----------------------------------------------------------------------------------------------------------
# A configuration as its form's library reads it: mappings in mappings.


def at(document: Any, path: Sequence[str]) -> Any:
    """Return what stands at a path; None when nothing does."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


# Entries ------------------------------------------------------------------------------------------------------------

NAME = "folder-mcp"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_OURS = re.compile(r"folder[-_]mcp|\bmcp_server\b")
ABOUT = "Search your own folders by meaning and by word"


@dataclass(frozen=True, slots=True)
class Launch:
    """What a client starts.

    Attributes:
        command: Absolute path of a program.
        args: Its arguments.
        env: Variables besides those the client passes on, and their values.
        cwd: Working directory; None when the client chooses.
    """

    command: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None


def plain(launch: Launch, name: str) -> dict[str, Any]:
    """The form that Claude Desktop began with."""
    return {"command": launch.command, "args": list(launch.args)}


def typed(launch: Launch, name: str) -> dict[str, Any]:
    """The form of VS Code and Claude Code: with the transport."""
    return {"type": "stdio", **plain(launch, name)}


def codex(launch: Launch, name: str) -> dict[str, Any]:
    """The form of Codex, whose patience of 10 s is short for the first start on a slow disk."""
    return {**plain(launch, name), "startup_timeout_sec": 30}


def goose(launch: Launch, name: str) -> dict[str, Any]:
    """The form of Goose, which calls servers extensions."""
    return {
        "enabled": True,
        "type": "stdio",
        "name": name,
        "description": ABOUT,
        "cmd": launch.command,
        "args": list(launch.args),
        "timeout": 300,
    }


def launch_of(entry: Mapping[str, Any]) -> Launch | None:
    """Return what a client starts for an entry, in any client's form; None when it names no command."""
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


def check_name(name: str) -> str:
    """See that every client takes a name: they make parts of tool names of it.

    Raises:
        ClientError: It has other signs than letters, digits, ``-`` and ``_``, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise ClientError(f"--name {name!r}: take letters, digits, '-' and '_', a letter first, 40 at most")
    return name


def check_words(launch: Launch, expands: re.Pattern[str] | None, title: str) -> None:
    """See that a client starts exactly what is written.

    Raises:
        ClientError: A path is no text, or has a sign that the client takes for a variable.
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
