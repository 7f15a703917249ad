"""The index on disk. The only place that knows LanceDB."""

from indexer.store.figures import Counts, Replaced, StoreStatistics
from indexer.store.opening import open_store
from indexer.store.store import Store

__all__ = ["Counts", "Replaced", "Store", "StoreStatistics", "open_store"]
