"""What the indexer has done and how fast: counters the passes write and status reads."""

from __future__ import annotations

from indexer.status import Work

RATE_WINDOW = 0.2
"""Weight of the newest measurement in the exponentially weighted embedding rate."""


class Ledger:
    """Counters since the engine opened; one event loop, no lock."""

    def __init__(self) -> None:
        self.files_walked = 0
        self.files_read = 0
        self.chunks_written = 0
        self.chunks_embedded = 0
        self.vectors_reused = 0
        self.rate = 0.0
        self.last_error = ""

    def embedded(self, chunks: int, seconds: float) -> None:
        """Count one micro-batch and its time."""
        self.chunks_embedded += chunks
        if seconds > 0:
            now = chunks / seconds
            self.rate = now if not self.rate else self.rate + RATE_WINDOW * (now - self.rate)

    def work(self) -> Work:
        """A snapshot."""
        return Work(self.files_walked, self.files_read, self.chunks_written, self.chunks_embedded, self.vectors_reused)
