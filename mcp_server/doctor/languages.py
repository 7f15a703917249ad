"""Whether each folder's model reads the languages that the folder is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from indexer.errors import StoreError
from indexer.models.catalogue import languages_of
from indexer.models.locate import Located, find
from indexer.status_report import advise
from mcp_server.doctor.finding import Finding

Written = Mapping[str, Mapping[str, int]]
"""Chunks by folder and language."""


def languages(
    folders: Mapping[str, str], reads: Mapping[str, frozenset[str] | None], look: Callable[[], Written]
) -> Iterator[Finding]:
    """Compare folders and models; nothing is said before anything is indexed.

    Args:
        folders: Model by root.
        reads: What each model was made for, None when many languages or unknown.
        look: Reads the index; raises ``StoreError`` or ``ImportError``, which the check of the index says.
    """
    if all(reads.get(model) is None for model in folders.values()):
        return
    try:
        written = look()
    except (StoreError, ImportError, OSError):
        return
    unfit = False
    for root, model in folders.items():
        found = advise(root, model, reads.get(model), written.get(root, {}), 0.0)
        if found is not None:
            unfit = True
            yield Finding(f"model of {root}", "warning", found.fault, found.remedy)
    if not unfit and any(written.values()):
        yield Finding("languages", "ok", "each folder's model reads what the folder is written in")


def fits(models: Iterable[str], hub_cache: Path, data_dir: Path) -> dict[str, frozenset[str] | None]:
    """The languages each model was made for, by name."""
    found = {}
    for name in models:
        located = find(name, hub_cache=hub_cache, data_dir=data_dir)
        found[name] = languages_of(name, Path(located.directory) if isinstance(located, Located) else None)
    return found


def written_in(place: Path) -> dict[str, Counter[str]]:
    """Read the languages of what is indexed; imports the storage library.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not there.
    """
    import anyio  # noqa: PLC0415

    return anyio.run(_written_in, place)


async def _written_in(place: Path) -> dict[str, Counter[str]]:
    from indexer.store.store import open_store  # noqa: PLC0415

    found: dict[str, Counter[str]] = {}
    async with open_store(place, read_only=True) as store:
        for row in await store.files():
            if row.language is not None:
                found.setdefault(row.folder, Counter())[row.language] += row.chunks
    return found
