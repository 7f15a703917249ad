"""How long the tests that try many cases go on: all of it in the hypothesis profile ``full``, a third in ``quick``."""

from __future__ import annotations

from hypothesis import settings

FULL_EXAMPLES = 100
"""Examples of a test that does not say how many it wants, in the profile ``full``."""


def scaled(full: int) -> int:
    """``full`` (examples, hours of a soak) in the profile ``full``; a third of it, at least one, in ``quick``."""
    return max(1, full * settings().max_examples // FULL_EXAMPLES)
