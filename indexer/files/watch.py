"""Watches folders for changed paths. A reported path is a hint to compare it with the index, not a fact.

Behaviour of watchfiles 1.3 (observed on Linux), and how it is handled here:

- A new or moved directory is one event, and files created in it at once may be missed: a reported path may be a
  directory, which the receiver walks.
- A root that is deleted and created again sends no events: a new watcher is created, and the whole root is reported.
- A name that is not UTF-8 makes every later call raise: a new watcher is created, and the whole root is reported.
- ``ignore_permission_denied`` also hides an exhausted watch limit and a missing root: the first attempt is without it.
- A limit that is reached later raises nothing: after new directories, one more watch is tried.
- Links to directories are followed: paths behind a link are dropped.
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
from indexer.files.walk import DIRECTORY_S, ENTRY_S

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

log = logging.getLogger(__name__)


# Paths are str with surrogates, hence os.path, not pathlib.

__all__ = ["Changes", "Timing", "WatchEvent", "WatchProblem", "Watched", "watch"]

Silent = Callable[[str], tuple[tuple[str, str], ...]]
T = TypeVar("T")

_DELETED = 3  # watchfiles.Change.deleted
_BATCH_S = 1.0  # one call of the watcher collects events for this long at most


# Watch events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths to compare with the index.

    Attributes:
        root: The folder.
        paths: Files or directories (each with all below it), existing or deleted; the root itself when anything may
            have changed. None is below another.
    """

    root: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """A root is watched now, for the first time or again.

    ``Changes`` of the whole root follow, because earlier changes are not known.
    """

    root: str


@dataclass(frozen=True, slots=True)
class WatchProblem:
    """A root is not watched, or not all of it.

    That part is reported in ``Changes`` every ``Timing.poll`` seconds instead, until ``Watched``.

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
    """Debounce and intervals, seconds.

    Attributes:
        quiet: A path is reported when it has not changed for this long,
        longest: or this long after its first change.
        step: How often the watcher's thread checks for events and for ``stop``.
        retry: Between checks for a missing root (a mount raises no event), and between attempts to watch again.
        poll: Between rescans of parts that cannot be watched.
        check: Without events, how often the identity of the root is checked (an unmount raises no event).
    """

    quiet: float = 1.5
    longest: float = 10.0
    step: float = 0.2
    retry: float = 10.0
    poll: float = 300.0
    check: float = 30.0


# Watching -----------------------------------------------------------------------------------------------------------


class _RootLost(Exception):
    """The watched root was deleted, moved or replaced."""


class _Batch(NamedTuple):
    """The result of one call of the watcher: relevant paths, and whether the limit of watches has been reached."""

    paths: set[str]
    full: bool


@asynccontextmanager
async def watch(
    rules: Mapping[str, Ignore], *, timing: Timing | None = None, silent: Silent = silent_parts
) -> AsyncIterator[MemoryObjectReceiveStream[WatchEvent]]:
    """Watch folders for as long as the block is open; yields a stream of events.

    A slow reader loses nothing: changes are collected until it reads them.

    Args:
        rules: The folders to watch, absolute and resolved, and the rules of each: ignored paths are not reported.
        timing: Debounce and pauses.
        silent: Returns the parts of a root that send no events and their file system, as ``mounts.silent_parts``.
    """
    send, receive = anyio.create_memory_object_stream[WatchEvent](0)
    limiter = anyio.CapacityLimiter(2 * len(rules) + 1)  # each root occupies one thread, and needs another at times
    async with anyio.create_task_group() as tasks, send, receive:
        for ignore in rules.values():
            tasks.start_soon(_Root(ignore, send, timing or Timing(), limiter, silent).run)
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
        self._added = anyio.Event()
        self._last_problem: WatchProblem | None = None
        self._pause = timing.retry

    async def run(self) -> None:
        """Watch until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_settled)
            while True:
                identity = await self._wait_for_root()
                await self._watch_until_lost(identity)

    async def _send_settled(self) -> None:
        """Report each path when it has stopped changing."""
        while True:
            due = self._pending.next_due()
            if due is None:
                self._added = anyio.Event()
                await self._added.wait()
                continue
            await anyio.sleep_until(due)
            paths = self._pending.take(anyio.current_time())
            if paths:
                await self._send.send(Changes(self.root, collapse(paths, self.root)))

    def _changed(self, paths: Iterable[str]) -> None:
        self._pending.add(paths, anyio.current_time())
        self._added.set()

    async def _wait_for_root(self) -> tuple[int, int]:
        """Wait until the root exists; returns its identity."""
        identity = await self._in_thread(_identity, self.root)
        if identity is None:
            await self._problem(*GONE)
            self._changed([self.root])
            while identity is None:
                await anyio.sleep(self._timing.retry)
                identity = await self._in_thread(_identity, self.root)
        return identity

    async def _watch_until_lost(self, identity: tuple[int, int]) -> None:
        """Watch this root until it is lost; if watching fails, pause."""
        from watchfiles._rust_notify import WatchfilesRustInternalError  # noqa: PLC0415  # 85 ms

        silent = await self._in_thread(self._silent, self.root)
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            if silent:
                await self._problem(*no_events(silent, self.root))
                tasks.start_soon(self._poll, [part for part, _ in silent])
            try:
                if silent and silent[0][0] == self.root:
                    await self._wait_until_replaced(identity)
                else:
                    await self._read_events(identity, tasks.start_soon, quietly=bool(silent))
            except _RootLost:
                self._changed([self.root])
            except (OSError, UnicodeError, WatchfilesRustInternalError) as error:
                log.info("%s: watching ended: %s", self.root, error)
                if anyio.current_time() - started > self._timing.poll:
                    self._pause = self._timing.retry
                await self._report_and_pause(error)
            tasks.cancel_scope.cancel()

    async def _report_and_pause(self, error: Exception) -> None:
        """Report the error unless a new attempt solves it, and wait before that attempt."""
        if str(error).startswith("Unable to decode"):
            # Only this event was unreadable; the walk after the next start reads such names. If they keep changing,
            # the pauses grow, because every start walks the whole root.
            if self._pause >= self._timing.poll:
                await self._problem(*UNDECODABLE)
            await anyio.sleep(self._pause)
            self._pause = min(2 * self._pause, self._timing.poll)
            return
        await self._problem(*failure(error))
        self._changed([self.root])
        await anyio.sleep(self._timing.poll)

    async def _read_events(self, identity: tuple[int, int], start: Callable[..., object], *, quietly: bool) -> None:
        """Read events of the watcher until it fails or the root is lost.

        Raises:
            _Lost: The root is gone or replaced.
        """
        stop = threading.Event()
        watcher, partial = await self._in_thread(_open, self.root)
        with closing(watcher):
            start(_set_when_cancelled, stop)
            if partial is not None:
                await self._problem(*unreadable(partial))
                start(self._poll, [self.root])
            elif not quietly:
                self._last_problem = None
                await self._send.send(Watched(self.root))
            self._changed([self.root])
            full = False
            while True:
                batch = await self._in_thread(_next_batch, watcher, self._ignore, self._timing, stop, identity)
                self._changed(batch.paths)
                if batch.full and not full:
                    full = True
                    await self._problem(*LIMIT)
                    start(self._poll, [self.root])

    async def _wait_until_replaced(self, identity: tuple[int, int]) -> None:
        """Wait until the root is gone or replaced.

        Raises:
            _RootLost: Always, then.
        """
        self._changed([self.root])
        while await self._in_thread(_identity, self.root) == identity:  # noqa: ASYNC110  # there is no event for it
            await anyio.sleep(self._timing.check)
        raise _RootLost

    async def _poll(self, parts: list[str]) -> None:
        """Report parts that cannot be watched every ``Timing.poll`` seconds."""
        while True:
            await anyio.sleep(self._timing.poll)
            self._changed(parts)

    async def _problem(self, reason: str, remedy: str) -> None:
        problem = WatchProblem(self.root, reason, remedy)
        if problem != self._last_problem:
            self._last_problem = problem
            await self._send.send(problem)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(function, *arguments, limiter=self._limiter)


async def _set_when_cancelled(stop: threading.Event) -> None:
    """Stop the watcher's thread on cancellation, which cannot interrupt it; the event can."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


def _open(root: str) -> tuple[RustNotify, PermissionError | None]:
    """Start to watch a tree; also returns why a part of it is not watched. About 2 s per 100,000 files."""
    try:
        return _watcher(root), None
    except PermissionError as error:
        return _watcher(root, skip_unreadable=True), error


def _watcher(root: str, *, recursive: bool = True, skip_unreadable: bool = False) -> RustNotify:
    from watchfiles._rust_notify import RustNotify  # noqa: PLC0415  # 85 ms

    return RustNotify([root], False, False, 0, recursive, skip_unreadable)


def _next_batch(
    watcher: RustNotify, ignore: Ignore, timing: Timing, stop: threading.Event, identity: tuple[int, int]
) -> _Batch:
    """Wait for changes, for ``stop``, or for ``Timing.check`` seconds.

    Raises:
        _RootLost: The root is gone or replaced.
    """
    answer = watcher.watch(int(_BATCH_S * 1000), int(timing.step * 1000), int(timing.check * 1000), stop)
    changes = set() if isinstance(answer, str) else answer
    if (_DELETED, ignore.root) in changes or _identity(ignore.root) != identity:
        raise _RootLost
    paths = relevant({path for _, path in changes}, ignore)
    return _Batch(paths, _limit_reached(paths))


def _limit_reached(paths: Iterable[str]) -> bool:
    """Whether new directories are not watched because the limit is reached: tested with one more watch."""
    directory = next((path for path in paths if os.path.isdir(path)), None)
    if directory is None:
        return False
    try:
        _watcher(directory, recursive=False).close()
    except (OSError, RuntimeError) as error:
        return is_limit(error)
    return False


def _identity(root: str) -> tuple[int, int] | None:
    """Device and inode of the root, None if it does not exist."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# Pending ------------------------------------------------------------------------------------------------------------
# Debounce: changed paths wait until they have stopped changing.


MANY = 1000
"""A batch with more paths has their directories instead."""


class Pending:
    """Debounce per path, with a limit for paths that keep changing.

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
        """Record that paths changed now."""
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
    """Reduce paths: none below another, and their directories where there are more than ``MANY``."""
    left = _outermost(set(paths))
    while len(left) > MANY:
        left = _outermost({os.path.dirname(path) if path != root else root for path in left})
    return tuple(sorted(left))


def _outermost(paths: set[str]) -> set[str]:
    """The paths that are below no other of them."""
    kept: set[str] = set()
    for path in paths:
        parent = os.path.dirname(path)
        while parent not in paths and parent != os.path.dirname(parent):
            parent = os.path.dirname(parent)
        if parent not in paths or parent == path:
            kept.add(path)
    return kept


# Relevant paths -----------------------------------------------------------------------------------------------------


def relevant(paths: Iterable[str], ignore: Ignore) -> set[str]:
    """Drop paths that are ignored or behind a link. Blocking: run it in a thread.

    A secret is kept, so that it is reported; an ignore file is replaced by its directory, to which its rules apply.
    So are paths whose rules there was no CPU time left to match: the walk of the directory has limits of its own.

    Args:
        paths: Absolute, existing or deleted.
        ignore: The rules of their root.
    """
    levels: dict[str, tuple[Level, ...] | None] = {}
    found: set[str] = set()
    began, allowed = ignore.clock(), DIRECTORY_S
    for path in paths:
        if path == ignore.root:
            found.add(path)
            continue
        parent, name = os.path.split(path)
        allowed += ENTRY_S
        if ignore.clock() - began > allowed:
            found.add(parent)
            continue
        if parent not in levels:
            levels[parent] = _levels_inside(parent, ignore)
        here = levels[parent]
        if here is None:
            continue
        if name in IGNORE_FILES:
            found.add(parent)
            continue
        verdict = ignore.entry_verdict(here, path, name, os.path.isdir(path) and not os.path.islink(path))
        if not verdict.ignored or verdict.secret:
            found.add(path)
    return found


def _levels_inside(directory: str, ignore: Ignore) -> tuple[Level, ...] | None:
    """The rules inside a directory, None if it is ignored, outside the root or behind a link."""
    inside = directory == ignore.root or directory.startswith(ignore.root.rstrip("/") + "/")
    if not inside or os.path.realpath(directory) != directory or ignore.verdict(directory, is_dir=True).ignored:
        return None
    return ignore.levels_at(directory)


# Watch problems -----------------------------------------------------------------------------------------------------
# Reason and remedy, for people.

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


def no_events(parts: tuple[tuple[str, str], ...], root: str) -> tuple[str, str]:
    """Reason and remedy when parts of a root (path, file system type) send no events."""
    if parts[0][0] == root:
        return f"it is on a {parts[0][1]} file system, which reports no changes", _NOTHING
    names = ", ".join(f"{part} ({kind})" for part, kind in parts)
    return f"parts of it are on file systems that report no changes: {names}", _NOTHING


def is_limit(error: Exception) -> bool:
    """Whether watches (ENOSPC) or watchers (EMFILE) have run out, by the message of watchfiles."""
    return "limit reached" in str(error) or "Too many open files" in str(error)
