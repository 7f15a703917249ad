"""The real engine, imported when it is opened and not before."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from mcp_server.version import version

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from indexer.config import Config
    from mcp_server.port import EnginePort


def open_real(
    config: Config,
    *,
    start: anyio.Event | None = None,
    read_only: bool = False,
    on_wedged: Callable[[str], None] | None = None,
) -> AbstractAsyncContextManager[EnginePort]:
    """Open the engine; see ``Opener``. ``on_wedged`` is called when only a restart of the process helps."""
    from indexer.engine import open_engine  # noqa: PLC0415 - a usage error or --help needs none of it

    return open_engine(config, version=version(), start=start, read_only=read_only, on_wedged=on_wedged)
