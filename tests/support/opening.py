"""Both ways of opening below a root, and swaps made exactly before a given step of it."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from indexer.files import open_inside

BOTH_WAYS = ("one call", "part by part")


def with_way(way: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Open in this way until the test ends; skips where the kernel cannot."""
    if way == "part by part":
        monkeypatch.setattr(open_inside, "_has_openat2", lambda: False)
    elif not open_inside._has_openat2():
        pytest.skip("this kernel has no openat2")
    return way


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/dev/fd"))


class _Waiting:
    """What is done before an ``open`` of this thread, and at which one."""

    def __init__(self) -> None:
        self.left = 0
        self.action: Callable[[], None] | None = None
        self.thread = 0


_waiting = _Waiting()


def _watch(event: str, _: tuple[object, ...]) -> None:
    if event == "open" and _waiting.action is not None and threading.get_ident() == _waiting.thread:
        _waiting.left -= 1
        if _waiting.left == 0:
            action, _waiting.action = _waiting.action, None
            action()


@contextmanager
def on_open(number: int, action: Callable[[], None]) -> Iterator[None]:
    """Do something just before the ``number``-th call of ``os.open`` in this thread.

    Python tells of each ``os.open`` before the kernel gets it. A hook cannot be taken away, so there is one for all.
    """
    if not getattr(_watch, "added", False):
        sys.addaudithook(_watch)
        _watch.added = True  # type: ignore[attr-defined]
    _waiting.left, _waiting.action, _waiting.thread = number, action, threading.get_ident()
    try:
        yield
    finally:
        _waiting.action = None


def device(place: Path, _: Path) -> None:
    """Put a device where a file was; the test is skipped where that is not permitted."""
    try:
        os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except OSError:
        pytest.skip("this user may not make devices")
