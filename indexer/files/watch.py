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

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from indexer.files.ignore import IGNORE_FILES, Ignore, Level
from indexer.files.mounts import silent_parts

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

log = logging.getLogger(__name__)


# Paths are str with surrogates:


__all__ = ["Changes", "Timing", "WatchEvent", "WatchProblem", "Watched", "watch"]

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
    try:
        return _watcher(root), None
    except PermissionError as error:
        return _watcher(root, skip_unreadable=True), error


def _watcher(root: str, *, recursive: bool = True, skip_unreadable: bool = False) -> RustNotify:
    from watchfiles._rust_notify import RustNotify  # noqa: PLC0415  # 85 ms

    return RustNotify([root], False, False, 0, recursive, skip_unreadable)


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
    directory = next((path for path in paths if os.path.isdir(path)), None)
    if directory is None:
        return False
    try:
        _watcher(directory, recursive=False).close()
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


# Watch events -------------------------------------------------------------------------------------------------------
# What watching tells, and its timing.


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths to look at again.

    Attributes:
        root: The folder.
        paths: Files or directories (each with all below it), there or gone; the root itself when anything may have
            changed. None lies below another.
    """

    root: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """A root is watched, at first or again.

    ``Changes`` of the whole root follow: what happened before is not known.
    """

    root: str


@dataclass(frozen=True, slots=True)
class WatchProblem:
    """A root is not watched, or not all of it.

    That part is named in ``Changes`` every ``Timing.poll`` seconds instead, until ``Watched`` says otherwise.

    Attributes:
        root: The folder.
        reason: Why, one sentence.
        remedy: What the user can do, one sentence.
    """

    root: str
    reason: str
    remedy: str


WatchEvent: TypeAlias = Changes | Watched | WatchProblem


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for what, seconds.

    Attributes:
        quiet: A path is named when it has not changed for this long,
        longest: or this long after its first change.
        step: How often the watcher's thread looks for events and for the order to stop.
        retry: Between looks for a root that is gone (a mount raises no event), and between attempts to watch again.
        poll: Between rescans of what cannot be watched.
        check: Without events, how often the root is compared with the one being watched (an unmount is silent).
    """

    quiet: float = 1.5
    longest: float = 10.0
    step: float = 0.2
    retry: float = 10.0
    poll: float = 300.0
    check: float = 30.0


# Pending ------------------------------------------------------------------------------------------------------------
# Changed paths that wait until their changes have come to rest.

# Paths are str with surrogates:


MANY = 1000
"""Paths in one batch above which it names their directories instead."""


class Pending:
    """Debounce per path, with a limit for paths that never rest.

    Times are seconds of any one clock. Not thread-safe: one event loop uses it.

    Args:
        quiet: Seconds without a change after which a path is due.
        longest: Seconds after its first change at which it is due anyway.
    """

    def __init__(self, quiet: float, longest: float) -> None:
        self._quiet = quiet
        self._longest = longest
        self._seen: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, paths: Iterable[str], now: float) -> None:
        """Note that paths changed just now."""
        for path in paths:
            first, _ = self._seen.get(path, (now, now))
            self._seen[path] = (first, now)

    def next_due(self) -> float | None:
        """When the next path is due, None when there is none."""
        return min((self._due(first, last) for first, last in self._seen.values()), default=None)

    def take(self, now: float) -> list[str]:
        """Remove and return the paths that are due."""
        due = [path for path, (first, last) in self._seen.items() if self._due(first, last) <= now]
        for path in due:
            del self._seen[path]
        return due

    def _due(self, first: float, last: float) -> float:
        return min(last + self._quiet, first + self._longest)


def collapse(paths: Iterable[str], root: str) -> tuple[str, ...]:
    """The fewest paths to look at again: none below another, directories where there are more than ``MANY``."""
    left = _outermost(set(paths))
    while len(left) > MANY:
        left = _outermost({os.path.dirname(path) if path != root else root for path in left})
    return tuple(sorted(left))


def _outermost(paths: set[str]) -> set[str]:
    """The paths that lie below no other of them."""
    kept: set[str] = set()
    for path in paths:
        parent = os.path.dirname(path)
        while parent not in paths and parent != os.path.dirname(parent):
            parent = os.path.dirname(parent)
        if parent not in paths or parent == path:
            kept.add(path)
    return kept


# Relevant -----------------------------------------------------------------------------------------------------------
# Which of the changed paths matter.

# Paths are str with surrogates:


def relevant(paths: Iterable[str], ignore: Ignore) -> set[str]:
    """Drop what the rules leave out and what was reached through a link. Blocking: run it in a thread.

    A secret is kept, so that it gets reported; an ignore file stands for its directory, whose files it rules.

    Args:
        paths: Absolute, there or gone.
        ignore: The rules of their root.
    """
    levels: dict[str, tuple[Level, ...] | None] = {}
    found: set[str] = set()
    for path in paths:
        if path == ignore.root:
            found.add(path)
            continue
        parent, name = os.path.split(path)
        if parent not in levels:
            levels[parent] = _levels(parent, ignore)
        here = levels[parent]
        if here is None:
            continue
        if name in IGNORE_FILES:
            found.add(parent)
            continue
        verdict = ignore.entry(here, path, name, os.path.isdir(path) and not os.path.islink(path))
        if not verdict.ignored or verdict.secret:
            found.add(path)
    return found


def _levels(directory: str, ignore: Ignore) -> tuple[Level, ...] | None:
    """The rules inside a directory, None if it is left out, out of the root or behind a link."""
    inside = directory == ignore.root or directory.startswith(ignore.root.rstrip("/") + "/")
    if not inside or os.path.realpath(directory) != directory or ignore.verdict(directory, is_dir=True).ignored:
        return None
    return ignore.at(directory)


# Watch problems -----------------------------------------------------------------------------------------------------
# Why a folder is not watched, and what to do, in words.

LIMIT = (
    "the system's limit of watches is reached, so that not every directory is watched",
    "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl, "
    "or leave big directories out with exclude, and restart",
)
GONE = ("the folder is not there", "mount its disk or restore it; what was indexed is kept")
UNDECODABLE = (
    "files whose names are not valid UTF-8 keep changing in it, and each such change ends the watch",
    "rename them, or leave their directory out by moving it elsewhere; until then changes are found minutes later",
)
_NOTHING = "nothing to do: it is compared with the index now and then instead"


def unreadable(error: OSError) -> tuple[str, str]:
    """Reason and remedy when a directory refuses to be watched."""
    return (
        f"a directory cannot be read, so that not everything is watched: {error}",
        "allow this user to read it, or leave it out with exclude",
    )


def failure(error: Exception) -> tuple[str, str]:
    """Reason and remedy when the watcher fails."""
    return LIMIT if is_limit(error) else (f"it cannot be watched: {error}", _NOTHING)


def silence(parts: tuple[tuple[str, str], ...], root: str) -> tuple[str, str]:
    """Reason and remedy when parts of a root (path, file system type) send no events."""
    if parts[0][0] == root:
        return f"it is on a {parts[0][1]} file system, which reports no changes", _NOTHING
    names = ", ".join(f"{part} ({kind})" for part, kind in parts)
    return f"parts of it are on file systems that report no changes: {names}", _NOTHING


def is_limit(error: Exception) -> bool:
    """Whether watches (ENOSPC) or watchers (EMFILE) have run out, as watchfiles words it."""
    return "limit reached" in str(error) or "Too many open files" in str(error)
