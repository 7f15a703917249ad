"""Looking, between two stages of a load, whether anybody still wants it."""

from __future__ import annotations

from collections.abc import Callable

from indexer.model.failure import Stopped


def check(stopped: Callable[[], bool]) -> None:
    """Leave the load if ``stopped`` says so.

    Raises:
        indexer.model.failure.Stopped: Nobody wants the model any more.
    """
    if stopped():
        raise Stopped
