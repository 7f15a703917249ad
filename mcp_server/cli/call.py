"""One call of the command line: its arguments, its environment, and how to open an engine."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.config import Config, load_config
from mcp_server.processes.open_engine import open_alone, open_real, open_shared, running
from mcp_server.version import release

if TYPE_CHECKING:
    from mcp_server.engine_port import EnginePort, Opener
    from mcp_server.processes.remote_engine import RemoteEngine

OPENING_S = 20.0
"""Seconds that a command waits for the index to be open before it shows what there is."""
AFTER_MESSAGE_S = 3.0
"""Seconds that it waits once the engine has reported something about opening."""


@dataclass(frozen=True)
class Call:
    """What a command is given.

    Attributes:
        args: The parsed arguments.
        environ: The environment.
        opener: Opens the engine.
    """

    args: argparse.Namespace
    environ: Mapping[str, str]
    opener: Opener

    @cached_property
    def config(self) -> Config:
        """The configuration.

        Raises:
            ConfigError: It is wrong; the message says where and what would be right.
        """
        file, data = self.args.config, self.args.data_dir
        return load_config(Path(file) if file else None, data_dir=Path(data) if data else None, environ=self.environ)

    def open(self, *, read_only: bool = False) -> AbstractAsyncContextManager[EnginePort]:
        """Use the owner's engine, or open one in this process and load its heavy part at once.

        Args:
            read_only: Do not become the index's writer, and start no owner.
        """
        opener = self.opener
        if opener is open_real:
            opener = open_alone if self.args.no_daemon else open_shared
        return self._recorded(opener(self.config, read_only=read_only))

    @asynccontextmanager
    async def _recorded(self, opened: AbstractAsyncContextManager[EnginePort]) -> AsyncIterator[EnginePort]:
        """Record what an engine of this process shows; the owner records what its own does."""
        from mcp_server.access.recorded_engine import recorded  # noqa: PLC0415 - the doctor works without anyio
        from mcp_server.processes.remote_engine import RemoteEngine  # noqa: PLC0415
        from mcp_server.record.record import Asker, Record  # noqa: PLC0415

        async with opened as engine:
            if isinstance(engine, RemoteEngine):
                yield engine
            else:
                record = Record(self.config.data_dir, self.config.record)
                yield recorded(engine, record, Asker("command", release()))

    def running(self) -> RemoteEngine | None:
        """Return the engine of the running owner; None when no owner runs, or ``--no-daemon`` was given."""
        if self.opener is not open_real or self.args.no_daemon:
            return None
        return running(self.config)


async def wait_until_open(engine: EnginePort) -> None:
    """Wait until the index is open, or has failed to open, ``OPENING_S`` seconds at most."""
    import anyio  # noqa: PLC0415 - the doctor works without it

    with anyio.move_on_after(OPENING_S) as limit:
        async for status in engine.watch():
            if status.owner.state in ("serving", "read_only"):
                return
            if status.owner.detail:  # it may have failed, or may still open
                limit.deadline = min(limit.deadline, anyio.current_time() + AFTER_MESSAGE_S)
