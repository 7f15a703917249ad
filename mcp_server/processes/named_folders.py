"""The folders that connections name: remembered, indexed, and searched by default by whoever named them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from indexer.errors import FolderMcpError

if TYPE_CHECKING:
    from indexer.config import Config
    from mcp_server.engine_port import ConnectionContext

log = logging.getLogger(__name__)


async def remember(config: Config, lent: ConnectionContext, names: Sequence[str]) -> None:
    """Remember folders that a connection named; it gets them, and what is wrong with the others, and is ready."""
    from indexer.folders.registry import add_folder  # noqa: PLC0415 - not before the first answer

    for name in names:
        try:
            known = await anyio.to_thread.run_sync(add_folder, config, name)
        except FolderMcpError as error:
            log.warning("%s", error)
            lent.notices.append(str(error))
        else:
            lent.folders.append(known.path)
    lent.ready.set()


class NamedFolders:
    """Brings folders to the one engine, one at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._adding = anyio.Lock()

    async def bring(self, lent: ConnectionContext, names: Sequence[str]) -> None:
        """Remember the folders a connection named, then have them indexed.

        Args:
            lent: Of the connection; gets the folders, and what is wrong with the others.
            names: Paths, absolute.
        """
        await remember(self._config, lent, names)
        for path in lent.folders:
            async with self._adding:
                if path in {folder.path for folder in lent.engine.folders()}:
                    continue
                try:
                    await lent.engine.add_folder(path)
                except FolderMcpError as error:  # the index may still be closed: it finds the folder when it opens
                    log.info("%s", error)
