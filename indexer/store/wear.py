"""How much a table has been written to since it was last put in order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from indexer.store.fault import explained
from indexer.store.figures import IndexStatistics, TableStatistics

AGED = 3600.0
"""Seconds after which even little wear is mended when nothing else goes on: until then deleted text is on the disk."""
LATEST = 24 * 3600.0
"""Seconds after which deleted text is erased even if something has been going on all the time."""


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
        dead: Rows that are deleted and still on the disk, at least one if there are any.
        erased: When none was left the last time, seconds since the epoch; 0 if never.
    """

    commits: int = 0
    rows: int = 0
    settled: int = 0
    litter: bool = False
    expires: float | None = None
    rest: float = 0.0
    since: float | None = None
    dead: int = 0
    erased: float = 0.0

    def wrote(self, rows: int, *, dead: bool = False) -> None:
        """Note one commit; ``dead`` if it deleted or replaced rows."""
        self.commits += 1
        self.rows += rows
        self.dead += dead
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
            if aged or self.erasing() or self.litter or (self.expires is not None and now >= self.expires):
                return True
            few = _between(20, self.settled // 5000, 60)
            if self.commits >= few or self.rows >= _between(200, self.settled // 50, 20_000):
                return True
        if self.dead and time.time() - self.erased >= LATEST:
            return True
        many = _between(100, self.settled // 500, 300)
        return self.commits >= many or self.rows >= _between(8000, self.settled, 100_000)

    def again(self) -> float:
        """Seconds until maintenance may be due although nothing more is written; infinite if never."""
        times = [] if self.since is None else [self.since + AGED]
        times += [] if self.expires is None else [self.expires]
        times += [time.monotonic() + self.erased + AGED - time.time()] if self.dead else []
        return max(0.0, max(self.rest, min(times, default=math.inf)) - time.monotonic())

    def erasing(self) -> bool:
        """Whether it is time to erase what is deleted."""
        return self.dead > 0 and not 0 <= time.time() - self.erased < AGED


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
    fragments = stats["fragment_stats"]
    dead = round(fragments["num_fragments"] * fragments["lengths"]["mean"]) - rows  # the mean is of whole numbers
    commits = fragments["num_small_fragments"]
    return Wear(commits=commits, rows=behind, settled=rows - behind, since=since, dead=max(0, dead))


async def statistics(table: Any, wear: Wear) -> TableStatistics:
    """The state of a table, from the disk and from what was counted since it was opened.

    Raises:
        StoreError: The table cannot be read.
    """
    with explained("read the index"):
        stats = await table.stats()
        indexes = {
            index.name: IndexStatistics(index.index_type, tuple(index.columns), index.num_segments or 1)
            for index in await table.list_indices()
        }
    fragments = stats["fragment_stats"]["num_fragments"]
    return TableStatistics(stats["num_rows"], fragments, wear.rows, wear.dead, indexes)
