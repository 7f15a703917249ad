"""The relay: what a client starts. Carries lines between stdio and the owner, and finds another owner when one ends.

Standard library only. One loop takes events from one queue; threads only wait (for the client, the server, the parent,
a connection) and put events into it.
"""

from __future__ import annotations

import os
import queue
import threading
import time

from mcp_server.processes.attach import Attached, NoOwner, OwnerConnector, OwnerUnresponsive, connector_to
from mcp_server.processes.handshake import (
    HandshakeRefused,
    HandshakeTimeout,
    LineSocket,
    OwnerNotFound,
    handshake_request,
)
from mcp_server.processes.owner_lock import Location, wait_until_released
from mcp_server.processes.relay_calls import Calls
from mcp_server.processes.relay_server import (
    ServerConnection,
    exit_now,
    exit_on_signals,
    exit_with_parent,
    log_to_client,
    own_server,
    owner_server,
)
from mcp_server.processes.spawn import location_arguments, start_server
from mcp_server.protocol.lines import LineBuffer, TooLong, encoded, read_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

CLOSE_GRACE = 0.8
"""Seconds that calls in flight have left when the client has closed its end."""
SLOW = 3.0
"""Seconds without an answer after which the relay probes whether the owner answers at all."""
PROBE = 5.0
"""Seconds that the owner has to answer the probe."""
MAX_CRASHES, CRASH_WINDOW = 5, 60.0
"""After more lost owners than this in so many seconds, the relay starts a server of its own."""


class Relay:
    """One client's relay."""

    def __init__(
        self,
        connector: OwnerConnector,
        request: dict[str, Any],
        own_arguments: Sequence[str],
        environ: Mapping[str, str],
        wire: tuple[int, int] = (0, 1),
    ) -> None:
        """Keep what is needed.

        Args:
            connector: Connects to the owner.
            request: Our half of the handshake.
            own_arguments: Command line of a server of our own, where there is no owner to use.
            environ: The environment of such a server.
            wire: File descriptors that the client writes to and reads from.
        """
        self._connector = connector
        self._request = request
        self._own_arguments = own_arguments
        self._environ = environ
        self._read_fd, self._write_fd = wire
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._calls = Calls()
        self._server: ServerConnection | None = None
        self._next_server: ServerConnection | None = None
        self._replaying = False
        self._unsent: list[bytes] = []
        self._losses: list[float] = []
        self._check_at: float | None = None
        self._end_at: float | None = None

    @classmethod
    def of(
        cls, location: Location, folders: Sequence[str], environ: Mapping[str, str], *, only: bool, verbose: bool
    ) -> Relay:
        """Make the relay of a command line.

        Args:
            location: The configuration and the data directory.
            folders: Absolute paths that this client searches by default.
            environ: The environment.
            only: Whether this client may see nothing else.
            verbose: Whether what it starts logs details to stderr.

        Raises:
            OSError: There is no private directory for the owner's files.
        """
        limit = {"only": True} if only else {}
        request = handshake_request("client", folders=[*folders], config=location.fingerprint, **limit)
        flags = ["--no-daemon", "--only"] if only else ["--no-daemon"]
        own = ["serve", *location_arguments(location, verbose=verbose), *flags, *folders]
        return cls(connector_to(location, environ, verbose=verbose), request, own, environ)

    def run(self) -> NoReturn:
        """Serve until the client leaves; ends the process."""
        exit_on_signals()
        self._start_thread(exit_with_parent, os.getppid())
        self._start_thread(self._read_client)
        self._attach()
        while True:
            times = [at for at in (self._check_at, self._end_at) if at is not None]
            try:
                event = self._events.get(timeout=max(0.0, min(times) - time.monotonic()) if times else None)
            except queue.Empty:
                self._on_timeout()
            else:
                event()
            if self._end_at is not None and not self._calls.open:
                exit_now(0)

    # The client ------------------------------------------------------------------------------------------------

    def _read_client(self) -> None:
        buffer = LineBuffer()
        try:
            while data := os.read(self._read_fd, 65536):
                if lines := buffer.feed(data):
                    self._enqueue(self._on_client_lines, lines)
        except OSError:
            pass
        self._enqueue(self._on_client_lines, buffer.end())
        self._enqueue(self._on_client_left)
        time.sleep(CLOSE_GRACE + 0.1)  # the loop may be blocked in a write to a client that reads nothing
        exit_now(0)

    def _on_client_lines(self, lines: list[bytes | TooLong]) -> None:
        """Pass messages on, those of a batch one by one; whatever is none is answered here."""
        accepted: list[bytes] = []
        for line in lines:
            messages, errors = read_line(line)
            for error in errors:
                self._to_client(encoded(error) + b"\n")
            for message in messages:
                accepted.append(encoded(message) + b"\n")
                self._calls.sent(accepted[-1], message)
        if self._server is None or self._replaying:
            self._unsent.extend(accepted)
        else:
            self._send(b"".join(accepted))

    def _on_client_left(self) -> None:
        self._end_at = time.monotonic() + CLOSE_GRACE

    def _to_client(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._write_fd, view) :]
        except OSError:
            exit_now(0)  # the client closed its end, as clients do

    # The server ------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        self._check_at = None
        self._start_thread(lambda: self._enqueue(self._on_attached, self._connector.attach(self._request)))

    def _on_attached(self, found: Attached | NoOwner | OwnerUnresponsive) -> None:
        if isinstance(found, Attached):
            self._use(owner_server(found.connection, self._received))
            return
        if self._server is not None:  # a server of our own already serves the client
            if isinstance(found, OwnerUnresponsive):
                self._start_thread(self._watch_owner, found.connection)
            return
        if isinstance(found, OwnerUnresponsive):
            log_to_client(f"{found.reason}; searching by word only, in this process, until it answers")
            arguments = [*self._own_arguments, "--read-only", f"--because={found.reason}"]
            self._start_thread(self._watch_owner, found.connection)
        else:
            log_to_client(f"{found.reason}; serving in this process")
            arguments = [*self._own_arguments]
        try:
            self._use(own_server(start_server(arguments, self._environ), self._received))
        except OSError as error:
            for answer in self._calls.unsent(f"no server can be started: {error}"):
                self._to_client(answer)
            exit_now(1)

    def _use(self, server: ServerConnection) -> None:
        """Switch to a new server: at once if there is none, else when nothing is in flight."""
        if self._server is not None and self._calls.open:
            self._next_server = server
            return
        if self._server is not None:
            self._server.close()
        self._server, self._next_server = server, None
        server.start()
        replay = self._calls.replay()
        if replay:
            self._replaying = True
            self._send(replay)
        else:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        self._send(self._calls.listen_requests(unsent) + b"".join(unsent))

    def _send(self, data: bytes) -> None:
        if self._server is None:
            self._unsent.append(data)
            return
        try:
            if data:
                self._server.send(data)
        except OSError:
            self._server.close()  # its thread reports the loss, after the last line that it received
        if self._check_at is None and self._server.is_owner and (self._calls.open or self._replaying):
            self._check_at = time.monotonic() + SLOW

    def _received(self, server: ServerConnection, line: bytes) -> None:
        self._enqueue(self._on_server_line, server, line)

    def _on_server_line(self, server: ServerConnection, line: bytes) -> None:
        if server is not self._server:
            return
        if not line:
            self._on_server_lost(f"the server process ended ({'background' if server.is_owner else 'own'})")
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
            if self._next_server is not None:
                self._use(self._next_server)

    def _on_server_lost(self, reason: str) -> None:
        """Answer or keep the calls in flight, and find another server."""
        self._drop(reason)
        if self._next_server is not None:
            self._use(self._next_server)
            return
        now = time.monotonic()
        self._losses = [at for at in self._losses if now - at < CRASH_WINDOW] + [now]
        if len(self._losses) > MAX_CRASHES:
            self._on_attached(NoOwner(f"the background process ended {len(self._losses)} times within a minute"))
        else:
            self._attach()

    def _drop(self, reason: str) -> None:
        """Drop the server: answer calls that cannot be repeated with an error, keep the others for the next server."""
        server, self._server, self._replaying, self._check_at = self._server, None, False, None
        if server is not None:
            server.close()
        errors, repeated = self._calls.lost(reason, self._unsent)
        self._unsent = [*repeated, *self._unsent]
        for answer in errors:
            self._to_client(answer)

    # An owner that does not answer -----------------------------------------------------------------------------

    def _on_timeout(self) -> None:
        now = time.monotonic()
        if self._end_at is not None and now >= self._end_at:
            exit_now(0)
        if self._check_at is not None and now >= self._check_at and self._server is not None:
            self._check_at = None
            self._start_thread(self._probe, self._server)

    def _probe(self, server: ServerConnection) -> None:
        """Find out whether an owner that is slow answers at all."""
        try:
            connection, _ = self._connector.dial(handshake_request("control"), PROBE)
        except HandshakeTimeout as error:
            self._enqueue(self._on_owner_unresponsive, server, error.connection)
            return
        except (OwnerNotFound, HandshakeRefused):
            pass  # it has ended: its own connection reports that
        else:
            connection.close()
        self._enqueue(self._on_owner_answered, server)

    def _on_owner_answered(self, server: ServerConnection) -> None:
        if server is self._server and self._calls.open:
            self._check_at = time.monotonic() + PROBE

    def _on_owner_unresponsive(self, server: ServerConnection, connection: LineSocket) -> None:
        """Serve from a read-only process of our own until it answers: it is not dead, so it still holds the lock."""
        if server is not self._server:
            connection.close()
            return
        reason = "the background process accepts connections but does not answer"
        self._drop(reason)
        self._on_attached(OwnerUnresponsive(reason, connection))

    def _watch_owner(self, connection: LineSocket | None) -> None:
        """Wait until an unresponsive owner answers or has ended, then attach again."""
        try:
            if connection is None:
                wait_until_released(self._connector.owner_files)
            else:
                connection.receive()
        except (OSError, ValueError):
            pass  # it has ended: attaching finds or starts another
        if connection is not None:
            connection.close()
        self._enqueue(self._attach)

    def _enqueue(self, handle: Callable[..., None], *arguments: Any) -> None:
        self._events.put(lambda: handle(*arguments))

    def _start_thread(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()
