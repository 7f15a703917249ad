"""The one thread on which every model is loaded, run and dropped.

Why one, and why ours: each thread that ran torch keeps a team of its own (measured: two more OS threads per thread
on two cores), a pool gives its token back while an abandoned job still runs (measured on asyncio: two models at
once), and pool threads are not daemons, so a load that hangs would hold the process open.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from anyio.lowlevel import current_token

from indexer.model.failure import Failure, classify, failure

T = TypeVar("T")
log = logging.getLogger(__name__)


class Runner(Protocol):
    """Runs jobs one at a time, in order, off the event loop. Virtual-time tests bring their own."""

    def submit(self, job: Callable[[], T], done: Callable[[T | Failure], None]) -> None:
        """Run ``job`` after those before it, then call ``done`` on the loop with its result or failure.

        ``done`` is called exactly once, also when the thread dies.
        """

    def post(self, call: Callable[[], None]) -> None:
        """From within a job: have ``call`` called on the loop soon, in order."""

    def close(self) -> None:
        """Take no more jobs and fail the pending ones. Does not wait for a running one."""


class ModelThread:
    """One daemon thread, started with the first job and again after a death. Create it on the event loop."""

    def __init__(self, name: str = "model") -> None:
        native: Any = current_token().native_token
        # asyncio's loop has the one, trio's token the other; neither blocks the thread on a busy loop.
        self._to_loop = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        self._context = contextvars.copy_context()
        self._name = name
        self._numbers = itertools.count(1)
        self._pending: dict[int, Callable[[Any], None]] = {}  # touched on the loop only
        self._jobs: queue.SimpleQueue[tuple[int, Callable[[], object]] | None] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def ident(self) -> int | None:
        """The running thread's identifier, or None."""
        return self._thread.ident if self._thread is not None else None

    def submit(self, job: Callable[[], T], done: Callable[[T | Failure], None]) -> None:
        """Queue a job (see ``Runner``). Call it on the event loop."""
        number = next(self._numbers)
        self._pending[number] = done
        if self._closed:
            self.post(lambda: self._finish(number, failure("stopping", "The model thread has been closed.")))
            return
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True)
            self._thread.start()
        self._jobs.put((number, job))

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` called on the loop soon; nothing happens when the loop has ended."""
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everybody who could care
            self._to_loop(lambda: self._context.run(call))

    def close(self) -> None:
        """End the thread after the running job and fail every pending job."""
        self._closed = True
        if self._jobs is not None:
            self._jobs.put(None)
        self._fail_pending("stopping", "The model thread was closed before the job ended.")

    def _work(self, jobs: queue.SimpleQueue[tuple[int, Callable[[], object]] | None]) -> None:
        try:
            while (entry := jobs.get()) is not None:
                number, job = entry
                entry = None
                self._run(number, job)
                del job
        except SystemExit:
            log.exception("a job ended the model thread; the next job starts a new one")
        finally:
            self.post(lambda: self._died(jobs))

    def _run(self, number: int, job: Callable[[], object]) -> None:
        # A frame of its own: once it is left, the thread refers to neither job nor result while it waits.
        try:
            result: object = job()
        except Exception as error:
            result = classify(error)
            if result.code == "internal":
                log.error("job on the model thread failed: %s", traceback.format_exc())
        self.post(lambda: self._finish(number, result))

    def _finish(self, number: int, result: object) -> None:
        done = self._pending.pop(number, None)
        if done is not None:
            done(result)

    def _died(self, jobs: queue.SimpleQueue[tuple[int, Callable[[], object]] | None]) -> None:
        if self._jobs is jobs:  # the next job starts a new thread
            self._jobs = self._thread = None
            self._fail_pending("thread_died", "The model thread ended in the middle of a job.")

    def _fail_pending(self, code: str, message: str) -> None:
        pending, self._pending = self._pending, {}
        for done in pending.values():
            done(failure(code, message))
