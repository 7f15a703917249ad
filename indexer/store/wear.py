"""How much a table has been written to since it was last put in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from indexer.store.fault import explained


@dataclass(slots=True)
class Wear:
    """Commits and rows since the last maintenance of one table.

    Attributes:
        commits: Each is a fragment that every search opens: 50 of them take a search from 5 to 19 ms, 1,000 to 411.
        rows: Rows that the indexes do not cover and searches scan.
        settled: Rows when last put in order.
        litter: Whether aborted writes may have left files that no version names.
        expires: Time (``time.monotonic``) from which the versions before the last maintenance may go; None if
            there are none.
        rest: Time before which nothing is due, because the last attempt failed.
    """

    commits: int = 0
    rows: int = 0
    settled: int = 0
    litter: bool = False
    expires: float | None = None
    rest: float = 0.0

    def wrote(self, rows: int) -> None:
        """Note one commit."""
        self.commits += 1
        self.rows += rows

    def due(self, *, idle: bool) -> bool:
        """Whether maintenance pays: early when nothing else runs, later when it would hold up writing.

        The forced limit grows with the table, because maintenance rewrites the full-text index as a whole: at 5 %
        of the table a first load of 60,000 chunks spent 75 of 87 s in maintenance, and 19,000 rows outside the
        index cost a word search 50 ms.
        """
        now = time.monotonic()
        if now < self.rest:
            return False
        if idle and (self.commits >= 20 or self.rows >= 200 or self.litter):
            return True
        if idle and self.expires is not None and now >= self.expires:
            return True
        return self.commits >= 100 or self.rows >= min(max(4000, self.settled // 3), 50_000)


async def measure(table: Any) -> Wear:
    """The wear of a table as it is on disk.

    Raises:
        StoreError: The table cannot be read.
    """
    with explained("read the index"):
        rows = await table.count_rows()
        behind = max((index.num_unindexed_rows or 0 for index in await table.list_indices()), default=0)
        stats = await table.stats()
    return Wear(commits=stats["fragment_stats"]["num_small_fragments"], rows=behind, settled=rows - behind)
