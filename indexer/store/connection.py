"""Opening the database: can this place hold one, is what is there ours, is it whole, and if not, what is left of it.

The ladder for a table that does not open or does not answer: its newest manifest is set aside (a torn one after a
power cut; the version before it opens), then its indexes are made anew, then the table itself is set aside and an
empty one takes its place. Set aside means moved to ``damaged/<time>/``: nothing is deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread

from indexer.errors import StoreError
from indexer.store.fault import RAISED, code_of, explain, explained, mendable
from indexer.store.schema import FORMAT, indexes

_INDEX_CACHE, _METADATA_CACHE = 256 << 20, 64 << 20  # bytes; the library's defaults are 6 GB and 1 GB


@dataclass
class Connection:
    """An open connection to the database below a data directory.

    Attributes:
        root: The data directory.
        raw: The storage library's own connection.
        damage: What was found broken and what became of it, sentences for people.
    """

    root: Path
    raw: Any
    read_only: bool
    damage: list[str] = field(default_factory=list)

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
        for mend in (None, self._step_back, self._step_back, self._reindex):
            try:
                if mend is not None and not await mend(name):
                    continue
                table = await self.raw.open_table(name)
                _check_format(name, (await table.schema()).metadata or {})
                await probe(table)
                return table
            except (*RAISED, StoreError) as error:
                self._refuse_unless_ours(name, error)
        await anyio.to_thread.run_sync(self._set_aside, self.place / f"{name}.lance")
        self.damage.append(f"table {name} of the index could not be read and was moved to {self.root / 'damaged'}")
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
        except RAISED:
            await anyio.to_thread.run_sync(self._set_aside, manifest)
            self.damage.append(
                f"the last write to table {name} was torn (power cut?); the version before it is in use"
            )
            return True
        return False

    async def _reindex(self, name: str) -> bool:
        table = await self.raw.open_table(name)
        for index in list(await table.list_indices()):
            await table.drop_index(index.name)
        await make_indexes(table, name)
        self.damage.append(f"the search indexes of table {name} were damaged and have been made anew")
        return True

    def _set_aside(self, path: Path) -> None:
        target = self.root / "damaged" / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target.mkdir(parents=True, exist_ok=True)
        number, name = 0, f"{path.parent.parent.name}-{path.name}" if path.suffix == ".manifest" else path.name
        while (target / f"{name}.{number}").exists():
            number += 1
        with explained(f"move the damaged {path} aside"):
            shutil.move(path, target / f"{name}.{number}")


async def connect(root: Path, *, read_only: bool) -> Connection:
    """Open the connection; the library must be loaded.

    Raises:
        StoreError: The directory cannot be made or cannot hold a database.
    """
    import lancedb  # noqa: PLC0415

    place = root / "tables"
    if not read_only:
        await anyio.to_thread.run_sync(_prepare, place)
    elif not await anyio.Path(place).is_dir():
        raise StoreError(f"there is no index in {root} yet; run folder-mcp index first", "unsupported")
    with explained(f"open the index in {root}"):
        raw = await lancedb.connect_async(
            str(place),
            read_consistency_interval=timedelta(0),
            session=lancedb.Session(_INDEX_CACHE, _METADATA_CACHE),
        )
    return Connection(root, raw, read_only)


async def make_indexes(table: Any, name: str) -> None:
    """Create the indexes that a table should have and does not; raises what the library raises."""
    have = {column for index in await table.list_indices() for column in index.columns}
    for column, config in indexes(name).items():
        if column not in have:
            await table.create_index(column, config=config)


def _check_format(name: str, metadata: dict[bytes, bytes]) -> None:
    number = int(metadata.get(b"format", b"0"))
    if number > FORMAT:
        raise StoreError(
            f"the index was written by a newer folder-mcp (format {number}, this one knows {FORMAT}); "
            "upgrade folder-mcp, or use another --data-dir",
            "newer_version",
        )
    if number < 1:
        raise StoreError(f"table {name} does not say its format", "damaged")


def _prepare(place: Path) -> None:
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
