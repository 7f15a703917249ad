"""The index on disk. The only place that knows LanceDB."""

from indexer.store.schema import Counts, Replaced, StoreStatistics
from indexer.store.store import Store, open_store

__all__ = ["Counts", "Replaced", "Store", "StoreStatistics", "open_store"]
