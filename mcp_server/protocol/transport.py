"""The server on stdin and stdout, as clients start it: ends within two seconds whatever happens.

What the SDK's own runner lacks: an end on SIGINT, a clean end on SIGTERM, an end while worker threads are busy, an
end when the parent dies without closing the pipe.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from typing import Any, NoReturn, cast

import anyio
from anyio.lowlevel import EventLoopToken, current_token
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCRequest

from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.wire import Wire

log = logging.getLogger(__name__)


GRACE = 1.5
"""Seconds from the end of the conversation to the end of the process; hosts send SIGTERM after 2."""


class Ending:
    """The one way out: an exit code, and a clock that no busy thread can stop."""

    def __init__(self) -> None:
        self.code = 0
        self._armed = False

    def begin(self, code: int = 0) -> None:
        """The process ends at most ``GRACE`` seconds from now; the first call decides the code."""
        if self._armed:
            return
        self._armed, self.code = True, code
        clock = threading.Timer(GRACE, leave, (code,))
        clock.daemon = True
        clock.start()


def leave(code: int) -> NoReturn:
    """End the process now, without waiting for threads; finished work is already on the disk."""
    logging.shutdown()
    os._exit(code)


class Lines:
    """The client's lines, read by a thread that may block for ever without holding anything up."""

    def __init__(self, fd: int, ended: Callable[[], None]) -> None:
        self._fd = fd
        self._ended = ended
        # Without a bound: a line handed over never waits, so no task of the thread's is left when the loop closes.
        self._send, self._receive = anyio.create_memory_object_stream[str](math.inf)

    def __aiter__(self) -> AsyncIterator[str]:
        thread = threading.Thread(target=self._pump, args=(current_token(),), name="stdin", daemon=True)
        thread.start()
        return self._receive.__aiter__()

    def _pump(self, token: EventLoopToken) -> None:
        try:
            with os.fdopen(self._fd, encoding="utf-8", errors="replace", newline="\n") as stream:
                for line in stream:
                    anyio.from_thread.run_sync(self._send.send_nowait, line, token=token)
        except OSError as error:
            log.warning("stdin: %s", error)
        except (RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError, CancelledError):
            return  # the conversation is over
        self._ended()
        try:
            anyio.from_thread.run_sync(self._send.close, token=token)
        except RuntimeError:
            return


class Out:
    """Lines to the client. Writing has a thread of its own: no amount of other work can starve it."""

    def __init__(self, fd: int, answered: Callable[[], None]) -> None:
        self._fd = fd
        self._answered = answered
        self._limit = anyio.CapacityLimiter(1)
        self._pending: list[str] = []

    async def write(self, text: str) -> None:
        """Keep ``text`` for the next ``flush``."""
        self._pending.append(text)

    async def flush(self) -> None:
        """Write everything kept."""
        data = "".join(self._pending).encode("utf-8", errors="replace")
        self._pending.clear()
        await anyio.to_thread.run_sync(_write_all, self._fd, data, abandon_on_cancel=True, limiter=self._limit)
        self._answered()


def serve(server: MCPServer[ConnectionContext], wire: Wire, answered: anyio.Event) -> int:
    """Serve the client on the wire until it leaves, a signal comes, or the parent dies.

    Args:
        server: What ``create_server`` built.
        wire: What ``claim_wire`` claimed.
        answered: Is set when the first message has been answered.

    Returns:
        The exit code. The caller ends the process with ``leave`` at once.
    """
    ending = Ending()
    try:
        anyio.run(_run, server, wire, answered, ending)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.split(BrokenPipeError)[1] is None:
            return 0  # the client closed its end: an ordinary goodbye
        log.exception("the server ended")
        return ending.code or 1
    return ending.code


async def _run(server: MCPServer[ConnectionContext], wire: Wire, answered: anyio.Event, ending: Ending) -> None:
    low = server._lowlevel_server
    lines, out = Lines(wire.read, ending.begin), Out(wire.write, answered.set)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_on_signal, ending, group.cancel_scope)
            group.start_soon(_on_orphaned, wire.parent, ending, group.cancel_scope)
            async with (
                stdio_server(stdin=cast(Any, lines), stdout=cast(Any, out)) as (incoming, outgoing),
                low.lifespan(low) as context,
            ):
                await converse(low, incoming, outgoing, context)
                ending.begin()
            group.cancel_scope.cancel()
    finally:
        ending.begin(1)


async def _on_signal(ending: Ending, scope: anyio.CancelScope) -> None:
    """End at the first signal: quietly for SIGTERM, with its number for the others."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            log.info("ends on %s", number.name)
            ending.begin(0 if number == signal.SIGTERM else 128 + number)
            scope.cancel()
            return


async def _on_orphaned(parent: int, ending: Ending, scope: anyio.CancelScope) -> None:
    """End when the parent process is gone: a pipe that some other process also holds never says so."""
    await _gone(parent)
    log.info("ends: its parent process %d is gone", parent)
    ending.begin()
    scope.cancel()


async def _gone(parent: int) -> None:
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(parent)
        except ProcessLookupError:
            return
        except OSError as error:  # a kernel before 5.3, or a sandbox without the call
            log.debug("no pidfd: %s", error)
        else:
            try:
                await anyio.wait_readable(descriptor)
            finally:
                os.close(descriptor)
            return
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells this elsewhere; the cost is one system call a second
        await anyio.sleep(1)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# One client's conversation ------------------------------------------------------------------------------------------
# One client's conversation over a pair of message streams, whichever protocol era it speaks.
#
# The SDK locks a connection to the era of its first request. Clients probe with ``server/discover`` (2026-07-28)
# and, when the answer does not come within a second or two, go on with ``initialize`` (2025-11-25 and before),
# which a locked connection refuses. So probes are answered apart, and the first other request decides.

Incoming = Any  # the SDK's ReadStream[SessionMessage | Exception]; its protocols are private
Outgoing = Any  # the SDK's WriteStream[SessionMessage]
Message = SessionMessage | Exception


async def converse(server: Server[Any], incoming: Incoming, outgoing: Outgoing, context: object) -> None:
    """Serve one connection until its client leaves.

    Args:
        server: The low-level server.
        incoming: Messages from the client; closed when this returns.
        outgoing: Messages to the client; closed when this returns.
        context: What the lifespan yields.
    """
    async with incoming, outgoing:
        begun = await _after_probes(server, incoming, outgoing, context)
        send, receive = anyio.create_memory_object_stream[Message](0)

        async def relay() -> None:
            async with send:
                for message in begun:
                    await send.send(message)
                async for message in incoming:
                    await send.send(message)

        async with anyio.create_task_group() as group:
            group.start_soon(relay)
            await serve_dual_era_loop(
                server, receive, outgoing, lifespan_state=context, init_options=server.create_initialization_options()
            )
            group.cancel_scope.cancel()


async def _after_probes(server: Server[Any], incoming: Incoming, outgoing: Outgoing, context: object) -> list[Message]:
    """Answer probes until another request comes; return that and what came before it."""
    begun: list[Message] = []
    async for item in incoming:
        message = getattr(item, "message", None)
        if isinstance(message, JSONRPCRequest) and message.method == "server/discover":
            await _answer_probe(server, item, outgoing, context)
            continue
        begun.append(item)
        if isinstance(message, JSONRPCRequest):
            break
    return begun


async def _answer_probe(server: Server[Any], probe: SessionMessage, outgoing: Outgoing, context: object) -> None:
    """Answer one ``server/discover`` on a connection of its own."""
    ask, asked = anyio.create_memory_object_stream[Message](1)
    tell, told = anyio.create_memory_object_stream[SessionMessage](1)

    async def serve() -> None:
        await serve_dual_era_loop(server, asked, tell, lifespan_state=context)

    async with ask, told, anyio.create_task_group() as group:
        group.start_soon(serve)
        await ask.send(probe)
        await outgoing.send(await told.receive())
        group.cancel_scope.cancel()
