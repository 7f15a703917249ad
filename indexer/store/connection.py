"""The connection to the database: its directory, its tables, and the repair of a table that cannot be read.

A table that does not open or does not answer is repaired in steps, until one succeeds: its newest manifest goes to
quarantine (after a power cut it may be incomplete; the version before it opens); its indexes are rebuilt; a few older
versions are tried; at last the table itself goes to quarantine and an empty one is created. Before that, files that
differ from their checksum go to quarantine, because the storage library notices a missing file but not a changed one.
Quarantine is ``damaged/<time>/`` (see ``health.quarantine``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import lancedb

from indexer.errors import StoreError
from indexer.store.files_on_disk import Checksums
from indexer.store.health import Health, code_of, is_damage, library_errors, quarantine, store_errors, to_store_error
from indexer.store.private_directory import make_directory
from indexer.store.resources import cache_sizes
from indexer.store.schema import FORMAT, REQUIRED_COLUMNS, format_of, indexes, is_vectors

_VERSIONS = 4  # older versions that are tried


@dataclass
class Connection:
    """An open connection to the database below a data directory.

    Attributes:
        root: The data directory.
        database: The connection of the storage library.
        health: Where damage is recorded.
        checksums: Those of the files that were complete at the last maintenance.
        suspect_tables: Tables whose search indexes are rebuilt when they are opened, even if they answer.
    """

    root: Path
    database: Any
    read_only: bool
    health: Health
    checksums: Checksums
    suspect_tables: set[str] = field(default_factory=set)

    @property
    def directory(self) -> Path:
        """The directory of the tables."""
        return self.root / "tables"

    async def names(self) -> list[str]:
        """Names of all tables.

        Raises:
            StoreError: The directory cannot be read.
        """
        with store_errors(f"list the index in {self.root}"):
            page = await self.database.list_tables()
            names = list(page.tables)
            while page.page_token:
                page = await self.database.list_tables(page_token=page.page_token)
                names += page.tables
        return names

    async def renew(self) -> None:
        """Reconnect without cached data; create the directory if it was deleted.

        Raises:
            StoreError: It cannot be created.
        """
        await anyio.to_thread.run_sync(prepare_directory, self.directory)
        self.database = await _connect(self.root)

    async def quarantine(self, *, thorough: bool) -> bool:
        """Move files that differ from their checksum to quarantine; returns whether there were any.

        A file of an old version is not missed; any other is noticed when its table is opened and read.

        Raises:
            StoreError: One cannot be moved, or the disk refuses.
        """
        with store_errors(f"check the index in {self.root}"):
            changed_files = await anyio.to_thread.run_sync(lambda: self.checksums.changed_files(thorough=thorough))
        for path in changed_files:
            await anyio.to_thread.run_sync(quarantine, self.root, path)
            name = path.relative_to(self.directory)
            self.health.record_damage(f"{name} had changed on disk and was set aside")
            if "_indices" in name.parts:
                self.suspect_tables.add(name.parts[0].removesuffix(".lance"))
        return bool(changed_files)

    async def open(self, name: str, probe: Callable[[Any], Awaitable[None]]) -> Any | None:
        """The table, repaired if needed; None if it does not exist or had to go to quarantine.

        Args:
            name: Table name.
            probe: Reads state and runs a search; raises the exceptions of the library.

        Raises:
            StoreError: It is of a newer version, not accessible, or damaged and this store is read-only.
        """
        if name not in await self.names():
            return None
        roll_back, drop_newest = self._roll_back_if_unreadable, [self._roll_back] * _VERSIONS
        first = self._rebuild_indexes if name in self.suspect_tables else None
        for repair in (first, roll_back, roll_back, self._rebuild_indexes, *drop_newest):
            try:
                if repair is not None and not await repair(name):
                    continue
                table = await self.database.open_table(name)
                _check_format(name, await table.schema())
                await probe(table)
                self.suspect_tables.discard(name)
                return table
            except library_errors(StoreError) as error:
                self._raise_unless_repairable(name, error)
        moved_to = await anyio.to_thread.run_sync(quarantine, self.root, self.directory / f"{name}.lance")
        self.health.record_damage(f"table {name} of the index could not be read and was moved to {moved_to.parent}")
        return None

    async def create(self, name: str, schema: Any) -> Any:
        """A new table with its indexes, or the one another process has just created.

        Raises:
            StoreError: It cannot be written.
        """
        with store_errors(f"create the index in {self.root}"):
            table = await self.database.create_table(name, schema=schema, exist_ok=True)
            await make_indexes(table, name)
        return table

    def _raise_unless_repairable(self, name: str, error: Exception) -> None:
        if not is_damage(error):
            raise to_store_error(error, f"open the index in {self.root}") from error
        if self.read_only:
            raise StoreError(
                f"table {name} of the index in {self.root} cannot be read; "
                "start folder-mcp without read-only mode, which sets it aside and rebuilds",
                "damaged",
            ) from error

    async def _roll_back_if_unreadable(self, name: str) -> bool:
        """Move the newest manifest to quarantine if the table does not open; False when there is no older version."""
        folder = self.directory / f"{name}.lance" / "_versions"
        manifest = await anyio.to_thread.run_sync(_newest_manifest, folder)
        if manifest is None:
            return False
        try:
            await self.database.open_table(name)
        except library_errors():
            await anyio.to_thread.run_sync(quarantine, self.root, manifest)
            self.health.record_damage(
                f"the last write to table {name} was torn (power cut?); the version before it is in use"
            )
            return True
        return False

    async def _roll_back(self, name: str) -> bool:
        """Move the newest manifest to quarantine: perhaps only the files of the last commit are damaged."""
        manifest = await anyio.to_thread.run_sync(_newest_manifest, self.directory / f"{name}.lance" / "_versions")
        if manifest is None:
            return False
        await anyio.to_thread.run_sync(quarantine, self.root, manifest)
        self.health.record_damage(f"the newest version of table {name} was damaged; the one before it is tried")
        return True

    async def _rebuild_indexes(self, name: str) -> bool:
        table = await self.database.open_table(name)
        for index in list(await table.list_indices()):
            await table.drop_index(index.name)
        await make_indexes(table, name)
        self.health.record_damage(f"the search indexes of table {name} were damaged and have been made anew")
        return True


async def connect(root: Path, *, read_only: bool) -> Connection:
    """Connect to the database of a data directory.

    Raises:
        StoreError: The directory cannot be created, or its file system cannot hold a database.
    """
    directory = root / "tables"
    if not read_only:
        await anyio.to_thread.run_sync(prepare_directory, directory)
    elif not await anyio.Path(directory).is_dir():
        raise StoreError(f"there is no index in {root} yet; run folder-mcp index first", "missing")
    health, checksums = (
        await anyio.to_thread.run_sync(Health, root),
        await anyio.to_thread.run_sync(Checksums.load, root),
    )
    return Connection(root, await _connect(root), read_only, health, checksums)


async def _connect(root: Path) -> Any:
    """Connect with caches of the size that the database needs."""
    with store_errors(f"open the index in {root}"):
        session = lancedb.Session(*await anyio.to_thread.run_sync(cache_sizes, root / "tables"))
        return await lancedb.connect_async(
            str(root / "tables"), read_consistency_interval=timedelta(0), session=session
        )


async def make_indexes(table: Any, name: str) -> None:
    """Create the missing indexes of a table; raises the exceptions of the library."""
    have = {column for index in await table.list_indices() for column in index.columns}
    for column, config in indexes(name).items():
        if column not in have:
            await table.create_index(column, config=config)


def _check_format(name: str, schema: Any) -> None:
    number = format_of(schema)
    if number > FORMAT:
        raise StoreError(
            f"the index was written by a newer folder-mcp (format {number}, this one knows {FORMAT}); "
            "upgrade folder-mcp, or use another --data-dir",
            "newer_version",
        )
    missing = set(REQUIRED_COLUMNS["vectors" if is_vectors(name) else "chunks"]) - set(schema.names)
    if missing:
        raise StoreError(f"table {name} is too old to be read: it lacks {', '.join(sorted(missing))}", "damaged")


def prepare_directory(directory: Path) -> None:
    """Create the directory and test that it supports hard links, which every commit uses."""
    with store_errors(f"write to the data directory {directory.parent}"):
        make_directory(directory)
        probe, link = directory / f".probe-{os.getpid()}", directory / f".link-{os.getpid()}"
        try:
            probe.write_bytes(b"")
            _link(probe, link)
        finally:
            for path in (link, probe):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _link(probe: Path, link: Path) -> None:
    try:
        link.unlink(missing_ok=True)
        os.link(probe, link)
    except (OSError, NotImplementedError) as error:
        if code_of(error) in ("disk_full", "read_only"):
            raise
        raise StoreError(
            f"the file system of {probe.parent.parent} has no hard links (FAT, exFAT, many network and cloud "
            "folders); choose a data directory on a local disk with --data-dir",
            "unsupported",
        ) from error


def _newest_manifest(folder: Path) -> Path | None:
    """The newest of at least two manifests; None when there is no older version.

    Names count down from 2**64 - 1 (so that a listing starts with the newest), or up in old tables.
    """
    found = {int(path.stem): path for path in folder.glob("*.manifest") if path.stem.isdigit()}
    if len(found) < 2:
        return None
    down = max(found) > 1 << 63
    return found[min(found) if down else max(found)]
