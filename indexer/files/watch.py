"""Which paths of the folders have changed: hints to look again, never the truth.

What watchfiles 1.3 was seen to do (Linux), and the answer here:

- A new or moved directory is one event, and files made in it at once may be missed: a path may be a directory, and
  the reader walks it.
- A deleted root, made again, stays silent: the watcher is made anew, and the whole root is named.
- A name that is not UTF-8 makes every later call raise: the watcher is made anew, and the whole root is named.
- ``ignore_permission_denied`` also swallows an exhausted watch limit and a missing root: tried without it first.
- A limit reached later is silent: after new directories, room for one more watch is tested.
- Links to directories are followed: what comes through a link is dropped.
"""

# Paths are str with surrogates:

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer.files.ignore import Ignore
from indexer.files.mounts import silent_parts
from indexer.files.pending import Pending, collapse
from indexer.files.relevant import relevant
from indexer.files.watch_events import Changes, Timing, Watched, WatchEvent, WatchProblem
from indexer.files.watch_problems import GONE, LIMIT, UNDECODABLE, failure, is_limit, silence, unreadable

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

__all__ = ["Changes", "Timing", "WatchEvent", "WatchProblem", "Watched", "watch"]

log = logging.getLogger(__name__)

Silent = Callable[[str], tuple[tuple[str, str], ...]]
T = TypeVar("T")

_DELETED = 3  # watchfiles.Change.deleted
_GROUP_S = 1.0  # one call of the watcher gathers this long at most


class _Lost(Exception):
    """The root that was watched is gone, moved or another one."""


class _Batch(NamedTuple):
    """What one call of the watcher brought: relevant paths, and whether the limit of watches has been reached."""

    paths: set[str]
    full: bool


@asynccontextmanager
async def watch(
    rules: Mapping[str, Ignore], *, timing: Timing | None = None, silent: Silent = silent_parts
) -> AsyncIterator[MemoryObjectReceiveStream[WatchEvent]]:
    """Watch folders for as long as the block is open; iterate over what it gives.

    A slow reader loses nothing: changes gather until it takes them.

    Args:
        rules: The folders to watch, absolute and resolved, and the rules of each: what they leave out is not named.
        timing: Debounce and pauses.
        silent: Tells the parts of a root that send no events and their file system, as ``mounts.silent_parts``.
    """
    send, receive = anyio.create_memory_object_stream[WatchEvent](0)
    limiter = anyio.CapacityLimiter(2 * len(rules) + 1)  # each root keeps one thread, and needs another at times
    async with anyio.create_task_group() as tasks, send, receive:
        for ignore in rules.values():
            tasks.start_soon(_Root(ignore, send, timing or Timing(), limiter, silent).keep)
        yield receive
        tasks.cancel_scope.cancel()


class _Root:
    """One root, watched again whenever watching ends."""

    def __init__(
        self,
        ignore: Ignore,
        send: MemoryObjectSendStream[WatchEvent],
        timing: Timing,
        limiter: anyio.CapacityLimiter,
        silent: Silent,
    ) -> None:
        self.root = ignore.root
        self._ignore = ignore
        self._send = send
        self._timing = timing
        self._limiter = limiter
        self._silent = silent
        self._pending = Pending(timing.quiet, timing.longest)
        self._more = anyio.Event()
        self._told: WatchProblem | None = None
        self._pause = timing.retry

    async def keep(self) -> None:
        """Watch until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._emit)
            while True:
                identity = await self._there()
                await self._until_lost(identity)

    async def _emit(self) -> None:
        """Name each path when it has come to rest."""
        while True:
            due = self._pending.next_due()
            if due is None:
                self._more = anyio.Event()
                await self._more.wait()
                continue
            await anyio.sleep_until(due)
            paths = self._pending.take(anyio.current_time())
            if paths:
                await self._send.send(Changes(self.root, collapse(paths, self.root)))

    def _changed(self, paths: Iterable[str]) -> None:
        self._pending.add(paths, anyio.current_time())
        self._more.set()

    async def _there(self) -> tuple[int, int]:
        """Wait until the root exists; its identity."""
        identity = await self._thread(_identity, self.root)
        if identity is None:
            await self._problem(*GONE)
            self._changed([self.root])
            while identity is None:
                await anyio.sleep(self._timing.retry)
                identity = await self._thread(_identity, self.root)
        return identity

    async def _until_lost(self, identity: tuple[int, int]) -> None:
        """Watch this root until it is lost, or for ``poll`` seconds go without."""
        from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415  # 85 ms

        silent = await self._thread(self._silent, self.root)
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            if silent:
                await self._problem(*silence(silent, self.root))
                tasks.start_soon(self._poll, [part for part, _ in silent])
            try:
                if silent and silent[0][0] == self.root:
                    await self._until_other(identity)
                else:
                    await self._follow(identity, tasks.start_soon, quietly=bool(silent))
            except _Lost:
                self._changed([self.root])
            except (OSError, UnicodeError, WatchfilesRustInternalError) as error:
                log.info("%s: watching ended: %s", self.root, error)
                if anyio.current_time() - started > self._timing.poll:
                    self._pause = self._timing.retry
                await self._after(error)
            tasks.cancel_scope.cancel()

    async def _after(self, error: Exception) -> None:
        """Say what went wrong, if it does not mend itself, and wait before the next attempt."""
        if str(error).startswith("Unable to decode"):
            # Only this event was unreadable; the walk that follows the next start reads such names. Where they keep
            # changing, the pauses grow: every start walks the whole root.
            if self._pause >= self._timing.poll:
                await self._problem(*UNDECODABLE)
            await anyio.sleep(self._pause)
            self._pause = min(2 * self._pause, self._timing.poll)
            return
        await self._problem(*failure(error))
        self._changed([self.root])
        await anyio.sleep(self._timing.poll)

    async def _follow(self, identity: tuple[int, int], start: Callable[..., object], *, quietly: bool) -> None:
        """Take what the watcher tells, until it fails or the root is lost.

        Raises:
            _Lost: The root is gone or replaced.
        """
        stop = threading.Event()
        watcher, partial = await self._thread(_open, self.root)
        with closing(watcher):
            start(_set_when_cancelled, stop)
            if partial is not None:
                await self._problem(*unreadable(partial))
                start(self._poll, [self.root])
            elif not quietly:
                self._told = None
                await self._send.send(Watched(self.root))
            self._changed([self.root])
            full = False
            while True:
                batch = await self._thread(_next, watcher, self._ignore, self._timing, stop, identity)
                self._changed(batch.paths)
                if batch.full and not full:
                    full = True
                    await self._problem(*LIMIT)
                    start(self._poll, [self.root])

    async def _until_other(self, identity: tuple[int, int]) -> None:
        """Wait until something else is at the root's path.

        Raises:
            _Lost: It is so.
        """
        self._changed([self.root])
        while await self._thread(_identity, self.root) == identity:  # noqa: ASYNC110  # no event tells
            await anyio.sleep(self._timing.check)
        raise _Lost

    async def _poll(self, parts: list[str]) -> None:
        """Name what cannot be watched now and then."""
        while True:
            await anyio.sleep(self._timing.poll)
            self._changed(parts)

    async def _problem(self, reason: str, remedy: str) -> None:
        problem = WatchProblem(self.root, reason, remedy)
        if problem != self._told:
            self._told = problem
            await self._send.send(problem)

    async def _thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(function, *arguments, limiter=self._limiter)


async def _set_when_cancelled(stop: threading.Event) -> None:
    """Cancellation cannot interrupt the watcher's thread; the event can."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


def _open(root: str) -> tuple[RustNotify, PermissionError | None]:
    """Begin to watch a tree, and why a part of it is not watched. About 2 s per 100,000 files."""
    from watchfiles._rust_notify import RustNotify  # noqa: PLC0415

    try:
        return RustNotify([root], False, False, 0, True, False), None
    except PermissionError as error:
        return RustNotify([root], False, False, 0, True, True), error


def _next(
    watcher: RustNotify, ignore: Ignore, timing: Timing, stop: threading.Event, identity: tuple[int, int]
) -> _Batch:
    """Wait for changes, for the order to stop, or for ``check`` seconds.

    Raises:
        _Lost: The root is gone or replaced.
    """
    told = watcher.watch(int(_GROUP_S * 1000), int(timing.step * 1000), int(timing.check * 1000), stop)
    changes = set() if isinstance(told, str) else told
    if (_DELETED, ignore.root) in changes or _identity(ignore.root) != identity:
        raise _Lost
    paths = relevant({path for _, path in changes}, ignore)
    return _Batch(paths, _is_full(paths))


def _is_full(paths: Iterable[str]) -> bool:
    """Whether new directories went unwatched for want of room: seen by asking for one more watch."""
    from watchfiles._rust_notify import RustNotify  # noqa: PLC0415

    directory = next((path for path in paths if os.path.isdir(path)), None)
    if directory is None:
        return False
    try:
        RustNotify([directory], False, False, 0, False, False).close()
    except (OSError, RuntimeError) as error:
        return is_limit(error)
    return False


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of the root, None if it is not there."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
