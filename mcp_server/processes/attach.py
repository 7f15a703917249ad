"""From "there should be an owner" to a connection to it: dial, start a candidate, wait, and know when to stop.

Standard library only; everything here blocks and is called in a thread. There is never a second owner: whoever holds
the lock is the owner, answering or not, and a candidate that does not get the lock leaves.
"""

from __future__ import annotations

import time

from mcp_server.processes import timing
from mcp_server.processes.handshake import Line, NotThere, Refused, Silent, dial, greeting
from mcp_server.processes.owner_lock import Place, held
from mcp_server.processes.spawn import Candidate
from mcp_server.state_files import read_state
from mcp_server.version import newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class Attached:
    """A connection to the owner.

    Attributes:
        line: Ready for the protocol.
        answer: What the owner said of itself: ``instance``, ``version``, ``pid``.
    """

    __slots__ = ("answer", "line")

    def __init__(self, line: Line, answer: dict[str, Any]) -> None:
        self.line = line
        self.answer = answer


class NoOwner:
    """There is no owner and none can be started: serve in a process of one's own.

    Attributes:
        reason: Why, one sentence.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class OwnerUnresponsive:
    """There is an owner and it does not answer: read beside it, without a model.

    Attributes:
        reason: What is the matter with it, one sentence.
        line: A connection that it accepted and may still answer, or None.
    """

    __slots__ = ("line", "reason")

    def __init__(self, reason: str, line: Line | None = None) -> None:
        self.reason = reason
        self.line = line


class Attachment:
    """How one relay or command finds its owner."""

    def __init__(self, place: Place, words: Sequence[str], environ: Mapping[str, str], version: str) -> None:
        """Keep what is needed.

        Args:
            place: Of the data directory.
            words: Command line of a candidate, without the program.
            environ: The environment, of which the candidate gets what is the user's.
            version: Ours.
        """
        self.place = place
        self.version = version
        self._words = words
        self._environ = environ
        self._asked = False

    def attach(
        self, hello: dict[str, Any], patience: float = timing.ATTACH_S, *, start: bool = True
    ) -> Attached | NoOwner | OwnerUnresponsive:
        """Connect to the owner.

        Args:
            hello: What to say to it.
            patience: Seconds for everything.
            start: Start one if there is none; else that is ``Alone`` at once.
        """
        found = self._attach(hello, patience, start=start)
        if isinstance(found, Attached) and not self._asked and newer(self.version, str(found.answer.get("version"))):
            self._asked = True
            found.line.close()
            self._stand_down()
            return self._attach(hello, patience, start=start)
        return found

    def dial(self, hello: dict[str, Any], limit: float = timing.ATTACH_S) -> tuple[Line, dict[str, Any]]:
        """Connect to a running owner; see ``hello.dial``."""
        return dial(self.place, {**hello, "version": self.version}, limit)

    def _attach(
        self, hello: dict[str, Any], patience: float, *, start: bool
    ) -> Attached | NoOwner | OwnerUnresponsive:
        until, pause, reason = time.monotonic() + patience, 0.01, ""
        while (left := until - time.monotonic()) > 0:
            try:
                return Attached(*self.dial(hello, left))
            except Silent as silent:
                return OwnerUnresponsive(
                    f"the background process {self._pid()} accepts connections but does not answer", silent.line
                )
            except Refused as refused:
                return OwnerUnresponsive(f"the background process {self._pid()} refuses this one: {refused}")
            except NotThere as missing:
                reason = str(missing)
            if held(self.place):
                if read_state(self.place.note).get("endpoint", ...) is None:
                    return OwnerUnresponsive(f"process {self._pid()} has the index for itself")
            elif not start:
                return NoOwner("there is no background process")
            elif self._may_start():
                said = self._start(until - time.monotonic())
                if said.startswith("ERROR"):
                    return NoOwner(said.removeprefix("ERROR").strip())
                if said.startswith("READY"):
                    continue
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(pause * 2, 0.25)
        if held(self.place):
            return OwnerUnresponsive(f"the background process {self._pid()} is not reachable ({reason})")
        return NoOwner(f"no background process came up within {patience:g} s ({reason})")

    def _start(self, limit: float) -> str:
        """Start a candidate and return what it said."""
        try:
            candidate = Candidate(self._words, self.place, self._environ)
        except OSError as error:
            return f"ERROR the background process cannot be started: {error}"
        try:
            return candidate.wait(limit)
        finally:
            candidate.forget()

    def _may_start(self) -> bool:
        """Whether it is our turn: the version that asked the last owner to stand down goes first."""
        heir = read_state(self.place.heir)
        try:
            fresh = time.time() - float(heir.get("at", 0.0)) < timing.SUCCESSOR_S
        except (TypeError, ValueError):
            return True
        return not (fresh and newer(str(heir.get("version")), self.version))

    def _stand_down(self) -> None:
        """Ask the older owner to make room, and wait for its end; if it stays, it stays."""
        try:
            line, _ = self.dial(greeting("control"))
        except (NotThere, Silent, Refused):
            return
        line.ended_after({"id": 1, "do": "stand_down", "with": {"version": self.version}}, timing.STAND_DOWN_S)

    def _pid(self) -> str:
        return str(read_state(self.place.note).get("pid", "(unknown)"))
