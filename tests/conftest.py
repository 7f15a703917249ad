"""How much the tests try: the hypothesis profile ``quick`` unless ``HYPOTHESIS_PROFILE`` says ``full``, as CI does."""

from __future__ import annotations

import gc
import os

from effort import FULL_EXAMPLES
from hypothesis import HealthCheck, settings

# Neither a deadline nor a limit for making examples: slowness is the machine's. What hangs, the test's time-out ends.
settings.register_profile(
    "full",
    max_examples=FULL_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
# The same examples each time, so that the outcome depends on the code alone.
settings.register_profile(
    "quick", parent=settings.get_profile("full"), max_examples=FULL_EXAMPLES // 3, derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """Exempt what the imports made from garbage collection: each unload of a model makes full ones, of 0.5 s else."""
    gc.collect()
    gc.freeze()
