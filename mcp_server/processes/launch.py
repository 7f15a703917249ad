"""The fast way in: ``folder-mcp serve`` becomes a relay before anything else of this program is imported.

Standard library only. Whatever is not plainly a relay's command line is left to ``cli``.
"""

from __future__ import annotations

import os
import sys

from mcp_server.processes.owner_lock import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server.processes.attach import Attachment
    from mcp_server.processes.owner_lock import Location

_VALUED = {"--config": "config", "--data-dir": "data_dir"}


class Words:
    """A relay's command line.

    Attributes:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        folders: The folders it names.
        verbose: Whether ``-v`` was given.
    """

    __slots__ = ("config", "data_dir", "folders", "verbose")

    def __init__(self) -> None:
        self.config: str | None = None
        self.data_dir: str | None = None
        self.folders: list[str] = []
        self.verbose = False


def words_of(argv: Sequence[str]) -> Words | None:
    """Read a command line that asks for a relay; None when it asks for anything else."""
    found, rest, left = Words(), [], list(argv)
    while left:
        word = left.pop(0)
        name, given, value = word.partition("=")
        if name in _VALUED:
            if not given:
                if not left:
                    return None
                value = left.pop(0)
            setattr(found, _VALUED[name], value)
        elif word in ("-v", "--verbose"):
            found.verbose = True
        elif word.startswith("-"):
            return None
        else:
            rest.append(word)
    if rest and rest[0] == "serve":
        found.folders = rest[1:]
    elif rest and (os.sep in rest[0] or rest[0].startswith(("~", "."))):
        found.folders = rest
    elif rest:
        return None
    return found


def run_relay(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Become a relay if the command line asks for one; returns when it asks for something else.

    Also returns when there can be no owner: the configuration cannot be read, or no private directory can be had.
    ``cli`` then serves in this process, and explains.
    """
    words = words_of(argv)
    if words is None or sys.stdin is None or sys.stdin.isatty():
        return
    try:
        location = locate(words.config, words.data_dir, environ)
        attachment = attachment_to(location, environ, verbose=words.verbose)
    except (OSError, ValueError):
        return
    from mcp_server.processes.handshake import greeting  # noqa: PLC0415
    from mcp_server.processes.relay import Relay  # noqa: PLC0415

    folders = [os.path.abspath(os.path.expanduser(folder)) for folder in words.folders]
    hello = greeting("client", folders=folders, config=location.fingerprint)
    alone = ["serve", *_flags(location, verbose=words.verbose), "--no-daemon", *folders]
    Relay(attachment, hello, alone, environ).run()


def attachment_to(location: Location, environ: Mapping[str, str], *, verbose: bool = False) -> Attachment:
    """Return how to reach the owner of a data directory.

    Raises:
        OSError: There is no private directory for it.
    """
    from mcp_server.processes.attach import Attachment  # noqa: PLC0415
    from mcp_server.processes.owner_lock import place_of  # noqa: PLC0415
    from mcp_server.version import release  # noqa: PLC0415

    return Attachment(place_of(location.data_dir), owner_words(location, verbose=verbose), environ, release())


def owner_words(location: Location, *, verbose: bool) -> list[str]:
    """Return the words of the command line that starts an owner."""
    return ["owner", *_flags(location, verbose=verbose)]


def _flags(location: Location, *, verbose: bool) -> list[str]:
    named = ["--config", location.config] if location.config else []
    return [*named, "--data-dir", location.data_dir, *(["--verbose"] if verbose else [])]
