"""Opens an engine for a process: its own, the owner's, or a read-only one beside an owner that does not answer.

The engine and what connects to the owner are imported when they are opened: ``--help`` and usage errors need neither.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from mcp_server.processes.owner_lock import NoRuntimeDirectory, OwnerLock, owner_files_for
from mcp_server.state_files import write_state
from mcp_server.version import release

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from indexer.config import Config
    from mcp_server.engine_port import CompleteOwner, EnginePort, Opener
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
    """Open the engine in this process; see ``Opener``. The caller holds the owner lock, or only reads.

    ``on_wedged`` is called when only a restart of the process helps; ``complete_owner`` adds to each status.
    """
    from indexer.engine import open_engine  # noqa: PLC0415 - hundreds of modules

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
    with _owner_lock(config, wanted=not read_only) as is_owner:
        async with open_real(config, start=start, read_only=not is_owner) as engine:
            yield engine


@asynccontextmanager
async def open_shared(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[EnginePort]:
    """Use the owner's engine; with ``read_only`` use a running owner's, and start none.

    Where there is no owner to use, the engine opens in this process: read-only if an owner exists and does not answer.
    """
    from mcp_server.processes import remote_engine  # noqa: PLC0415

    async with remote_engine.connected_to_owner(config, start=not read_only) as found:
        if isinstance(found, remote_engine.RemoteEngine):
            yield found
            return
    unresponsive = found.holds_lock
    if not read_only:
        how = "searching by word only, in this process" if unresponsive else "working in this process"
        log.warning("%s; %s", found.reason, how)
    async with open_alone(config, start=start, read_only=read_only or unresponsive) as engine:
        yield engine


@asynccontextmanager
async def open_here_or_there(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[EnginePort]:
    """Open the engine in this process if the data directory has no owner, else use the owner's."""
    with _owner_lock(config, wanted=not read_only) as is_owner:
        opener: Opener = open_real if is_owner else open_shared
        async with opener(config, start=start, read_only=read_only) as engine:
            yield engine


def running(config: Config) -> RemoteEngine | None:
    """Return the engine of a running owner, None if there is none or it does not answer."""
    from mcp_server.processes import remote_engine  # noqa: PLC0415

    return remote_engine.engine_of_running_owner(config)


@contextmanager
def _owner_lock(config: Config, *, wanted: bool) -> Iterator[bool]:
    """Hold the owner lock for a block, if wanted, without an endpoint to dial. Yields whether we may write.

    Where no directory can be had for the lock, there is no owner either: the index's own lock, in the data directory,
    keeps its writers apart.
    """
    held = False
    with ExitStack() as stack:
        try:
            if wanted:
                lock = stack.enter_context(OwnerLock(owner_files_for(str(config.data_dir))))
                held = lock.acquire()
            if held:
                state = {"pid": os.getpid(), "version": release(), "endpoint": None}
                write_state(lock.owner_files.state_file, state)
        except NoRuntimeDirectory as error:
            log.warning("%s; working without a background process", error)
            held = True
        except OSError as error:
            log.warning("the data directory cannot be claimed: %s", error)
            stack.close()
            held = False
        yield held
