"""Finds the owner of a data directory: dials it, starts a candidate if there is none, waits, and knows when to stop.

Standard library only; everything here blocks and is called in a thread. There is never a second owner: the process
that holds the lock is the owner, whether it answers or not, and a candidate that does not get the lock leaves.
"""

from __future__ import annotations

import time

from mcp_server.processes import timing
from mcp_server.processes.handshake import (
    HandshakeRefused,
    HandshakeTimeout,
    LineSocket,
    OwnerNotFound,
    dial,
    handshake_request,
)
from mcp_server.processes.owner_lock import (
    Location,
    OwnerFiles,
    is_held,
    is_succession_claimed,
    owner_files_for,
    owner_files_now,
    succession_claimed,
)
from mcp_server.processes.spawn import Candidate, owner_arguments
from mcp_server.state_files import read_state
from mcp_server.version import newer, release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class Attached:
    """A connection to the owner.

    Attributes:
        connection: Ready for the protocol.
        answer: The owner's half of the handshake: ``instance``, ``version``, ``pid``, and ``only`` if it knows limits.
    """

    __slots__ = ("answer", "connection")

    def __init__(self, connection: LineSocket, answer: dict[str, Any]) -> None:
        self.connection = connection
        self.answer = answer


class NoOwner:
    """There is no owner and none can be started: the caller serves its client in a process of its own.

    Attributes:
        reason: Why, one sentence.
    """

    __slots__ = ("reason",)
    holds_lock = False

    def __init__(self, reason: str) -> None:
        self.reason = reason


class OwnerUnresponsive:
    """There is an owner and it does not answer: the caller opens the index for reading, without a model.

    Attributes:
        reason: What is wrong with it, one sentence.
        connection: One that it accepted and may still answer, or None.
    """

    __slots__ = ("connection", "reason")
    holds_lock = True

    def __init__(self, reason: str, connection: LineSocket | None = None) -> None:
        self.reason = reason
        self.connection = connection


class OwnerConnector:
    """Connects one relay or command to the owner of its data directory."""

    def __init__(
        self, owner_files: OwnerFiles, arguments: Sequence[str], environ: Mapping[str, str], version: str
    ) -> None:
        """Keep what is needed.

        Args:
            owner_files: Of the data directory.
            arguments: Of a candidate's command line.
            environ: The environment; the candidate gets the user's part of it.
            version: Of this program.
        """
        self.owner_files = owner_files
        self.version = version
        self._arguments = arguments
        self._environ = environ
        self._stand_down_requested = False

    def attach(
        self, request: dict[str, Any], limit: float = timing.ATTACH_S, *, start: bool = True
    ) -> Attached | NoOwner | OwnerUnresponsive:
        """Connect to the owner.

        Args:
            request: Our half of the handshake.
            limit: Seconds for everything.
            start: Start an owner if there is none; otherwise that is ``NoOwner`` at once.
        """
        found = self._attach(request, limit, start=start)
        if (
            isinstance(found, Attached)
            and not self._stand_down_requested
            and newer(self.version, str(found.answer.get("version")))
        ):
            self._stand_down_requested = True
            found.connection.close()
            with succession_claimed(self.owner_files):
                self._stand_down()
                found = self._attach(request, limit, start=start)
        if isinstance(found, Attached) and request.get("only") and found.answer.get("only") is not True:
            found.connection.close()
            return OwnerUnresponsive(
                f"the background process {self._pid()} is of a version that does not know --only; end it: "
                "folder-mcp stop"
            )
        return found

    def dial(self, request: dict[str, Any], limit: float = timing.ATTACH_S) -> tuple[LineSocket, dict[str, Any]]:
        """Connect to a running owner; see ``handshake.dial``."""
        return dial(self.owner_files, {**request, "version": self.version}, limit)

    def _attach(self, request: dict[str, Any], limit: float, *, start: bool) -> Attached | NoOwner | OwnerUnresponsive:
        deadline, pause, reason = time.monotonic() + limit, 0.01, ""
        latest = deadline + timing.SUCCESSOR_S
        while (left := deadline - time.monotonic()) > 0:
            self.owner_files = owner_files_now(self.owner_files)
            try:
                return Attached(*self.dial(request, left))
            except HandshakeTimeout as error:
                return OwnerUnresponsive(
                    f"the background process {self._pid()} accepts connections but does not answer", error.connection
                )
            except HandshakeRefused as error:
                return OwnerUnresponsive(f"the background process {self._pid()} refuses this one: {error}")
            except OwnerNotFound as error:
                reason = str(error)
            if is_held(self.owner_files):
                if read_state(self.owner_files.state_file).get("endpoint", ...) is None:
                    return OwnerUnresponsive(f"process {self._pid()} has the index for itself")
            elif not start:
                return NoOwner("there is no background process")
            elif self._has_newer_successor():
                deadline = min(latest, time.monotonic() + limit)
            else:
                report = self._start(deadline - time.monotonic())
                if report.startswith("ERROR"):
                    return NoOwner(report.removeprefix("ERROR").strip())
                if report.startswith("READY"):
                    continue
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, 0.25)
        if is_held(self.owner_files):
            return OwnerUnresponsive(f"the background process {self._pid()} is not reachable ({reason})")
        return NoOwner(f"no background process came up within {limit:g} s ({reason})")

    def _start(self, limit: float) -> str:
        """Start a candidate and return its report."""
        try:
            candidate = Candidate(self._arguments, self.owner_files, self._environ)
        except OSError as error:
            return f"ERROR the background process cannot be started: {error}"
        try:
            return candidate.wait(limit)
        finally:
            candidate.detach()

    def _has_newer_successor(self) -> bool:
        """Whether a newer version asked the last owner to stand down, and is about to start the next one."""
        version = str(read_state(self.owner_files.successor_file).get("version"))
        return newer(version, self.version) and is_succession_claimed(self.owner_files)

    def _stand_down(self) -> None:
        """Ask the older owner to end, and wait for that; if it does not end, it is used as it is."""
        try:
            connection, _ = self.dial(handshake_request("control"))
        except (OwnerNotFound, HandshakeTimeout, HandshakeRefused):
            return
        connection.send_and_wait_for_close(
            {"id": 1, "do": "stand_down", "with": {"version": self.version}}, timing.STAND_DOWN_S
        )

    def _pid(self) -> str:
        return str(read_state(self.owner_files.state_file).get("pid", "(unknown)"))


def connector_to(location: Location, environ: Mapping[str, str], *, verbose: bool = False) -> OwnerConnector:
    """Return what connects to the owner of a data directory.

    Raises:
        OSError: There is no private directory for its files.
    """
    owner_files = owner_files_for(location.data_dir)
    return OwnerConnector(owner_files, owner_arguments(location, verbose=verbose), environ, release())
