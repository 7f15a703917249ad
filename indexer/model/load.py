"""One load: what is known of it on the event loop while it runs, its limits, and what runs on the model thread.

The limits are judged by what the loop hears from the thread. A scope around the wait would not do: the wait for a
thread is shielded, so ``fail_after(30)`` around it returns normally after an hour (measured on both backends).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from indexer.model.embedder import Loader, Model, ModelSpec, Progress
from indexer.model.failure import Failure, classify, failure
from indexer.model.memory import Recipe, give_back
from indexer.model.policy import Key
from indexer.model.priority_lock import Lease
from indexer.model.slot_settings import Limits

IMPORT_STAGE = "runtime"


@dataclass(slots=True)
class Load:
    """A running load. Loop times.

    Attributes:
        lease: Holds the lock for it until it has really ended.
        importing: It imports a runtime this process has not imported yet, under a limit of its own.
        began: When the part under ``Limits.load`` began.
        heard: When it last reported progress.
        favour: The model the last tool call asked for; the load's own unless another was asked for meanwhile.
        dropped: Read by the thread between stages: nobody wants it any more.
        orphaned_at: When it outlived its limit, or None.
    """

    spec: ModelSpec
    lease: Lease
    importing: bool
    began: float
    heard: float
    stage: str = ""
    share: float = 0.0
    favour: Key | None = None
    dropped: bool = False
    orphaned_at: float | None = None

    @property
    def key(self) -> Key:
        """The model asked for (the device may differ from what is loaded in the end)."""
        return self.spec.load_key

    def progress(self, stage: str, share: float, now: float) -> None:
        """Take note of a sign of life."""
        if self.importing and stage != IMPORT_STAGE:
            self.importing = False
            self.began = now  # the import does not count
        self.stage, self.share, self.heard = stage, share, now

    def deadline(self, limits: Limits) -> float:
        """When it will have failed unless something is heard."""
        if self.importing:
            return self.began + limits.runtime_import
        return min(self.heard + limits.stall, self.began + limits.load)

    def overdue(self, limits: Limits) -> Failure:
        """The failure of having passed ``deadline``."""
        where = f" in stage {self.stage!r}" if self.stage else ""
        if self.importing:
            said = f"Importing the runtime {self.spec.runtime!r} took more than {limits.runtime_import:.0f} s."
            return failure("load_timeout", said, retryable=False)
        if self.heard + limits.stall <= self.began + limits.load:
            said = f"Loading {self.spec.name!r} made no progress for {limits.stall:.0f} s{where}."
        else:
            said = f"Loading {self.spec.name!r} took more than {limits.load:.0f} s{where}."
        return failure("load_timeout", said)


def attempt(
    loader: Loader,
    spec: ModelSpec,
    progress: Progress,
    stopped: Callable[[], bool],
    recipe: Recipe,
    allow_cpu: bool,
) -> Model:
    """Load on the model thread; when memory runs out, give back what can be and try once more, then on the CPU.

    Raises:
        Exception: Whatever the last try raised.
    """
    tries = [spec, spec]
    if allow_cpu and spec.device != "cpu":
        tries.append(replace(spec, device="cpu", dtype="float32"))
    for number, candidate in enumerate(tries, start=1):
        try:
            return loader.load(candidate, progress, stopped)
        except Exception as error:
            code = classify(error).code
            if not code.startswith("out_of_memory") or number == len(tries):
                raise
            if code == "out_of_memory_host" and number > 1:
                raise
        # Outside of ``except``: until then the traceback's frames hold half a model.
        give_back(loader, recipe)
    raise AssertionError("the last try returns or raises")
