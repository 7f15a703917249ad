"""A model's way in and out of the slot: starts loads and unloads on the model thread and books what became of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import anyio

from indexer.model.embedder import Loader, Model, ModelSpec, Progress
from indexer.model.failure import Failure, failure
from indexer.model.load import IMPORT_STAGE, Load, attempt
from indexer.model.memory import Recipe, Unloaded, give_back, settle, unload
from indexer.model.policy import Key, Rules, should_yield
from indexer.model.priority_lock import Lease, Priority, PriorityLock
from indexer.model.record import Loaded, Record, Want, view
from indexer.model.slot_settings import SlotSettings
from indexer.model.thread import Runner
from indexer.model.trouble import after_failure, after_orphan, while_orphaned
from indexer.timing import LOAD_RETRY_S

log = logging.getLogger(__name__)


class Transit:
    """Moves models for the slot; also what a loan turns to (``lent.Lender``).

    Args:
        touched: Called when a deadline has moved without a change of lock or state.
    """

    def __init__(
        self,
        record: Record,
        lock: PriorityLock,
        runner: Runner,
        loader: Loader,
        settings: SlotSettings,
        rules: Rules,
        recipe: Recipe,
        touched: Callable[[], None],
    ) -> None:
        self._record = record
        self._lock = lock
        self._runner = runner
        self._loader = loader
        self._settings = settings
        self._rules = rules
        self._recipe = recipe
        self.touched = touched
        self._settled = False  # touched on the model thread only

    def begin_load(self, spec: ModelSpec, favour: Key | None) -> None:
        """Take the free lock and start loading."""
        now = anyio.current_time()
        lease = self._lock.take("load")
        load = Load(spec, lease, spec.runtime not in self._record.imported, now, now, favour=favour)
        self._record.load = load
        self._record.become("loading")
        log.info("loading model %s on %s", spec.name, spec.device)
        self._lock.job_started(lease)
        job = partial(
            attempt,
            self._loader,
            spec,
            self._progress(load),
            lambda: load.dropped,
            self._recipe,
            self._settings.allow_cpu_fallback,
        )
        self._runner.submit(job, partial(self._load_ended, load))

    def orphan(self, load: Load, now: float) -> None:
        """A load has passed its limit: its askers are told, the lock stays held until it really ends."""
        found = load.overdue(self._settings.limits)
        load.orphaned_at = now
        self._book(load, found, now)
        self._record.troubles[load.key] = while_orphaned(self._record.troubles[load.key])
        blocked = failure("orphaned_load", f"A load of {load.spec.name!r} outlived its limit and still runs.")
        self.refuse(lambda want, tool: tool and want.key != load.key, blocked, LOAD_RETRY_S)

    def begin_unload(self) -> None:
        """Take the free lock and start unloading."""
        record = self._record
        loaded = record.loaded
        assert loaded is not None and loaded.embedder is not None
        box: list[Model] = [loaded.embedder]
        loaded.embedder = None
        lease = self._lock.take("unload")
        record.become("unloading")
        record.unload_asked = None
        record.passed = 0
        log.info("unloading model %s", loaded.spec.name)
        self._lock.job_started(lease)
        self._runner.submit(partial(unload, box, self._loader, self._recipe), partial(self._unload_ended, lease))

    def refuse(self, which: Callable[[Want, bool], bool], found: Failure, retry_after: float | None) -> None:
        """Send waiters away with a failure; ``which(want, is_tool)`` says whom."""
        for lease in self._lock.waiters:
            want = lease.tag
            if isinstance(want, Want) and which(want, lease.priority is Priority.TOOL):
                want.refusal, want.retry_after = found, retry_after
                self._lock.dismiss(lease)

    def wedge(self, reason: str) -> None:
        """Tell the owner, once, that only a restart helps."""
        if not self._record.wedged:
            self._record.wedged = True
            log.critical("the model slot is wedged: %s", reason)
            self._settings.on_wedged(reason)

    def should_yield(self, lease: Lease) -> bool:
        """Whether an INDEX holder should leave (see ``policy.should_yield``)."""
        if self._record.closed:
            return True
        if lease.priority is not Priority.INDEX or not isinstance(lease.tag, Want):
            return False
        now = anyio.current_time()
        return should_yield(
            view(self._record, self._lock, now, self._settings.keep_warm), lease.tag.key, now, self._rules
        )

    def failed(self, found: Failure) -> None:
        """An embedding job failed for good; only a lost device concerns more than its caller."""
        record = self._record
        if found.code == "device_lost" and record.loaded is not None and record.lost is None:
            loaded = record.loaded
            record.lost = found
            record.troubles[loaded.key] = after_failure(None, loaded.spec, found, anyio.current_time(), record.clock())
            record.last_trouble = loaded.key
            if record.state == "ready":
                record.become("error")
            self.refuse(lambda want, tool: want.key == loaded.key, found, None)
            self.wedge(found.message)

    def halved(self) -> None:
        """A batch did not fit the memory."""
        self._record.count("batches_halved")

    def give_back(self) -> Callable[[], object]:
        """The job that returns unused memory."""
        return partial(give_back, self._loader, self._recipe)

    def _progress(self, load: Load) -> Progress:
        importing = False

        def progress(stage: str, share: float) -> None:  # on the model thread
            nonlocal importing
            if stage == IMPORT_STAGE:
                importing = True
            elif importing and not self._settled:
                self._settled = True
                self._runner.post(partial(self._note_floor, settle(self._recipe)))
            self._runner.post(partial(self._heard, load, stage, share))

        return progress

    def _note_floor(self, floor: int | None) -> None:
        self._record.floor = floor

    def _heard(self, load: Load, stage: str, share: float) -> None:
        if stage != IMPORT_STAGE:
            self._record.imported.add(load.spec.runtime)
        load.progress(stage, share, anyio.current_time())
        self.touched()

    def _load_ended(self, load: Load, result: Model | Failure) -> None:
        self._record.load = None
        self._lock.job_ended(load.lease)
        if isinstance(result, Failure):
            self._load_failed(load, result)
        else:
            self._load_ready(load, result)
        self._lock.release(load.lease)

    def _load_ready(self, load: Load, embedder: Model) -> None:
        record, now = self._record, anyio.current_time()
        if load.orphaned_at is not None:  # adopted; the policy unloads it again if somebody else waits
            record.become("loading")
        loaded = Loaded(load.key, embedder.spec, embedder, now)
        if load.favour == load.key:  # its asker may have left, but will ask again
            loaded.warm_until = now + self._settings.keep_warm
        record.loaded = loaded
        record.passed = 0
        record.troubles.pop(load.key, None)
        record.count("loads")
        record.become("ready")
        log.info("model %s is ready", load.spec.name)

    def _load_failed(self, load: Load, found: Failure) -> None:
        now = anyio.current_time()
        if load.orphaned_at is not None:
            self._record.troubles[load.key] = after_orphan(self._record.troubles[load.key], now)
        elif found.code in ("stopped", "stopping"):
            self._record.become("idle")
        else:
            self._book(load, found, now)
            if found.code == "device_lost":
                self.wedge(found.message)

    def _book(self, load: Load, found: Failure, now: float) -> None:
        record = self._record
        trouble = after_failure(record.troubles.get(load.key), load.spec, found, now, record.clock())
        record.troubles[load.key] = trouble
        record.last_trouble = load.key
        record.count("load_failures")
        record.become("error")
        log.warning("loading model %s failed (%s): %s", load.spec.name, found.code, found.message)
        # A search answers by keyword at once; indexing waits for the next attempt as long as there is one.
        again = max(0.0, trouble.not_before - now)
        self.refuse(lambda want, tool: want.key == load.key and (tool or trouble.open), found, again)

    def _unload_ended(self, lease: Lease, result: Unloaded | Failure) -> None:
        record = self._record
        record.loaded = None
        record.unloaded = Unloaded(None, None, False, (result.message,)) if isinstance(result, Failure) else result
        record.count("unloads")
        for said in record.unloaded.troubles:
            log.warning("while unloading: %s", said)
        if record.unloaded.leaked:
            log.warning("the unloaded model is still referenced; its memory is not free")
        record.become("idle" if record.lost is None else "error")
        record.lost = None
        self._lock.job_ended(lease)
        self._lock.release(lease)
