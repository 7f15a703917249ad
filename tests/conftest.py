"""How much the tests try: the hypothesis profile ``quick`` unless ``HYPOTHESIS_PROFILE`` says ``full``, as CI does."""

from __future__ import annotations

import gc
import os
import signal
import sys

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

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or the programs of the tests would not hear Ctrl-C


_modules_at_freeze = 0


def pytest_runtest_setup() -> None:
    """Keep what imports made out of garbage collection: an unload of a model makes two full ones, of 0.5 s each."""
    global _modules_at_freeze  # noqa: PLW0603
    if len(sys.modules) > _modules_at_freeze + 300:
        gc.collect()
        gc.freeze()
        _modules_at_freeze = len(sys.modules)
