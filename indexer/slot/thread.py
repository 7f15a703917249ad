"""The one thread on which every model is loaded, run and dropped, and how an unload releases memory.

Why one thread, and not one of a pool: each thread that ran torch keeps worker threads of its own (measured: two more
OS threads per thread on two cores), a pool gives its token back while an abandoned job still runs (measured on
asyncio: two models at once), and pool threads are not daemons, so a load that hangs would keep the process alive.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import gc
import itertools
import logging
import os
import queue
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anyio.lowlevel import current_token

from indexer.slot.embedder import Loader, Model
from indexer.slot.failure import Failure, classify, failure

log = logging.getLogger(__name__)


T = TypeVar("T")


class Runner(Protocol):
    """Runs jobs one at a time, in order, off the event loop. Tests in virtual time have their own."""

    def submit(self, job: Callable[[], T], done: Callable[[T | Failure], None]) -> None:
        """Run ``job`` after those submitted before, then call ``done`` on the loop with its result or failure.

        ``done`` is called exactly once, also when the thread dies.
        """

    def post(self, call: Callable[[], None]) -> None:
        """From within a job: have ``call`` called on the loop soon, in order."""

    def close(self) -> None:
        """Accept no more jobs and fail the pending ones. Does not wait for the running one."""


class ModelThread:
    """One daemon thread, started with the first job and again after a death. Create it on the event loop."""

    def __init__(self, name: str = "model") -> None:
        native: Any = current_token().native_token
        # The first is asyncio's, the second trio's; neither blocks the thread while the loop is busy.
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
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits for the call
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
        # A function of its own, so that the thread refers to neither job nor result while it waits for the next.
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


# Memory -------------------------------------------------------------------------------------------------------------
# Measured on a CPU with a 1278 MiB model: ``del`` alone frees nothing (a module graph is cyclic), ``gc.collect``
# frees the weights but glibc kept up to 1160 MiB of them until ``malloc_trim``, and some hundred MiB (imported
# libraries) stay until the process ends. Resident memory includes mapped weight files, so anonymous memory is the
# figure to judge by.


def malloc_trim() -> None:
    """Return free heap pages to the system where the C library is glibc; nothing elsewhere."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


@dataclass(frozen=True, slots=True)
class ReleaseSteps:
    """The process-wide steps that release memory; tests replace them by cheaper ones.

    Attributes:
        collect: Full garbage collection.
        freeze: Exempt everything imported so far from collection, once, before any model exists: this cut
            collections after an unload from 0.6 s to 8 ms, and they hold the GIL.
        trim: Return free heap pages to the system.
    """

    collect: Callable[[], object] = gc.collect
    freeze: Callable[[], None] = gc.freeze
    trim: Callable[[], None] = malloc_trim


@dataclass(frozen=True, slots=True)
class UnloadResult:
    """What an unload did. Bytes of anonymous memory, None where the platform does not tell.

    Attributes:
        leaked: The model object was still referenced after two attempts.
        problems: A sentence for each step that failed; the other steps were done.
    """

    before: int | None
    after: int | None
    leaked: bool
    problems: tuple[str, ...]


def freeze_imports(release_steps: ReleaseSteps) -> int | None:
    """Freeze what has been imported, before any model is loaded; returns the anonymous memory it takes, bytes."""
    release_steps.collect()
    release_steps.freeze()
    return anonymous_bytes()


def release_memory(loader: Loader, release_steps: ReleaseSteps) -> tuple[str, ...]:
    """Collect, empty the device's caches, trim the heap; returns a sentence for each step that failed."""
    release_steps.collect()
    release_steps.collect()  # finalizers of the first round may have freed the rest of a cycle
    problems = _problems_of(loader.release)
    release_steps.trim()
    return problems


def unload(box: list[Model], loader: Loader, release_steps: ReleaseSteps) -> UnloadResult:
    """Drop the model in ``box``, the only reference to it, and check that it is gone. On the model thread."""
    before = anonymous_bytes()
    model = weakref.ref(box[0])
    problems = _problems_of(box[0].close)  # no local name for the model: ``box.clear`` must drop the last reference
    box.clear()
    problems += release_memory(loader, release_steps)
    if model() is not None:
        problems += release_memory(loader, release_steps)
    return UnloadResult(before, anonymous_bytes(), model() is not None, problems)


def _problems_of(step: Callable[[], None]) -> tuple[str, ...]:
    # A step that fails must not keep the next from running: its error becomes a sentence.
    try:
        step()
    except Exception as error:
        return (classify(error).message,)
    return ()


def resident_bytes() -> int | None:
    """Resident memory of this process."""
    found = _proc_status("VmRSS")
    if found is not None or sys.platform == "linux":
        return found
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - only where there is no /proc

    return int(psutil.Process().memory_info().rss)


def anonymous_bytes() -> int | None:
    """Resident memory that no file backs; None where the platform does not tell."""
    return _proc_status("RssAnon")


def device_bytes() -> tuple[int | None, int | None]:
    """Memory torch holds on the accelerator, allocated and reserved; None without torch or accelerator.

    Never imports torch: it asks only a torch that a load has imported.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):  # absent, or still being imported
        return None, None
    if torch.cuda.is_initialized():
        return int(torch.cuda.memory_allocated()), int(torch.cuda.memory_reserved())
    mps = getattr(torch, "mps", None)
    if sys.platform == "darwin" and mps is not None and torch.backends.mps.is_available():
        return int(mps.current_allocated_memory()), int(mps.driver_allocated_memory())
    return None, None


def _proc_status(name: str) -> int | None:
    if sys.platform != "linux":
        return None
    for line in Path(f"/proc/{os.getpid()}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None
