"""Keys of a terminal, one by one, without echo; the terminal is given back as it was."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio

KEYS = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"k": "up", b"j": "down",
        b"\x1bOA": "up", b"\x1bOB": "down", b" ": "page down", b"g": "home", b"q": "quit", b"Q": "quit",
        b"\x03": "quit", b"\x04": "quit"}  # fmt: skip


@contextmanager
def single_keys(fd: int) -> Iterator[bool]:
    """Have keys arrive one by one while the block runs; yields False where that cannot be had."""
    try:
        import termios  # noqa: PLC0415 - not on Windows
        import tty  # noqa: PLC0415

        before = termios.tcgetattr(fd)
    except (ImportError, OSError, termios.error):
        yield False
        return
    try:
        tty.setcbreak(fd)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def pressed(fd: int) -> AsyncIterator[str]:
    """Yield what the keys mean (``KEYS``) as they are pressed; ends with the terminal."""
    while True:
        await anyio.wait_readable(fd)
        try:
            data = os.read(fd, 64)
        except OSError:  # the terminal is gone
            return
        if not data:
            return
        for key in [data] if data in KEYS else [data[at : at + 1] for at in range(len(data))]:
            if key in KEYS:
                yield KEYS[key]
            elif key == b"\x1b":
                break  # the rest belongs to a key that means nothing here
