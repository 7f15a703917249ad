"""Opening the database: can this place hold one, is what is there ours, is it whole, and if not, what is left of it.

The ladder for a table that does not open or does not answer: its newest manifest is set aside (a torn one after a
power cut; the version before it opens), then its indexes are made anew, then a few older versions are tried, then the
table itself is set aside and an empty one takes its place. Before the ladder, files go that are not what they were
when they were summed: a missing file is noticed where a changed one is not. Set aside means moved to
``damaged/<time>/`` (see ``aside``).
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
from indexer.store.health import Health, code_of, explain, explained, mendable, quarantine, raised
from indexer.store.resources import cache_sizes
from indexer.store.schema import FORMAT, NEEDED, format_of, indexes, is_vectors

_VERSIONS = 4  # how far to go back for one that is whole


@dataclass
class Connection:
    """An open connection to the database below a data directory.

    Attributes:
        root: The data directory.
        raw: The storage library's own connection.
        health: Where it is noted what was found broken and what became of it.
        sums: What the files are known to have been.
        suspects: Tables whose search indexes are made anew when they are opened, even if they answer.
    """

    root: Path
    raw: Any
    read_only: bool
    health: Health
    sums: Checksums
    suspects: set[str] = field(default_factory=set)

    @property
    def place(self) -> Path:
        """Where the tables are."""
        return self.root / "tables"

    async def names(self) -> list[str]:
        """Names of all tables.

        Raises:
            StoreError: The directory cannot be read.
        """
        with explained(f"list the index in {self.root}"):
            page = await self.raw.list_tables()
            names = list(page.tables)
            while page.page_token:
                page = await self.raw.list_tables(page_token=page.page_token)
                names += page.tables
        return names

    async def renew(self) -> None:
        """Begin anew with what is on the disk: nothing read before is remembered, and a lost directory is made.

        Raises:
            StoreError: It cannot be made.
        """
        await anyio.to_thread.run_sync(prepare, self.place)
        self.raw = await _library(self.root)

    async def quarantine(self, *, thorough: bool) -> bool:
        """Set files aside that are not what they were; returns whether there were any.

        Whether a file matters is not looked at: one of an old version is not missed, any other is when its table is
        opened and read.

        Raises:
            StoreError: One cannot be moved, or the disk refuses.
        """
        with explained(f"check the index in {self.root}"):
            bad = await anyio.to_thread.run_sync(lambda: self.sums.bad(thorough=thorough))
        for path in bad:
            await anyio.to_thread.run_sync(quarantine, self.root, path)
            name = path.relative_to(self.place)
            self.health.broke(f"{name} had changed on disk and was set aside")
            if "_indices" in name.parts:
                self.suspects.add(name.parts[0].removesuffix(".lance"))
        return bool(bad)

    async def open(self, name: str, probe: Callable[[Any], Awaitable[None]]) -> Any | None:
        """The table if it is there and answers; None if it is not, or had to be set aside.

        Args:
            name: Table name.
            probe: Reads state and runs a search; raises what the library raises.

        Raises:
            StoreError: It is of a newer version, not accessible, or damaged and this store may not mend it.
        """
        if name not in await self.names():
            return None
        first = self._reindex if name in self.suspects else None
        for mend in (first, self._step_back, self._step_back, self._reindex, *[self._give_up_newest] * _VERSIONS):
            try:
                if mend is not None and not await mend(name):
                    continue
                table = await self.raw.open_table(name)
                _check_format(name, await table.schema())
                await probe(table)
                self.suspects.discard(name)
                return table
            except raised(StoreError) as error:
                self._refuse_unless_ours(name, error)
        went = await anyio.to_thread.run_sync(quarantine, self.root, self.place / f"{name}.lance")
        self.health.broke(f"table {name} of the index could not be read and was moved to {went.parent}")
        return None

    async def create(self, name: str, schema: Any) -> Any:
        """An empty table with its indexes, or the one another process has just made.

        Raises:
            StoreError: It cannot be written.
        """
        with explained(f"create the index in {self.root}"):
            table = await self.raw.create_table(name, schema=schema, exist_ok=True)
            await make_indexes(table, name)
        return table

    def _refuse_unless_ours(self, name: str, error: Exception) -> None:
        if not mendable(error):
            raise explain(error, f"open the index in {self.root}") from error
        if self.read_only:
            raise StoreError(
                f"table {name} of the index in {self.root} cannot be read; "
                "start folder-mcp without read-only mode, which sets it aside and rebuilds",
                "damaged",
            ) from error

    async def _step_back(self, name: str) -> bool:
        """Set the newest manifest aside if it is the fault; False when the table has only one version."""
        folder = self.place / f"{name}.lance" / "_versions"
        manifest = await anyio.to_thread.run_sync(_newest_manifest, folder)
        if manifest is None:
            return False
        try:
            await self.raw.open_table(name)
        except raised():
            await anyio.to_thread.run_sync(quarantine, self.root, manifest)
            self.health.broke(f"the last write to table {name} was torn (power cut?); the version before it is in use")
            return True
        return False

    async def _give_up_newest(self, name: str) -> bool:
        """Set the newest version aside: perhaps only what the last commit wrote is bad, and all before it is not."""
        manifest = await anyio.to_thread.run_sync(_newest_manifest, self.place / f"{name}.lance" / "_versions")
        if manifest is None:
            return False
        await anyio.to_thread.run_sync(quarantine, self.root, manifest)
        self.health.broke(f"the newest version of table {name} was damaged; the one before it is tried")
        return True

    async def _reindex(self, name: str) -> bool:
        table = await self.raw.open_table(name)
        for index in list(await table.list_indices()):
            await table.drop_index(index.name)
        await make_indexes(table, name)
        self.health.broke(f"the search indexes of table {name} were damaged and have been made anew")
        return True


async def connect(root: Path, *, read_only: bool) -> Connection:
    """Open the connection; the library must be loaded.

    Raises:
        StoreError: The directory cannot be made or cannot hold a database.
    """
    place = root / "tables"
    if not read_only:
        await anyio.to_thread.run_sync(prepare, place)
    elif not await anyio.Path(place).is_dir():
        raise StoreError(f"there is no index in {root} yet; run folder-mcp index first", "missing")
    health, sums = await anyio.to_thread.run_sync(Health, root), await anyio.to_thread.run_sync(Checksums.load, root)
    return Connection(root, await _library(root), read_only, health, sums)


async def _library(root: Path) -> Any:
    """The storage library's connection, with caches of its own."""
    with explained(f"open the index in {root}"):
        session = lancedb.Session(*await anyio.to_thread.run_sync(cache_sizes, root / "tables"))
        return await lancedb.connect_async(
            str(root / "tables"), read_consistency_interval=timedelta(0), session=session
        )


async def make_indexes(table: Any, name: str) -> None:
    """Create the indexes that a table should have and does not; raises what the library raises."""
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
    missing = set(NEEDED["vectors" if is_vectors(name) else "chunks"]) - set(schema.names)
    if missing:
        raise StoreError(f"table {name} is too old to be read: it lacks {', '.join(sorted(missing))}", "damaged")


def prepare(place: Path) -> None:
    """Make the directory and see that it takes hard links, by which every commit is made."""
    with explained(f"write to the data directory {place.parent}"):
        place.mkdir(parents=True, exist_ok=True)
        probe, link = place / f".probe-{os.getpid()}", place / f".link-{os.getpid()}"
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
    """The newest of at least two manifests; None when stepping back is impossible.

    Names count down from 2**64 - 1 (so that a listing starts with the newest), or up in tables of old.
    """
    found = {int(path.stem): path for path in folder.glob("*.manifest") if path.stem.isdigit()}
    if len(found) < 2:
        return None
    down = max(found) > 1 << 63
    return found[min(found) if down else max(found)]
