"""Who is connected to the owner, what they brought, and which of their calls are open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from indexer.status_types import RelayStatus


class Traffic:
    """One connection's open calls.

    Attributes:
        draining: No more is taken in.
        served: Set when the first call has been answered.
    """

    def __init__(self) -> None:
        self.draining = False
        self._open: set[Any] = set()
        self._quiet = anyio.Event()
        self.served = anyio.Event()

    def asked(self, identity: Any) -> None:
        """A call came."""
        self._open.add(identity)

    def answered(self, identity: Any) -> None:
        """A call was answered, or its answer is not wanted any more."""
        self._open.discard(identity)
        self.served.set()
        if not self._open:
            self._quiet.set()
            self._quiet = anyio.Event()

    async def quiet(self) -> None:
        """Take nothing more in; return when everything taken in is answered."""
        self.draining = True
        while self._open:
            await self._quiet.wait()


@dataclass(slots=True, eq=False)
class Connected:
    """One connection.

    Attributes:
        kind: ``client`` speaks MCP, ``control`` is a command of ours.
        folders: Those it named.
        fingerprint: Of its configuration.
    """

    kind: str
    pid: int
    version: str
    folders: tuple[str, ...] = ()
    fingerprint: str = ""
    since: float = field(default_factory=time.time)
    traffic: Traffic = field(default_factory=Traffic)


class Clients:
    """Everybody who is connected.

    Attributes:
        left_at: When the last one left, or the owner started; ``time.monotonic``.
        any_yet: Whether there ever was one.
    """

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._here: list[Connected] = []
        self._changed = anyio.Event()
        self.left_at = time.monotonic()
        self.any_yet = False

    @property
    def present(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._here)

    @contextmanager
    def entered(self, hello: dict[str, Any]) -> Iterator[Connected]:
        """Keep a connection in the list while it lasts."""
        named = hello.get("folders")
        one = Connected(
            kind=str(hello.get("kind")),
            pid=int(hello.get("pid") or 0),
            version=str(hello.get("version", "")),
            folders=tuple(str(folder) for folder in named) if isinstance(named, list) else (),
            fingerprint=str(hello.get("config", "")),
        )
        self._here.append(one)
        self.any_yet = self.any_yet or one.kind == "client"
        self._beat()
        try:
            yield one
        finally:
            self._here.remove(one)
            self.left_at = time.monotonic()
            self._beat()

    async def changed(self) -> None:
        """Wait until somebody comes or leaves."""
        await self._changed.wait()

    async def quiet(self) -> None:
        """Take nothing more in; return when everything taken in is answered."""
        for one in list(self._here):
            await one.traffic.quiet()

    def status(self) -> tuple[RelayStatus, ...]:
        """Who is connected and what they brought."""
        return tuple(
            RelayStatus(one.pid, one.version, one.since, one.folders, one.fingerprint == self._fingerprint)
            for one in self._here
            if one.kind == "client"
        )

    def _beat(self) -> None:
        event, self._changed = self._changed, anyio.Event()
        event.set()
