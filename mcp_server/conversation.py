"""One client's conversation over a pair of message streams, whichever protocol era it speaks.

The SDK locks a connection to the era of its first request. Clients probe with ``server/discover`` (2026-07-28) and,
when the answer does not come within a second or two, go on with ``initialize`` (2025-11-25 and before), which a
locked connection refuses. So probes are answered apart, and the first other request decides.
"""

from __future__ import annotations

from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCRequest

Incoming = Any  # the SDK's ReadStream[SessionMessage | Exception]; its protocols are private
Outgoing = Any  # the SDK's WriteStream[SessionMessage]
Message = SessionMessage | Exception


async def converse(server: Server[Any], incoming: Incoming, outgoing: Outgoing, lent: object) -> None:
    """Serve one connection until its client leaves.

    Args:
        server: The low-level server.
        incoming: Messages from the client; closed when this returns.
        outgoing: Messages to the client; closed when this returns.
        lent: What the lifespan yields.
    """
    async with incoming, outgoing:
        begun = await _after_probes(server, incoming, outgoing, lent)
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
                server, receive, outgoing, lifespan_state=lent, init_options=server.create_initialization_options()
            )
            group.cancel_scope.cancel()


async def _after_probes(server: Server[Any], incoming: Incoming, outgoing: Outgoing, lent: object) -> list[Message]:
    """Answer probes until another request comes; return that and what came before it."""
    begun: list[Message] = []
    async for item in incoming:
        message = getattr(item, "message", None)
        if isinstance(message, JSONRPCRequest) and message.method == "server/discover":
            await _answer_probe(server, item, outgoing, lent)
            continue
        begun.append(item)
        if isinstance(message, JSONRPCRequest):
            break
    return begun


async def _answer_probe(server: Server[Any], probe: SessionMessage, outgoing: Outgoing, lent: object) -> None:
    """Answer one ``server/discover`` on a connection of its own."""
    ask, asked = anyio.create_memory_object_stream[Message](1)
    tell, told = anyio.create_memory_object_stream[SessionMessage](1)

    async def serve() -> None:
        await serve_dual_era_loop(server, asked, tell, lifespan_state=lent)

    async with ask, told, anyio.create_task_group() as group:
        group.start_soon(serve)
        await ask.send(probe)
        await outgoing.send(await told.receive())
        group.cancel_scope.cancel()
