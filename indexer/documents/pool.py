"""The parser pool: files in, documents out, whatever a file does to the process that reads it.

A ladder of three steps, each shown in ``status``:

    pool                   long-lived worker processes, started on demand, ended when idle
    process per file       when they do not start: one short-lived process a file
    plain text only        when that fails too: plain text goes on in this process, everything else waits

``parse`` reads plain text, Markdown and source code in this process: that is only decoding. ``prepare`` has every
file read and cut in a worker, so that this process's interpreter stays free for searches.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from indexer.documents.parse import LibraryMissing, Parsed, ParseLimits, format_of, parse_here
from indexer.documents.pool_status import PoolStatus, PoolTiming, State, Step, WorkerLog, lacking, remedy
from indexer.documents.worker_process import (
    WORKER,
    NoInterpreter,
    NotStarted,
    ParserDied,
    ParserProcess,
    found_interpreter,
    greeted,
    launch,
)
from indexer.documents.worker_protocol import CutOrder, NotCut, Prepared
from indexer.errors import ParseFailed
from indexer.types import File

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


__all__ = ["LibraryMissing", "ParserDied", "Parsers", "ParsersUnavailable", "open_parsers"]

_DEATHS = 3
"""Processes lost in a row over files to cut before it is taken for the cutting's fault, not the files'."""


class ParsersUnavailable(ParseFailed):
    """No parser process can be started: the file itself may be well and should be tried again later."""


@asynccontextmanager
async def open_parsers(
    workers: int = 1,
    interpreter: str | None = None,
    limits: ParseLimits | None = None,
    timing: PoolTiming | None = None,
    module: str = WORKER,
) -> AsyncIterator[Parsers]:
    """Lend a parser pool; no process starts before the first file that needs one, none is left behind.

    Args:
        workers: Processes at most.
        interpreter: A Python to run them with instead of this one.
        limits: What one file may cost.
        timing: How patient the pool is.
        module: The program of the processes; ``WORKER`` only parses.
    """
    async with anyio.create_task_group() as tasks:
        parsers = Parsers(workers, interpreter, limits or ParseLimits(), timing or PoolTiming(), module, tasks)
        try:
            yield parsers
        finally:
            await parsers.close()
            tasks.cancel_scope.cancel()


class Parsers:
    """Parses and cuts files in at most ``workers`` processes. Made by ``open_parsers``."""

    def __init__(
        self,
        workers: int,
        interpreter: str | None,
        limits: ParseLimits,
        timing: PoolTiming,
        module: str,
        tasks: TaskGroup,
    ) -> None:
        self.workers = workers
        self._setting = interpreter
        self._module = module
        self._limits = limits
        self._timing = timing
        self._tasks = tasks
        self._seats = anyio.CapacityLimiter(workers)
        self._living: list[ParserProcess] = []
        self._resting = IdleWorkers(tasks, timing.idle, self._living.remove)
        self._starting = 0
        self._start_lock = anyio.Lock()
        self._complaints = WorkerLog()
        self._restarts = self._parsed = 0
        self._deaths = 0
        self._cut_from = 0.0  # time.monotonic() before which nothing is cut in a worker
        self._step: Step = "pool"
        self._fell_at = 0.0
        self._detail = ""
        self._network = ""
        self._missing: tuple[str, ...] = ()
        self._interpreter = found_interpreter(interpreter)

    async def parse(self, file: File) -> Parsed:
        """Read a file and say what is in it; each file is read at most once.

        Raises:
            ParseSkipped: It is not indexed on purpose; the message says why.
            LibraryMissing: The interpreter of the parsers lacks the package that reads it.
            ParseFailed: It cannot be read; the message says why.
            ParserDied: The process that read it crashed, hung or was killed.
            ParsersUnavailable: It needs a parser process and none can be started.
        """
        found = await to_thread.run_sync(format_of, file.path)
        if found.in_process:
            return await to_thread.run_sync(parse_here, file.path, self._limits)
        async with self._seats:
            self._climb()
            if self._step == "pool":
                parser = await self._take()
                if parser is not None:
                    return await self._ask(parser, file)
            if self._step == "process per file":
                return await self._ask_once(file)
            raise ParsersUnavailable(f"waits for a parser process: {self._detail}")

    @property
    def cold(self) -> bool:
        """Whether no process lives: a few small files are read sooner than one has started."""
        return not self._living and not self._starting

    async def prepare(self, file: File, order: CutOrder) -> Prepared | None:
        """Have a file read and cut in a worker; None when none can do that now, so that the caller must.

        Raises:
            ParseSkipped, LibraryMissing, ParseFailed, ParserDied: As ``parse``.
        """
        if not order.tokenizer or time.monotonic() < self._cut_from:
            return None
        async with self._seats:
            self._climb()
            parser = await self._take() if self._step == "pool" else None
            if parser is None or not parser.cuts:
                if parser is not None:
                    self._resting.put(parser)
                return None
            try:
                made = await parser.prepare(file.path, self._limits, file.size, order)
                self._deaths = 0
                return made
            except NotCut as error:
                self._leave_cutting(f"it cannot cut files: {error}", parser.pid)
            except ParserDied:
                self._deaths += 1
                if self._deaths >= _DEATHS:
                    self._leave_cutting(f"{_DEATHS} processes in a row died over files to cut", parser.pid)
                raise
            finally:
                await self._after(parser)
        return None

    def status(self) -> PoolStatus:
        """A snapshot; never waits."""
        living = [parser for parser in self._living if parser.alive]
        state: State = "running" if living else "starting" if self._starting else "stopped"
        if self._step != "pool":
            state = "degraded" if self._step == "process per file" else "unavailable"
        return PoolStatus(
            state=state,
            step=self._step,
            workers=len(living),
            busy=sum(parser not in self._resting for parser in living),
            restarts=self._restarts,
            parsed=self._parsed,
            pids=tuple(parser.pid for parser in living),
            interpreter=self._interpreter,
            network=self._network,
            missing=self._missing,
            last_errors=self._complaints.last("error"),
            warnings=self._complaints.last("warning"),
            detail=self._detail or lacking(self._missing),
            remedy=remedy(self._interpreter, self._missing, self._step, self._timing.retry),
        )

    async def close(self) -> None:
        """End every process; called by ``open_parsers``."""
        living, resting = list(self._living), [parser in self._resting for parser in self._living]
        self._resting.clear()
        self._living.clear()
        for parser, idle in zip(living, resting, strict=True):
            await (parser.close() if idle else parser.kill())

    async def _take(self) -> ParserProcess | None:
        """A ready process: an idle one that still lives, else a new one; None when none starts (the step is lower)."""
        while (parser := self._resting.take()) is not None:
            if parser.alive:
                return parser
            self._complaints.add("error: a parser process died while it was idle", parser.pid, "error")
            await self._drop(parser)
        # One start at a time: when starting fails, the others must not try it all over again.
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
                self._fall("plain text only", str(error))
                return None
            except NotStarted as error:
                self._complaints.add(f"attempt {attempt} of {self._timing.attempts}: {error}", level="error")
                self._detail = self._why(str(error))
                continue
            self._living.append(parser)
            self._network, self._missing, self._detail = parser.network, parser.missing, ""
            return parser
        self._fall("process per file", self._detail)
        return None

    async def _launch(self, *, once: bool) -> ParserProcess:
        """A greeted process.

        Raises:
            NoInterpreter: There is no Python or no worker module.
            NotStarted: It did not come up.
        """
        memory, module = self._limits.memory_bytes, self._module
        how = await to_thread.run_sync(lambda: launch(self._setting, memory, once=once, module=module))
        return await greeted(how, self._tasks, self._complaints, self._timing.ready)

    async def _ask(self, parser: ParserProcess, file: File) -> Parsed:
        try:
            return await parser.ask(file.path, self._limits, file.size)
        finally:
            await self._after(parser)

    async def _after(self, parser: ParserProcess) -> None:
        """A file is done: the process waits for the next, or goes."""
        self._parsed += 1
        if parser.alive:
            self._resting.put(parser)
        else:
            await self._drop(parser)

    def _leave_cutting(self, why: str, pid: int) -> None:
        """Have files cut in this process for a while."""
        self._deaths = 0
        self._cut_from = time.monotonic() + self._timing.retry
        self._complaints.add(f"warning: {why}; files are cut in the server's process meanwhile", pid, "warning")

    async def _ask_once(self, file: File) -> Parsed:
        """One file, one process; when not even that starts, the last step of the ladder is reached."""
        try:
            parser = await self._launch(once=True)
        except (NotStarted, NoInterpreter) as error:
            self._complaints.add(str(error), level="error")
            self._fall("plain text only", self._why(str(error)))
            raise ParsersUnavailable(f"waits for a parser process: {self._detail}") from None
        self._living.append(parser)
        self._network, self._missing = parser.network, parser.missing
        try:
            return await parser.ask(file.path, self._limits, file.size)
        finally:
            self._parsed += 1
            self._living.remove(parser)
            await parser.close()

    async def _drop(self, parser: ParserProcess) -> None:
        """Forget a process that crashed, was killed or has grown too large."""
        self._restarts += 1
        if parser in self._living:
            self._living.remove(parser)
        await parser.kill()

    def _fall(self, step: Step, why: str) -> None:
        self._step, self._detail, self._fell_at = step, why, time.monotonic()

    def _climb(self) -> None:
        """Try the top of the ladder again after a while."""
        if self._step != "pool" and time.monotonic() - self._fell_at >= self._timing.retry:
            self._step = "pool"

    def _why(self, reason: str) -> str:
        """The reason and the last thing a process said about it."""
        said = [c.text for c in self._complaints.last("error") if c.pid]
        return f"parser processes do not start: {reason}" + (f'; the last said "{said[-1][:200]}"' if said else "")


# Idle workers -------------------------------------------------------------------------------------------------------
# Parser processes between two files: each is kept for a while, then ended.


class IdleWorkers:
    """Idle processes.

    Args:
        tasks: Where their time runs.
        patience: Seconds until one that nobody takes is ended.
        ended: Called with a process that is about to be ended.
    """

    def __init__(self, tasks: TaskGroup, patience: float, ended: Callable[[ParserProcess], None]) -> None:
        self._tasks = tasks
        self._patience = patience
        self._ended = ended
        self._idle: list[tuple[ParserProcess, anyio.CancelScope]] = []

    def __contains__(self, parser: ParserProcess) -> bool:
        return any(parser is idle for idle, _ in self._idle)

    def put(self, parser: ParserProcess) -> None:
        """Keep a process for the next file."""
        expiry = anyio.CancelScope()
        self._idle.append((parser, expiry))
        self._tasks.start_soon(self._expire, parser, expiry)

    def take(self) -> ParserProcess | None:
        """The process that rested last, living or not; None when there is none."""
        if not self._idle:
            return None
        parser, expiry = self._idle.pop()
        expiry.cancel()
        return parser

    def clear(self) -> None:
        """Forget all of them; ending them is the caller's."""
        while self.take() is not None:
            pass

    async def _expire(self, parser: ParserProcess, expiry: anyio.CancelScope) -> None:
        with expiry:
            await anyio.sleep(self._patience)
            # From here to the removal nothing waits, so nobody can take it in between.
            self._idle.remove((parser, expiry))
            self._ended(parser)
            await parser.close()
