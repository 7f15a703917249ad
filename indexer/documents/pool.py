"""The parser pool: files in, documents out, whatever a file does to the process that reads it.

It degrades in three steps, shown in ``status``:

    pool                   long-lived worker processes, started on demand, ended when idle
    process per file       when they do not start: one short-lived process per file
    plain text only        when that fails too: plain text is read in this process, everything else waits

``parse`` reads plain text, Markdown and source code in this process: that is only decoding. ``prepare`` has every
file read and chunked in a worker, so that this process's interpreter stays free for searches.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from indexer.documents.parse import LibraryMissing, Parsed, ParseLimits, parse_if_plain
from indexer.documents.pool_status import (
    PoolStatus,
    PoolTiming,
    State,
    Step,
    WorkerLog,
    failing_text,
    missing_text,
    network_of,
    remedy,
)
from indexer.documents.secret_policy import SecretPolicy
from indexer.documents.worker_process import (
    Launch,
    NoInterpreter,
    NotStarted,
    ParserDied,
    ParserProcess,
    interpreter_or_empty,
    launch,
    start_confined,
    start_ready,
)
from indexer.documents.worker_protocol import ChunkingUnavailable, ChunkRequest, PreparedFile
from indexer.errors import ParseFailed
from indexer.types import File

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


__all__ = ["LibraryMissing", "ParserDied", "Parsers", "ParsersUnavailable", "open_parsers"]

_MOST_DEATHS_IN_A_ROW = 3
"""Processes that may die in a row while chunking, before chunking and not the files is taken for the cause."""


class ParsersUnavailable(ParseFailed):
    """No worker process can be started: the file is not at fault and should be tried again later."""


@asynccontextmanager
async def open_parsers(
    workers: int = 1,
    interpreter: str | None = None,
    limits: ParseLimits | None = None,
    timing: PoolTiming | None = None,
    secrets: SecretPolicy | None = None,
) -> AsyncIterator[Parsers]:
    """Open a parser pool. No process starts before the first file that needs one; all are ended on exit.

    Args:
        workers: Processes at most.
        interpreter: A Python to run them with instead of this one.
        limits: What one file may cost.
        timing: Time limits of the pool.
        secrets: Which secrets are not blanked; None: all are.
    """
    async with anyio.create_task_group() as tasks:
        parsers = Parsers(
            workers, interpreter, limits or ParseLimits(), timing or PoolTiming(), tasks, secrets or SecretPolicy()
        )
        try:
            yield parsers
        finally:
            await parsers.close()
            tasks.cancel_scope.cancel()


class Parsers:
    """Parses and chunks files in at most ``workers`` processes. Made by ``open_parsers``."""

    def __init__(
        self,
        workers: int,
        interpreter: str | None,
        limits: ParseLimits,
        timing: PoolTiming,
        tasks: TaskGroup,
        secrets: SecretPolicy,
    ) -> None:
        self.workers = workers
        self._interpreter_setting = interpreter
        self._limits = limits
        self._secrets = secrets
        self._timing = timing
        self._tasks = tasks
        self._limiter = anyio.CapacityLimiter(workers)
        self._processes: list[ParserProcess] = []
        self._idle_workers = IdleWorkers(tasks, timing.idle, self._processes.remove)
        self._starting = 0
        self._start_lock = anyio.Lock()
        self._log = WorkerLog()
        self._restarts = self._parsed = 0
        self._deaths_in_a_row = 0
        self._chunking_paused_until = 0.0  # time.monotonic() before which no worker chunks files
        self._step: Step = "pool"
        self._degraded_at = 0.0
        self._detail = ""
        self._parser: ParserProcess | None = None  # the last that started: what it said of itself holds for the next
        self._interpreter = interpreter_or_empty(interpreter)

    async def parse(self, file: File) -> Parsed:
        """Parse a file; it is read at most once.

        Raises:
            ParseSkipped: It is not indexed on purpose; the message says why.
            LibraryMissing: The interpreter of the parsers lacks the package that reads it.
            ParseFailed: It cannot be read; the message says why.
            ParserDied: The process that read it crashed, hung or was killed.
            ParsersUnavailable: It needs a parser process and none can be started.
        """
        parsed = await to_thread.run_sync(parse_if_plain, file, self._limits_for(file))
        if parsed is not None:
            return parsed
        async with self._limiter:
            self._retry_pool()
            if self._step == "pool":
                parser = await self._acquire()
                if parser is not None:
                    return await self._parse_with(parser, file)
            if self._step == "process per file":
                return await self._parse_in_new_process(file)
            raise ParsersUnavailable(f"waits for a parser process: {self._detail}")

    @property
    def no_process(self) -> bool:
        """Whether no process runs: a few small files are read sooner than one has started."""
        return not self._processes and not self._starting

    @property
    def never_chunks(self) -> bool:
        """Whether the Python of the parsers lacks what cutting files needs: another attempt is in vain."""
        return self._parser is not None and not self._parser.can_chunk

    async def prepare(self, file: File, order: ChunkRequest) -> PreparedFile | None:
        """Have a file read and chunked in a worker; None when no worker can do that now, so that the caller must.

        Raises:
            ParseSkipped, LibraryMissing, ParseFailed, ParserDied: As ``parse``.
        """
        if not order.tokenizer or time.monotonic() < self._chunking_paused_until:
            return None
        async with self._limiter:
            self._retry_pool()
            parser = await self._acquire() if self._step == "pool" else None
            if parser is None or not parser.can_chunk:
                if parser is not None:
                    self._idle_workers.add(parser)
                return None
            try:
                made = await parser.prepare(file, self._limits_for(file), order)
                self._deaths_in_a_row = 0
                return made
            except ChunkingUnavailable as error:
                self._pause_chunking(f"it cannot cut files: {error}", parser.pid)
            except ParserDied:
                self._deaths_in_a_row += 1
                if self._deaths_in_a_row >= _MOST_DEATHS_IN_A_ROW:
                    self._pause_chunking(
                        f"{_MOST_DEATHS_IN_A_ROW} processes in a row died over files to cut", parser.pid
                    )
                raise
            finally:
                await self._release(parser)
        return None

    def status(self) -> PoolStatus:
        """A snapshot; never waits."""
        running = [parser for parser in self._processes if parser.alive]
        state: State = "running" if running else "starting" if self._starting else "stopped"
        told = self._parser
        missing = told.missing if told else ()
        if self._step != "pool":
            state = "degraded" if self._step == "process per file" else "unavailable"
        return PoolStatus(
            state=state,
            step=self._step,
            workers=len(running),
            busy=sum(parser not in self._idle_workers for parser in running),
            restarts=self._restarts,
            parsed=self._parsed,
            pids=tuple(parser.pid for parser in running),
            interpreter=self._interpreter,
            network=network_of(told.steps) if told else "",
            refused=told.refused if told else (),
            limits_missing=tuple(f"{name}: {why}" for name, why in told.unavailable.items()) if told else (),
            missing=missing,
            last_errors=self._log.last("error"),
            warnings=self._log.last("warning"),
            detail=self._detail or missing_text(missing) or failing_text(told.failing if told else ()),
            remedy=remedy(self._interpreter, missing, self._step, self._timing.retry),
        )

    async def close(self) -> None:
        """End every process; called by ``open_parsers``."""
        processes, idle_ones = list(self._processes), [parser in self._idle_workers for parser in self._processes]
        self._idle_workers.clear()
        self._processes.clear()
        for parser, idle in zip(processes, idle_ones, strict=True):
            await (parser.close() if idle else parser.kill())

    def _limits_for(self, file: File) -> ParseLimits:
        """What a file may cost, and which of its secrets are shown."""
        shown = self._secrets.shown_in(file.folder, file.path)
        return self._limits if shown == self._limits.shown_secrets else replace(self._limits, shown_secrets=shown)

    async def _acquire(self) -> ParserProcess | None:
        """A process: an idle one that still runs, else a new one; None when none starts, and the pool has degraded."""
        while (parser := self._idle_workers.take()) is not None:
            if parser.alive:
                return parser
            self._log.add("error: a parser process died while it was idle", parser.pid, "error")
            await self._discard(parser)
        # One start at a time: when it fails, the waiting callers must not repeat all attempts.
        self._starting += 1
        try:
            async with self._start_lock:
                return await self._start() if self._step == "pool" else None
        finally:
            self._starting -= 1

    async def _start(self) -> ParserProcess | None:
        for attempt in range(1, self._timing.attempts + 1):
            if attempt > 1:
                await anyio.sleep(self._timing.pause)
            try:
                parser = await self._launch(once=False)
            except NoInterpreter as error:
                self._degrade("plain text only", str(error))
                return None
            except NotStarted as error:
                self._log.add(f"attempt {attempt} of {self._timing.attempts}: {error}", level="error")
                self._detail = self._why(str(error))
                continue
            self._processes.append(parser)
            self._detail = ""
            return parser
        self._degrade("process per file", self._detail)
        return None

    async def _launch(self, *, once: bool) -> ParserProcess:
        """Start a process and wait until it is ready.

        Raises:
            NoInterpreter: There is no Python or no worker module.
            NotStarted: It did not start.
        """
        setting, memory, told = self._interpreter_setting, self._limits.memory_bytes, self._parser
        tried = told is not None and not told.missing

        async def how(without: tuple[str, ...]) -> Launch:
            make = partial(launch, setting, memory, once=once, without=without, samples=not tried)
            return await to_thread.run_sync(make)

        if told is not None and tried:
            parser = await start_ready(await how(told.left_out), self._tasks, self._log, self._timing.ready)
            parser.failing = told.failing
        else:
            parser = await start_confined(how, self._tasks, self._log, self._timing.ready)
            if parser.left_out:
                why = "a library does not work with them"
                left_out = ", ".join(parser.left_out)
                self._log.add(f"warning: parsers run without the limits {left_out}: {why}", parser.pid)
        self._parser = parser
        return parser

    async def _parse_with(self, parser: ParserProcess, file: File) -> Parsed:
        try:
            return await parser.parse(file, self._limits_for(file))
        finally:
            await self._release(parser)

    async def _release(self, parser: ParserProcess) -> None:
        """Keep a process for the next file, or discard it if it has ended or is retired."""
        self._parsed += 1
        if parser.alive:
            self._idle_workers.add(parser)
        else:
            await self._discard(parser)

    def _pause_chunking(self, why: str, pid: int) -> None:
        """Let the callers chunk files themselves for a while."""
        self._deaths_in_a_row = 0
        self._chunking_paused_until = time.monotonic() + self._timing.retry
        self._log.add(f"warning: {why}; files are cut in the server's process meanwhile", pid, "warning")

    async def _parse_in_new_process(self, file: File) -> Parsed:
        """Parse one file in a process of its own; if that does not start, degrade to the last step."""
        try:
            parser = await self._launch(once=True)
        except (NotStarted, NoInterpreter) as error:
            self._log.add(str(error), level="error")
            self._degrade("plain text only", self._why(str(error)))
            raise ParsersUnavailable(f"waits for a parser process: {self._detail}") from None
        self._processes.append(parser)
        try:
            return await parser.parse(file, self._limits_for(file))
        finally:
            self._parsed += 1
            self._processes.remove(parser)
            await parser.close()

    async def _discard(self, parser: ParserProcess) -> None:
        """End and forget a process that crashed, was killed or is retired."""
        self._restarts += 1
        if parser in self._processes:
            self._processes.remove(parser)
        await parser.kill()

    def _degrade(self, step: Step, why: str) -> None:
        self._step, self._detail, self._degraded_at = step, why, time.monotonic()

    def _retry_pool(self) -> None:
        """Return to the pool if it degraded long enough ago."""
        if self._step != "pool" and time.monotonic() - self._degraded_at >= self._timing.retry:
            self._step = "pool"

    def _why(self, reason: str) -> str:
        """The reason and the last error that a process logged."""
        errors = [c.text for c in self._log.last("error") if c.pid]
        return f"parser processes do not start: {reason}" + (f'; the last said "{errors[-1][:200]}"' if errors else "")


# Idle workers -------------------------------------------------------------------------------------------------------
# Worker processes between two files: each is kept for a while, then ended.


class IdleWorkers:
    """Idle processes.

    Args:
        tasks: The task group of their timers.
        idle_timeout: Seconds after which an idle process is ended.
        ended: Called with a process that is about to be ended.
    """

    def __init__(self, tasks: TaskGroup, idle_timeout: float, ended: Callable[[ParserProcess], None]) -> None:
        self._tasks = tasks
        self._idle_timeout = idle_timeout
        self._ended = ended
        self._idle: list[tuple[ParserProcess, anyio.CancelScope]] = []

    def __contains__(self, parser: ParserProcess) -> bool:
        return any(parser is idle for idle, _ in self._idle)

    def add(self, parser: ParserProcess) -> None:
        """Keep a process for the next file."""
        expiry = anyio.CancelScope()
        self._idle.append((parser, expiry))
        self._tasks.start_soon(self._expire, parser, expiry)

    def take(self) -> ParserProcess | None:
        """Remove and return the process that became idle last, running or not; None when there is none."""
        if not self._idle:
            return None
        parser, expiry = self._idle.pop()
        expiry.cancel()
        return parser

    def clear(self) -> None:
        """Forget all of them; the caller ends them."""
        while self.take() is not None:
            pass

    async def _expire(self, parser: ParserProcess, expiry: anyio.CancelScope) -> None:
        with expiry:
            await anyio.sleep(self._idle_timeout)
            # No await from here to the removal, so that no caller can take it in between.
            self._idle.remove((parser, expiry))
            self._ended(parser)
            await parser.close()
