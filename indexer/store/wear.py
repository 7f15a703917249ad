"""How much a table has been written to since it was last put in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from indexer.store.fault import explained

AGED = 6 * 3600.0
"""Seconds after which even little wear is mended when nothing else goes on: until then deleted text is on the disk."""


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
        since: Time of the first commit since the last maintenance; None if there was none.
    """

    commits: int = 0
    rows: int = 0
    settled: int = 0
    litter: bool = False
    expires: float | None = None
    rest: float = 0.0
    since: float | None = None

    def wrote(self, rows: int) -> None:
        """Note one commit."""
        self.commits += 1
        self.rows += rows
        self.since = time.monotonic() if self.since is None else self.since

    def due(self, *, idle: bool) -> bool:
        """Whether maintenance pays: early when nothing else runs, later when it would hold up writing.

        Maintenance rewrites the table and its full-text index as a whole (0.15 s of CPU for each 1,000 rows), and the
        storage library has no other way. So the limits grow with the table: while it is being filled it is rewritten
        each time it has doubled, three times its rows in all; a third more would make it four times, 5 % twenty-fold.
        They end where searches would suffer: a row outside the index costs a word search 2.6 microseconds, a
        fragment 0.3 ms.
        """
        now = time.monotonic()
        if now < self.rest:
            return False
        if idle:
            aged = self.since is not None and now - self.since >= AGED
            if aged or self.litter or (self.expires is not None and now >= self.expires):
                return True
            few = _between(20, self.settled // 5000, 60)
            if self.commits >= few or self.rows >= _between(200, self.settled // 50, 20_000):
                return True
        many = _between(100, self.settled // 500, 300)
        return self.commits >= many or self.rows >= _between(8000, self.settled, 100_000)


def _between(least: int, wanted: int, most: int) -> int:
    return min(max(least, wanted), most)


async def measure(table: Any) -> Wear:
    """The wear of a table as it is on disk.

    Raises:
        StoreError: The table cannot be read.
    """
    with explained("read the index"):
        rows = await table.count_rows()
        behind = max((index.num_unindexed_rows or 0 for index in await table.list_indices()), default=0)
        stats = await table.stats()
    since = time.monotonic() if behind else None
    commits = stats["fragment_stats"]["num_small_fragments"]
    return Wear(commits=commits, rows=behind, settled=rows - behind, since=since)
