"""The index on disk: does it open beside whoever writes it, of which format, with what in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import StoreError
from mcp_server.doctor.finding import Finding


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index holds.

    Attributes:
        files: Files it knows.
        chunks: Chunks of text.
        failed: Files that could not be read.
        disk_bytes: Its size, None when unknown.
    """

    files: int
    chunks: int
    failed: int
    disk_bytes: int | None


def index(data_dir: Path, look: Callable[[Path], Contents]) -> Iterator[Finding]:
    """Open the index read-only, which changes nothing in it.

    Args:
        data_dir: The data directory.
        look: Opens and reads the index; raises ``StoreError`` or ``ImportError``.
    """
    name, place = "index", data_dir / "index"
    try:
        if not (place / "tables").is_dir():
            yield Finding(name, "ok", "there is none yet; it is made with the first folder")
            return
        found = look(place)
    except ImportError as error:
        yield Finding(name, "failure", f"the storage library cannot be loaded: {error}", "run: pip install lancedb")
        return
    except StoreError as error:
        yield Finding(name, "failure", str(error), _REMEDIES.get(error.code, "see the log in the data directory"))
        return
    except OSError as error:
        yield Finding(name, "failure", f"{place} cannot be read ({error.strerror})", _REMEDIES["permission"])
        return
    amount = f", {found.disk_bytes / 1e6:.0f} MB" if found.disk_bytes else ""
    yield Finding(name, "ok", f"opens; {found.files:,} files, {found.chunks:,} chunks{amount}")
    damaged = sorted(each.name for each in (place / "damaged").glob("*")) if (place / "damaged").is_dir() else []
    if damaged:
        detail = f"damaged parts were set aside: {', '.join(damaged[:3])} in {place / 'damaged'}"
        yield Finding("index damage", "warning", detail, "look at the disk's health; delete that directory when done")
    if found.failed:
        detail = f"{found.failed:,} files could not be read"
        yield Finding("files", "warning", detail, "run: folder-mcp status -v, which names them and the reasons")


_REMEDIES = {
    "damaged": "start a client or run folder-mcp index: it sets damaged parts aside and rebuilds them",
    "newer_version": "upgrade folder-mcp, or use another --data-dir",
    "permission": "give this user read and write access to the data directory",
    "disk_full": "free space on the disk of the data directory",
    "unsupported": "choose a data directory on a local disk, with --data-dir",
}


def contents(place: Path) -> Contents:
    """Read what an index holds; imports the storage library, which takes a second.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not there.
    """
    import anyio  # noqa: PLC0415

    return anyio.run(_contents, place)


async def _contents(place: Path) -> Contents:
    from indexer.store.store import open_store  # noqa: PLC0415

    async with open_store(place, read_only=True) as store:
        rows = await store.files()
        folders = {row.folder for row in rows}
        return Contents(
            files=len(rows),
            chunks=sum(store.chunk_count(folder) for folder in folders),
            failed=sum(row.outcome == "failed" for row in rows),
            disk_bytes=store.disk_bytes,
        )
