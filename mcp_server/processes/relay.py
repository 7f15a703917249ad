"""The relay: what a client starts. Carries lines between stdio and the owner, and finds another owner when one ends.

Standard library only, one loop over one queue of events; threads only wait (for the client, the server, the parent,
a connection) and put what they got into the queue.
"""

from __future__ import annotations

import os
import queue
import threading
import time

from mcp_server.processes.attach import Attached, Attachment, NoOwner, OwnerUnresponsive
from mcp_server.processes.handshake import Line, NotThere, Refused, Silent, greeting
from mcp_server.processes.owner_lock import wait_until_free
from mcp_server.processes.relay_calls import Calls
from mcp_server.processes.relay_link import (
    Link,
    leave,
    leave_on_signals,
    leave_with_parent,
    note,
    to_owner,
    to_process,
)
from mcp_server.processes.spawn import server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

LAST_WORDS = 0.8
"""Seconds that calls in flight are given when the client has closed its end."""
SLOW = 3.0
"""Seconds without an answer after which the owner is asked whether it is there."""
PROBE = 5.0
"""Seconds it has for saying so."""
CRASHES, CRASH_WINDOW = 5, 60.0
"""So many owners lost in so many seconds: a process of our own is tried instead."""


class Relay:
    """One client's relay."""

    def __init__(
        self,
        attachment: Attachment,
        hello: dict[str, Any],
        alone: Sequence[str],
        environ: Mapping[str, str],
        wire: tuple[int, int] = (0, 1),
    ) -> None:
        """Keep what is needed.

        Args:
            attachment: Finds the owner.
            hello: What to say to it.
            alone: Words of the command line that serves in a process of its own.
            environ: The environment of such a process.
            wire: File descriptors the client writes to and reads from.
        """
        self._attachment = attachment
        self._hello = hello
        self._alone = alone
        self._environ = environ
        self._read_fd, self._write_fd = wire
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._calls = Calls()
        self._link: Link | None = None
        self._next: Link | None = None
        self._replaying = False
        self._waiting: list[bytes] = []
        self._losses: list[float] = []
        self._check_at: float | None = None
        self._end_at: float | None = None

    def run(self) -> NoReturn:
        """Serve until the client leaves; ends the process."""
        leave_on_signals()
        self._thread(leave_with_parent, os.getppid())
        self._thread(self._read_client)
        self._attach()
        while True:
            times = [at for at in (self._check_at, self._end_at) if at is not None]
            try:
                event = self._events.get(timeout=max(0.0, min(times) - time.monotonic()) if times else None)
            except queue.Empty:
                self._on_time()
            else:
                event()
            if self._end_at is not None and not self._calls.open:
                leave(0)

    # The client ------------------------------------------------------------------------------------------------

    def _read_client(self) -> None:
        pieces: list[bytes] = []
        try:
            while data := os.read(self._read_fd, 65536):
                pieces.append(data)
                if b"\n" in data:
                    whole, last = b"".join(pieces).rsplit(b"\n", 1)
                    self._put(self._from_client, whole + b"\n")
                    pieces = [last]
        except OSError:
            pass
        if rest := b"".join(pieces):
            self._put(self._from_client, rest + b"\n")
        self._put(self._client_left)
        time.sleep(LAST_WORDS + 0.1)  # the loop may be stuck writing to a client that reads nothing
        leave(0)

    def _from_client(self, lines: bytes) -> None:
        each = lines.splitlines(keepends=True)
        for line in each:
            self._calls.sent(line)
        if self._link is None or self._replaying:
            self._waiting.extend(each)
        else:
            self._send(lines)

    def _client_left(self) -> None:
        self._end_at = time.monotonic() + LAST_WORDS

    def _to_client(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._write_fd, view) :]
        except OSError:
            leave(0)  # the client closed its end: an ordinary goodbye

    # The server ------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        self._check_at = None
        self._thread(lambda: self._put(self._attached, self._attachment.attach(self._hello)))

    def _attached(self, found: Attached | NoOwner | OwnerUnresponsive) -> None:
        if isinstance(found, Attached):
            self._use(to_owner(found.line, self._received))
            return
        if (
            isinstance(found, OwnerUnresponsive) and self._link is not None
        ):  # served already, and the owner is still silent
            self._thread(self._watch_owner, found.line)
            return
        if self._link is not None:
            return
        if isinstance(found, OwnerUnresponsive):
            note(f"{found.reason}; searching by word only, in this process, until it answers")
            words = [*self._alone, "--read-only", f"--because={found.reason}"]
            self._thread(self._watch_owner, found.line)
        else:
            note(f"{found.reason}; serving in this process")
            words = [*self._alone]
        try:
            self._use(to_process(server(words, self._environ), self._received))
        except OSError as error:
            for answer in self._calls.unsent(f"no server can be started: {error}"):
                self._to_client(answer)
            leave(1)

    def _use(self, link: Link) -> None:
        """Go over to a new server: at once if there is none, else when nothing is in flight."""
        if self._link is not None and self._calls.open:
            self._next = link
            return
        if self._link is not None:
            self._link.close()
        self._link, self._next = link, None
        link.start()
        replay = self._calls.replay()
        if replay:
            self._replaying = True
            self._send(replay)
        else:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._send(self._calls.listening(waiting) + b"".join(waiting))

    def _send(self, data: bytes) -> None:
        if self._link is None:
            self._waiting.append(data)
            return
        try:
            if data:
                self._link.send(data)
        except OSError:
            self._link.close()  # its thread reports the loss, after whatever it still had to say
        if self._check_at is None and self._link.owner and (self._calls.open or self._replaying):
            self._check_at = time.monotonic() + SLOW

    def _received(self, link: Link, line: bytes) -> None:
        self._put(self._from_server, link, line)

    def _from_server(self, link: Link, line: bytes) -> None:
        if link is not self._link:
            return
        if not line:
            self._lost(f"the server process ended ({'background' if link.owner else 'own'})")
            return
        if self._replaying and self._calls.is_replay(line):
            self._replaying = False
            self._send(self._calls.after_replay())
            self._flush()
            return
        if self._calls.received(line):
            self._to_client(line)
        if not self._calls.open:
            self._check_at = None
            if self._next is not None:
                self._use(self._next)

    def _lost(self, reason: str) -> None:
        """Answer or keep what was in flight, and find another server."""
        self._drop(reason)
        if self._next is not None:
            self._use(self._next)
            return
        now = time.monotonic()
        self._losses = [at for at in self._losses if now - at < CRASH_WINDOW] + [now]
        if len(self._losses) > CRASHES:
            self._attached(NoOwner(f"the background process ended {len(self._losses)} times within a minute"))
        else:
            self._attach()

    def _drop(self, reason: str) -> None:
        """Let go of the server: answer what cannot be asked again, keep the rest for the next one."""
        link, self._link, self._replaying, self._check_at = self._link, None, False, None
        if link is not None:
            link.close()
        errors, again = self._calls.lost(reason, self._waiting)
        self._waiting = [*again, *self._waiting]
        for answer in errors:
            self._to_client(answer)

    # Silence ---------------------------------------------------------------------------------------------------

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._end_at is not None and now >= self._end_at:
            leave(0)
        if self._check_at is not None and now >= self._check_at and self._link is not None:
            self._check_at = None
            self._thread(self._probe, self._link)

    def _probe(self, link: Link) -> None:
        """Ask an owner that is slow whether it is there at all."""
        try:
            line, _ = self._attachment.dial(greeting("control"), PROBE)
        except Silent as silent:
            self._put(self._owner_is_silent, link, silent.line)
            return
        except (NotThere, Refused):
            pass  # its connection will tell
        else:
            line.close()
        self._put(self._owner_is_there, link)

    def _owner_is_there(self, link: Link) -> None:
        if link is self._link and self._calls.open:
            self._check_at = time.monotonic() + PROBE

    def _owner_is_silent(self, link: Link, line: Line) -> None:
        """Not dead: nobody takes its place. Read beside it until it answers."""
        if link is not self._link:
            line.close()
            return
        reason = "the background process accepts connections but does not answer"
        self._drop(reason)
        self._attached(OwnerUnresponsive(reason, line))

    def _watch_owner(self, line: Line | None) -> None:
        """Wait until a silent owner answers or is gone, then attach again."""
        try:
            if line is None:
                wait_until_free(self._attachment.place)
            else:
                line.receive()
        except (OSError, ValueError):
            pass  # it is gone: attaching finds or starts another
        if line is not None:
            line.close()
        self._put(self._attach)

    def _put(self, event: Callable[..., None], *given: Any) -> None:
        self._events.put(lambda: event(*given))

    def _thread(self, work: Callable[..., None], *given: Any) -> None:
        threading.Thread(target=work, args=given, daemon=True).start()
