"""The server on stdin and stdout, as clients start it; its process ends within two seconds whatever happens.

Adds to the SDK's own runner: an end on SIGINT, a clean end on SIGTERM, an end while worker threads are busy, an end
when the parent dies without closing the pipe.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any, NoReturn

import anyio
from anyio.lowlevel import EventLoopToken, current_token
from mcp.server import MCPServer
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage, JSONRPCRequest, jsonrpc_message_adapter
from pydantic_core import PydanticSerializationError

from mcp_server.engine_port import ConnectionContext
from mcp_server.protocol.lines import LineBuffer, TooLong, encoded, read_line, repaired
from mcp_server.protocol.wire import Wire

log = logging.getLogger(__name__)


GRACE = 1.5
"""Seconds from the end of the connection to the end of the process; clients send SIGTERM after 2."""


class ProcessExit:
    """How this process ends: an exit code, and a timer that no busy thread can stop."""

    def __init__(self) -> None:
        self.code = 0
        self._begun = False

    def begin(self, code: int = 0) -> None:
        """The process ends at most ``GRACE`` seconds from now; the first call decides the code."""
        if self._begun:
            return
        self._begun, self.code = True, code
        timer = threading.Timer(GRACE, leave, (code,))
        timer.daemon = True
        timer.start()


def leave(code: int) -> NoReturn:
    """End the process now, without waiting for threads; finished work is already on the disk."""
    logging.shutdown()
    os._exit(code)


class StdinLines:
    """The client's lines, read by a thread of its own: a blocked read delays nothing else."""

    def __init__(self, fd: int, ended: Callable[[], None]) -> None:
        self._fd = fd
        self._ended = ended
        # Unbounded: the thread never waits for the receiver, so none of its calls is pending when the loop closes.
        self._send, self._receive = anyio.create_memory_object_stream[bytes | TooLong](math.inf)

    def __aiter__(self) -> AsyncIterator[bytes | TooLong]:
        thread = threading.Thread(target=self._pump, args=(current_token(),), name="stdin", daemon=True)
        thread.start()
        return self._receive.__aiter__()

    def _pump(self, token: EventLoopToken) -> None:
        def pass_on(lines: list[bytes | TooLong]) -> None:
            for line in lines:
                anyio.from_thread.run_sync(self._send.send_nowait, line, token=token)

        buffer = LineBuffer()
        try:
            while data := os.read(self._fd, 65536):
                pass_on(buffer.feed(data))
            pass_on(buffer.end())
        except OSError as error:
            log.warning("stdin: %s", error)
        except (RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError, CancelledError):
            return  # the connection has ended
        self._ended()
        try:
            anyio.from_thread.run_sync(self._send.close, token=token)
        except RuntimeError:
            return


class StdoutWriter:
    """Lines to the client, written in a thread of their own limiter: other work cannot starve it."""

    def __init__(self, fd: int, answered: Callable[[], None]) -> None:
        self._fd = fd
        self._answered = answered
        self._limit = anyio.CapacityLimiter(1)

    async def write(self, line: bytes) -> None:
        """Write one line, given without its end."""
        await anyio.to_thread.run_sync(_write_all, self._fd, line + b"\n", abandon_on_cancel=True, limiter=self._limit)
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
    ending = ProcessExit()
    try:
        anyio.run(_run, server, wire, answered, ending)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException as error:
        if isinstance(error, BaseExceptionGroup) and error.split(BrokenPipeError)[1] is None:
            return 0  # the client closed its end, as clients do
        log.exception("the server ended")
        return ending.code or 1
    return ending.code


async def _run(server: MCPServer[ConnectionContext], wire: Wire, answered: anyio.Event, ending: ProcessExit) -> None:
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_exit_on_signal, ending, group.cancel_scope)
            group.start_soon(_exit_with_parent, wire.parent, ending, group.cancel_scope)
            await serve_wire(server._lowlevel_server, wire, ended=ending.begin, answered=answered.set)
            ending.begin()
            group.cancel_scope.cancel()
    finally:
        ending.begin(1)


async def serve_wire(
    server: Server[Any], wire: Wire, *, ended: Callable[[], None], answered: Callable[[], None]
) -> None:
    """Serve the client on the wire until it leaves.

    Args:
        server: The low-level server; its lifespan is entered.
        wire: Where the client writes and reads.
        ended: Called, from another thread, when the client has closed its end.
        answered: Called after each line that was written.
    """
    lines, out = StdinLines(wire.read, ended), StdoutWriter(wire.write, answered)
    async with server.lifespan(server) as context:
        await serve_lines(server, lines, out.write, context)


async def _exit_on_signal(ending: ProcessExit, scope: anyio.CancelScope) -> None:
    """End at the first signal: quietly for SIGTERM, with its number for the others."""
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            log.info("ends on %s", number.name)
            ending.begin(0 if number == signal.SIGTERM else 128 + number)
            scope.cancel()
            return


async def _exit_with_parent(parent: int, ending: ProcessExit, scope: anyio.CancelScope) -> None:
    """End when the parent process has ended: a pipe that another process also holds open never tells."""
    await _wait_for_exit(parent)
    log.info("ends: its parent process %d is gone", parent)
    ending.begin()
    scope.cancel()


async def _wait_for_exit(parent: int) -> None:
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


# One connection -----------------------------------------------------------------------------------------------------
# A pair of message streams, in either protocol era.
#
# The SDK locks a connection to the era of its first request. Clients probe with ``server/discover`` (2026-07-28)
# and, when the answer does not come within a second or two, go on with ``initialize`` (2025-11-25 and before),
# which a locked connection refuses. So probes are answered separately, and the first other request decides.

Incoming = Any  # the SDK's ReadStream[SessionMessage | Exception]; its protocols are private
Outgoing = Any  # the SDK's WriteStream[SessionMessage]
Message = SessionMessage
LONG_LINE = 65536
"""Bytes beyond which a line is parsed in a thread; 64 KiB take a millisecond."""
MAX_EARLY = 100
"""Messages before the first request that are kept: a notification or two in practice."""


async def serve_lines(
    server: Server[Any],
    lines: AsyncIterable[bytes | TooLong],
    write: Callable[[bytes], Awaitable[None]],
    context: object,
    *,
    received: Callable[[JSONRPCMessage], None] = lambda _: None,
    sent: Callable[[JSONRPCMessage], None] = lambda _: None,
) -> None:
    """Serve one client that sends lines, until they end. Whatever is no message is answered with an error.

    Args:
        server: The low-level server.
        lines: From the client.
        write: Sends one line, given without its end, to the client.
        context: What the lifespan yields.
        received: Called with each message before the server gets it.
        sent: Called with each message of the server when it has been written.
    """
    to_server, incoming = anyio.create_memory_object_stream[Message](0)
    outgoing, to_client = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_server:
            async for line in lines:
                if isinstance(line, bytes) and len(line) > LONG_LINE:
                    messages, errors = await anyio.to_thread.run_sync(messages_in, line)
                else:
                    messages, errors = messages_in(line)
                for error in errors:
                    await write(error)
                for message in messages:
                    received(message.message)
                    await to_server.send(message)

    async def answer() -> None:
        async with to_client:
            async for item in to_client:
                await write(line_of(item))
                sent(item.message)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(answer)
        await serve_connection(server, incoming, outgoing, context)
        group.cancel_scope.cancel()


def messages_in(line: bytes | TooLong) -> tuple[list[SessionMessage], list[bytes]]:
    """Return the messages of a client's line, and the lines that answer what is none."""
    messages, errors = read_line(line)
    found = [SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False)) for message in messages]
    return found, [encoded(error) for error in errors]


def line_of(item: SessionMessage) -> bytes:
    """Return a message to the client as one line without its end."""
    try:
        return item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except PydanticSerializationError:  # text that is no Unicode
        return encoded(repaired(item.message.model_dump(by_alias=True, exclude_unset=True)))


async def serve_connection(server: Server[Any], incoming: Incoming, outgoing: Outgoing, context: object) -> None:
    """Serve one connection until its client leaves.

    Args:
        server: The low-level server.
        incoming: Messages from the client; closed when this returns.
        outgoing: Messages to the client; closed when this returns.
        context: What the lifespan yields.
    """
    async with incoming, outgoing:
        first_messages = await _answer_probes(server, incoming, outgoing, context)
        send, receive = anyio.create_memory_object_stream[Message](0)

        async def forward() -> None:
            async with send:
                for message in first_messages:
                    await send.send(message)
                async for message in incoming:
                    await send.send(message)

        async with anyio.create_task_group() as group:
            group.start_soon(forward)
            await serve_dual_era_loop(
                server, receive, outgoing, lifespan_state=context, init_options=server.create_initialization_options()
            )
            group.cancel_scope.cancel()


async def _answer_probes(
    server: Server[Any], incoming: Incoming, outgoing: Outgoing, context: object
) -> list[Message]:
    """Answer probes until another request comes; return that, and the messages before it."""
    first_messages: list[Message] = []
    async for item in incoming:
        message = item.message
        is_request = isinstance(message, JSONRPCRequest)
        if is_request and message.method == "server/discover":
            await _answer_probe(server, item, outgoing, context)
            continue
        if is_request or len(first_messages) < MAX_EARLY:
            first_messages.append(item)
        if is_request:
            break
    return first_messages


async def _answer_probe(server: Server[Any], probe: SessionMessage, outgoing: Outgoing, context: object) -> None:
    """Answer one ``server/discover`` on a connection of its own."""
    request_in, request_out = anyio.create_memory_object_stream[Message](1)
    answer_in, answer_out = anyio.create_memory_object_stream[SessionMessage](1)

    async def serve() -> None:
        await serve_dual_era_loop(server, request_out, answer_in, lifespan_state=context)

    async with request_in, answer_out, anyio.create_task_group() as group:
        group.start_soon(serve)
        await request_in.send(probe)
        await outgoing.send(await answer_out.receive())
        group.cancel_scope.cancel()
