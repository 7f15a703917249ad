"""How long the program waits, in seconds: until it tries again after a failure, and for others to finish."""

from __future__ import annotations

from typing import Final

INDEX_RETRY_S: Final = 15.0
"""Until the index is opened, read, written or repaired again after the disk refused it (full, read-only, busy)."""
MODEL_RETRY_S: Final = 300.0
"""Until indexing asks again for a model that failed for good; where the failure names a time, that counts."""
LOAD_RETRY_S: Final = 15.0
"""From the end of one failed attempt to load a model to the next."""
BREAKER_S: Final = 300.0
"""How long the circuit breaker of a model that failed to load stays open."""

WRITER_WAIT_S: Final = 1.0
"""How long a writer waits for maintenance of the index that can wait, before that is interrupted."""
MAINTENANCE_QUIET_S: Final = 2.0
"""Time without work after which maintenance that is not urgent begins."""
MAINTENANCE_RETRY_S: Final = 60.0
"""Until maintenance is tried again after it failed."""
MAINTENANCE_RESUME_S: Final = 5.0
"""Until maintenance is tried again after a writer interrupted it."""
