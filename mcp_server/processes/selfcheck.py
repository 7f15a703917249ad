"""Whether an owner is still the one others find, and what it says of itself on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from indexer.config import Config, load_config
from mcp_server.processes import hello
from mcp_server.processes.claim import PROTOCOL, Claim, Place
from mcp_server.processes.location import Location
from mcp_server.state_files import write_state
from mcp_server.version import release


class SelfCheck:
    """One owner's. Everything here touches the disk or dials: call it in a thread.

    Attributes:
        instance: Names this owner, apart from all others there ever were.
    """

    def __init__(self, location: Location, config: Config, place: Place, claim: Claim) -> None:
        self.instance = os.urandom(8).hex()
        self._location = location
        self._config = config
        self._place = place
        self._claim = claim
        self._read_at = _time_of(config.config_file)

    def is_itself(self, endpoint: dict[str, Any] | None = None) -> bool:
        """Whether the lock is ours and whoever dials reaches us.

        Args:
            endpoint: Look there; None looks where the note points.
        """
        if not self._claim.holds():
            return False
        try:
            line, answer = hello.dial(self._place, hello.greeting("check"), 30.0, endpoint)
        except hello.Silent as silent:
            silent.line.close()
            return True  # our own loop is busy: slow, not somebody else
        except (hello.NotThere, hello.Refused):
            return False
        line.close()
        return bool(answer.get("instance") == self.instance)

    def write_note(self, endpoint: dict[str, Any]) -> None:
        """Say where we are."""
        about = {"protocol": PROTOCOL, "instance": self.instance, "pid": os.getpid(), "version": release()}
        write_state(self._place.note, {**about, "endpoint": endpoint, "data_dir": str(self._config.data_dir)})

    def touch(self) -> None:
        """Show our files as used: some systems clear what has lain in temporary directories for days."""
        for path in Path(self._place.directory).iterdir():
            os.utime(path)

    def changed_config(self) -> bool:
        """Whether the configuration says something else since we read it.

        Raises:
            ConfigError: It changed, and is wrong.
        """
        found = _time_of(self._config.config_file)
        if found == self._read_at:
            return False
        self._read_at = found
        return configuration(self._location) != self._config


def configuration(location: Location) -> Config:
    """Read the configuration an owner works by.

    Raises:
        ConfigError: It is wrong.
    """
    file = Path(location.config) if location.config else None
    mine = os.environ  # house: scrubbed by whoever started us
    return load_config(file, data_dir=Path(location.data_dir), environ=mine)


def _time_of(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file is not None else 0
    except OSError:
        return 0
