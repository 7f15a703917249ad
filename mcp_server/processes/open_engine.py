"""Where a process of ours finds an engine: its own, the owner's, or a reading one beside an owner that is silent.

Imported when opened and not before: ``--help`` and usage errors need none of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from mcp_server.version import release

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from indexer.config import Config
    from mcp_server.engine_port import CompleteOwner, EnginePort, Opener
    from mcp_server.processes.attach import Attachment
    from mcp_server.processes.remote_engine import RemoteEngine

log = logging.getLogger(__name__)


def open_real(
    config: Config,
    *,
    start: anyio.Event | None = None,
    read_only: bool = False,
    on_wedged: Callable[[str], None] | None = None,
    complete_owner: CompleteOwner | None = None,
) -> AbstractAsyncContextManager[EnginePort]:
    """Open the engine in this process; see ``Opener``. The caller has the claim, or only reads.

    ``on_wedged`` is called when only a restart of the process helps; ``complete_owner`` adds to each status.
    """
    from indexer.engine import open_engine  # noqa: PLC0415 - see above

    return open_engine(
        config,
        version=release(),
        start=start,
        read_only=read_only,
        on_wedged=on_wedged,
        complete_owner=complete_owner,
    )


@asynccontextmanager
async def open_alone(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[EnginePort]:
    """Open the engine in this process, as the owner for as long as it is open; beside another owner it only reads."""
    with _claim(config, wanted=not read_only) as ours:
        async with open_real(config, start=start, read_only=not ours) as engine:
            yield engine


@asynccontextmanager
async def open_shared(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[EnginePort]:
    """Use the owner's engine. Whoever only reads uses a running one, and starts none.

    Where no owner can be had, the engine opens in this process: reading only if there is an owner that is silent.
    """
    import anyio  # noqa: PLC0415

    from mcp_server.processes.attach import Attached, NoOwner, OwnerUnresponsive  # noqa: PLC0415
    from mcp_server.processes.handshake import greeting  # noqa: PLC0415
    from mcp_server.processes.remote_engine import RemoteEngine  # noqa: PLC0415

    try:
        attachment = attachment_for(config)
    except OSError as error:
        found: Attached | NoOwner | OwnerUnresponsive = NoOwner(str(error))
    else:
        found = await anyio.to_thread.run_sync(partial(attachment.attach, greeting("presence"), start=not read_only))
    if isinstance(found, Attached):
        try:
            yield RemoteEngine(attachment, start=not read_only)
        finally:
            found.line.close()
        return
    if not read_only:
        how = (
            "searching by word only, in this process"
            if isinstance(found, OwnerUnresponsive)
            else "working in this process"
        )
        log.warning("%s; %s", found.reason, how)
    async with open_alone(config, start=start, read_only=read_only or isinstance(found, OwnerUnresponsive)) as engine:
        yield engine


@asynccontextmanager
async def open_here_or_there(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[EnginePort]:
    """Open the engine in this process if nobody owns the data directory, else use the owner's."""
    with _claim(config, wanted=not read_only) as ours:
        opener: Opener = open_real if ours else open_shared
        async with opener(config, start=start, read_only=read_only) as engine:
            yield engine


def running(config: Config) -> RemoteEngine | None:
    """Return the engine of a running owner, None if there is none or it does not answer."""
    from mcp_server.processes.handshake import NotThere, Refused, Silent, greeting  # noqa: PLC0415
    from mcp_server.processes.remote_engine import RemoteEngine  # noqa: PLC0415

    try:
        attachment = attachment_for(config)
        attachment.dial(greeting("check"))[0].close()
    except Silent as silent:
        silent.line.close()
        return None
    except (OSError, NotThere, Refused):
        return None
    return RemoteEngine(attachment, start=False)


def attachment_for(config: Config) -> Attachment:
    """Return how to reach the owner of a configuration's data directory.

    Raises:
        OSError: There is no private directory for it.
    """
    from mcp_server.processes.launch import attachment_to  # noqa: PLC0415
    from mcp_server.processes.owner_lock import Location  # noqa: PLC0415

    location = Location(str(config.config_file or ""), str(config.data_dir), "")
    mine = os.environ  # house: what an owner we start gets the user's part of
    return attachment_to(location, mine)


@contextmanager
def _claim(config: Config, *, wanted: bool) -> Iterator[bool]:
    """Hold the claim for a block, if wanted. Yields whether it is ours; its note then has nothing to dial."""
    from mcp_server.processes.owner_lock import OwnerLock, place_of  # noqa: PLC0415
    from mcp_server.state_files import write_state  # noqa: PLC0415

    ours = False
    with ExitStack() as stack:
        try:
            if wanted:
                claim = stack.enter_context(OwnerLock(place_of(str(config.data_dir))))
                ours = claim.take()
            if ours:
                write_state(claim.place.note, {"pid": os.getpid(), "version": release(), "endpoint": None})
        except OSError as error:
            log.warning("the data directory cannot be claimed: %s", error)
            stack.close()
            ours = False
        yield ours
