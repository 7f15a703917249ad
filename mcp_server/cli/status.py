"""``folder-mcp status``: once, live with ``--watch``, or when something has come true with ``--wait``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server.cli import console
from mcp_server.cli.call import Call, settled

if TYPE_CHECKING:
    from indexer.status_types import Status
    from mcp_server.engine_port import EnginePort

ON_DISK = "This is the index as it lies on disk; what a running server does now, its client's status tool shows."
SLOT = ("idle", "loading", "ready", "unloading", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON document; with --watch one a line")
    parser.add_argument("--watch", action="store_true", help="live view (q to quit); one line per change when piped")
    parser.add_argument(
        "--wait",
        metavar="STATE",
        choices=(*SLOT, "keyword", "semantic", "indexed"),
        help=f"wait for a state of the slot ({', '.join(SLOT)}), for keyword or semantic search to serve, or until "
        "everything is indexed; exit code 1 when the time is up",
    )
    parser.add_argument("--timeout", metavar="S", type=float, default=60.0, help="seconds --wait waits (60)")


def run(call: Call) -> int:
    """Show the status."""
    import anyio  # noqa: PLC0415 - not for --help

    return anyio.run(_status, call)


async def _status(call: Call) -> int:
    args = call.args
    # Looking starts no work; who waits for work does it, unless another process already does.
    async with call.open(read_only=not args.wait) as engine:
        await settled(engine)
        if args.watch:
            await _watch(call, engine)
            return 0
        in_time = not args.wait or await _wait(args.wait, args.timeout, engine)
        status = engine.status(verbose=args.verbose)
    _show(call, replace(status, notices=(ON_DISK,)) if status.owner.state == "read_only" else status)
    if not in_time:
        console.complain(
            f"{args.wait} was not reached within {args.timeout:g} s; the status above shows how far it is"
        )
    return 0 if in_time else 1


def _show(call: Call, status: Status) -> None:
    from mcp_server.cli import output  # noqa: PLC0415
    from mcp_server.protocol.results import StatusResult  # noqa: PLC0415

    if call.args.json:
        console.document(StatusResult.of(status))
    else:
        console.say(output.status(status, verbose=call.args.verbose))


async def _wait(state: str, timeout: float, engine: EnginePort) -> bool:
    import anyio  # noqa: PLC0415

    with anyio.move_on_after(timeout):
        async for status in engine.watch():
            if reached(state, status):
                return True
    return False


def reached(state: str, status: Status) -> bool:
    """Whether a status is what ``--wait`` waits for."""
    if state in SLOT:
        return status.slot.state == state
    if state == "keyword":
        return status.services.keyword != "unavailable"  # degraded: some documents cannot be read; it answers
    if state == "semantic":
        return status.services.semantic == "serving"
    done = [folder.state == "ready" and not folder.files.pending for folder in status.folders]
    return bool(done) and all(done)


async def _watch(call: Call, engine: EnginePort) -> None:
    """Show every change until interrupted: a live table on a terminal that can move its cursor, otherwise lines."""
    from rich.console import Console  # noqa: PLC0415 - not for --help

    screen = Console(highlight=False)
    if not call.args.json and screen.is_terminal and not screen.is_dumb_terminal:
        from mcp_server.terminal.screen import show_live  # noqa: PLC0415

        await show_live(engine, screen, keys=sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None)
        return
    await _lines(call, engine)


async def _lines(call: Call, engine: EnginePort) -> None:
    from mcp_server.protocol.results import StatusResult  # noqa: PLC0415
    from mcp_server.terminal.picture import summary  # noqa: PLC0415

    last = ""
    async for status in engine.watch():
        text = summary(status)
        if text == last:
            continue
        last = text
        if call.args.json:
            console.line(StatusResult.of(status))
        else:
            console.say(text)
            sys.stdout.flush()
