"""The index on disk. The only place that knows LanceDB."""

from indexer.store.opening import open_store
from indexer.store.store import Counts, Replaced, Store

__all__ = ["Counts", "Replaced", "Store", "open_store"]
