"""How much memory the storage library may keep of what it has read, by the size of the index."""

from __future__ import annotations

from pathlib import Path

from indexer.store.disk import tree_bytes

# Entries of versions that are gone stay until there is no room for new ones, so a cache that is too large fills with
# them: 5 kB for each file written, the whole growth of a process that indexes. One that is too small makes every
# search read the search indexes again: twice the time at a million chunks.
_INDEX, _METADATA = (128 << 20, 2 << 30), (16 << 20, 256 << 20)  # least and most, bytes; the library has 6 GB and 1 GB


def sizes(place: Path) -> tuple[int, int]:
    """Bytes for the cache of search indexes and for that of metadata, for a database as it is now.

    One and a half times the search indexes on disk, since they take more in memory, and a 64th of everything: what
    searches need of metadata is 15 MB at 164,000 chunks. The least is for 170,000 chunks: an index may grow so far
    before it is opened again.
    """
    indexes = sum(map(tree_bytes, place.glob("*/_indices")))
    return _between(_INDEX, indexes * 3 // 2), _between(_METADATA, tree_bytes(place) // 64)


def _between(limits: tuple[int, int], wanted: int) -> int:
    return min(max(limits[0], wanted), limits[1])
