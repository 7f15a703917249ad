"""The one thread on which every model is loaded, run and dropped.

Why one, and why ours: each thread that ran torch keeps a team of its own (measured: two more OS threads per thread
on two cores), a pool gives its token back while an abandoned job still runs (measured on asyncio: two models at
once), and pool threads are not daemons, so a load that hangs would hold the process open.
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


# Memory -------------------------------------------------------------------------------------------------------------
# Giving a model's memory back, and saying honestly how much came back.
#
# Measured on a CPU with a 1278 MiB model: ``del`` alone frees nothing (a module graph is cyclic), ``gc.collect``
# frees the weights but glibc kept up to 1160 MiB of them until ``malloc_trim``, and a floor of some hundred MiB
# (imported libraries) stays until the process ends. Resident memory counts mapped weight files too, so anonymous
# memory is the figure to judge by.


def malloc_trim() -> None:
    """Return free heap pages to the system where the C library is glibc; nothing elsewhere."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is not None:
        trim(0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The process-wide steps of giving memory back; tests bring cheaper ones.

    Attributes:
        collect: Full garbage collection.
        freeze: Move everything imported so far out of the collector's sight, once, before any model exists:
            it cut collections after an unload from 0.6 s to 8 ms, and they hold the GIL.
        trim: Return free heap pages.
    """

    collect: Callable[[], object] = gc.collect
    freeze: Callable[[], None] = gc.freeze
    trim: Callable[[], None] = malloc_trim


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What an unload did. Bytes of anonymous memory, None where the platform does not tell.

    Attributes:
        leaked: The model object was still referenced by somebody after two attempts.
        troubles: Sentences of what failed on the way; an unload goes on regardless.
    """

    before: int | None
    after: int | None
    leaked: bool
    breakers: tuple[str, ...]


def settle(recipe: Recipe) -> int | None:
    """After the first import of a runtime, before any model: freeze, and return the floor (anonymous bytes)."""
    recipe.collect()
    recipe.freeze()
    return anonymous_bytes()


def give_back(loader: Loader, recipe: Recipe) -> tuple[str, ...]:
    """Collect, empty the device's caches, trim the heap; returns sentences of what failed."""
    recipe.collect()
    recipe.collect()  # finalizers of the first round may have freed the rest of a cycle
    breakers = _attempt(loader.release)
    recipe.trim()
    return breakers


def unload(box: list[Model], loader: Loader, recipe: Recipe) -> Unloaded:
    """Drop the model in ``box`` (the only reference to it) by the recipe, and prove it. On the model thread."""
    before = anonymous_bytes()
    proof = weakref.ref(box[0])
    breakers = _attempt(box[0].close)
    box.clear()
    breakers += give_back(loader, recipe)
    if proof() is not None:
        breakers += give_back(loader, recipe)
    return Unloaded(before, anonymous_bytes(), proof() is not None, breakers)


def _attempt(step: Callable[[], None]) -> tuple[str, ...]:
    # An unload that fails half-way must not keep the other half: the sentence is recorded, the next step runs.
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
    import psutil  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415 - only where /proc is not

    return int(psutil.Process().memory_info().rss)


def anonymous_bytes() -> int | None:
    """Resident memory that no file backs; None where the platform does not tell."""
    return _proc_status("RssAnon")


def device_bytes() -> tuple[int | None, int | None]:
    """Memory torch holds on the accelerator, allocated and reserved; None without torch or accelerator.

    Looks at torch only if something else has imported it.
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
