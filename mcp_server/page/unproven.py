"""Connections that have not shown who they are: how many there may be, and for how long. Standard library only.

Every program of this machine can connect to a port on loopback, and what it then holds is a file descriptor of the
owner. So those that have not shown the token are few: a newer one takes the place of the oldest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

if sys.platform != "win32":
    import resource

MOST = 128
"""Connections without proof that one listener keeps, where descriptors are plenty."""
FEWEST = 8
SHARE = 8
"""One of so many descriptors of the process may belong to connections without proof, at each listener."""
PROOF_S = 30.0
"""Seconds that a connection has for a request, as long as it has not shown the token."""
RETRY_S = 1.0
"""Seconds after which a listener tries again that could not accept for want of descriptors."""
RESERVED = 8
"""Descriptors that a listener keeps for that case."""
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


PROVEN = "folder_mcp_proven"
"""Key of the state in a request's scope; what is there is called by ``proven``."""


def proven(scope: MutableMapping[str, Any]) -> None:
    """Record that the connection of a request has shown the token: it is not closed for others any more."""
    mark: Callable[[], None] | None = scope.get("state", {}).get(PROVEN)
    if mark is not None:
        mark()


def token_matches(given: bytes, expected: bytes) -> bool:
    """Whether two tokens are equal; the time tells neither where they differ nor how long the expected one is."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def descriptor_limit() -> int:
    """Return how many file descriptors this process may have; a large number where the system does not say."""
    if sys.platform == "win32":
        return MOST * SHARE
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST * SHARE if soft == resource.RLIM_INFINITY else soft


class UnprovenConnections:
    """The connections of one listener that have not shown the token, oldest first."""

    def __init__(self) -> None:
        self._close: dict[object, Callable[[], object]] = {}

    @property
    def limit(self) -> int:
        """How many there may be: the owner may raise its limit of descriptors while it opens."""
        return max(FEWEST, min(MOST, descriptor_limit() // SHARE))

    def add(self, connection: object, close: Callable[[], object]) -> None:
        """Count one that has just been accepted; closes the oldest when there are too many.

        Args:
            connection: Hashable, stands for it.
            close: Closes it; not called once it has been discarded.
        """
        self._close[connection] = close
        while len(self._close) > self.limit:
            self.close_oldest()

    def discard(self, connection: object) -> None:
        """Count one no longer: it has shown the token, or is closed."""
        self._close.pop(connection, None)

    def close_oldest(self) -> None:
        """Close the oldest, if there is one."""
        for oldest in self._close:
            self._close.pop(oldest)()
            return

    def __len__(self) -> int:
        return len(self._close)


class DescriptorReserve:
    """A few descriptors for the case that all others are taken, so that connections can still be accepted."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def fill(self) -> None:
        """Take what is missing, as far as there are any."""
        with contextlib.suppress(OSError):
            while len(self._held) < RESERVED:
                self._held.append(os.open(os.devnull, os.O_RDONLY))

    def release(self) -> None:
        """Give them back to the process."""
        while self._held:
            os.close(self._held.pop())
