"""The fast way in: ``folder-mcp serve`` becomes a relay before anything else of this program is imported.

Standard library only. Every command line that does not plainly ask for a relay is left to ``cli``.
"""

from __future__ import annotations

import os
import sys

from mcp_server.processes.owner_lock import locate

TYPE_CHECKING = False  # by hand: a relay does without the module ``typing``
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OPTIONS_WITH_VALUE = {"--config": "config", "--data-dir": "data_dir"}


class RelayArguments:
    """A relay's command line.

    Attributes:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        folders: The folders on the command line.
        only: Whether ``--only`` was given.
        verbose: Whether ``-v`` was given.
    """

    __slots__ = ("config", "data_dir", "folders", "only", "verbose")

    def __init__(self) -> None:
        self.config: str | None = None
        self.data_dir: str | None = None
        self.folders: list[str] = []
        self.only = False
        self.verbose = False


def parse_relay_arguments(argv: Sequence[str]) -> RelayArguments | None:
    """Parse a command line that asks for a relay; None when it asks for anything else."""
    found, positional, remaining = RelayArguments(), [], list(argv)
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.partition("=")
        if name in _OPTIONS_WITH_VALUE:
            if not equals:
                if not remaining:
                    return None
                value = remaining.pop(0)
            setattr(found, _OPTIONS_WITH_VALUE[name], value)
        elif word in ("-v", "--verbose"):
            found.verbose = True
        elif word == "--only":
            found.only = True
        elif word.startswith("-"):
            return None
        else:
            positional.append(word)
    if positional and positional[0] == "serve":
        found.folders = positional[1:]
    elif positional and (os.sep in positional[0] or positional[0].startswith(("~", "."))):
        found.folders = positional
    elif positional:
        return None
    if found.only and not found.folders:
        return None
    return found


def absolute_folder(name: str) -> str:
    """Return the absolute path that a folder on a command line means: ``~`` and ``file://`` are understood.

    Raises:
        OSError: It is relative, and the working directory does not exist any more.
    """
    if name.startswith("file://"):
        from urllib.parse import unquote_to_bytes  # noqa: PLC0415 - hardly ever needed

        host, slash, rest = name.removeprefix("file://").partition("/")
        if host in ("", "localhost"):
            name = os.fsdecode(unquote_to_bytes(slash + rest))
    return os.path.abspath(os.path.expanduser(name))


def run_relay(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Become a relay if the command line asks for one; returns when it asks for something else.

    Also returns when there can be no owner: the configuration cannot be read, or there is no private directory for
    the owner's files. ``cli`` then serves in this process, and explains.
    """
    arguments = parse_relay_arguments(argv)
    if arguments is None or sys.stdin is None or sys.stdout is None or sys.stdin.isatty():
        return
    # Not at the top: `folder-mcp --help` comes through this module and needs no sockets and no threads.
    from mcp_server.processes import relay  # noqa: PLC0415

    try:
        location = locate(arguments.config, arguments.data_dir, environ)
        folders = [absolute_folder(folder) for folder in arguments.folders]
        client = relay.Relay.of(location, folders, environ, only=arguments.only, verbose=arguments.verbose)
    except (OSError, ValueError):
        return
    client.run()
