"""The scheduler: calls ``policy.decide`` on every change and at every deadline, and executes the action.

A decision and its execution happen without an ``await`` in between, so what the policy has read is still true when
it is acted upon. Code elsewhere that reads the state to decide about a change of it would be a bug.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

import anyio

from indexer.slot.embedder import Loader, Model, ModelSpec, Progress
from indexer.slot.failure import Failure, after_failure, after_timed_out_load, failure, while_load_timed_out
from indexer.slot.lease import LoadedModel
from indexer.slot.policy import Action, CancelLoad, Grant, Key, Load, Rules, Unload, Wait, decide, should_yield
from indexer.slot.priority_lock import Lease, Priority, PriorityLock
from indexer.slot.slot_state import (
    IMPORT_STAGE,
    LeaseRequest,
    RunningLoad,
    State,
    load_with_fallback,
    policy_view,
)
from indexer.slot.slot_types import SlotSettings
from indexer.slot.thread import ReleaseSteps, Runner, UnloadResult, freeze_imports, release_memory, unload
from indexer.waits import LOAD_RETRY_S

log = logging.getLogger(__name__)


class Scheduler:
    """The lock, loads and unloads, and the timer, driven by ``policy.decide``.

    Attributes:
        lock: Who holds the slot and who waits.
        transitions: Loads and unloads.
    """

    def __init__(
        self, state: State, settings: SlotSettings, runner: Runner, loader: Loader, release_steps: ReleaseSteps
    ) -> None:
        self._state = state
        self._keep_warm = settings.keep_warm
        self._limits = settings.limits
        self._rules = Rules(starvation_cap=settings.starvation_cap, linger=settings.linger)
        self.lock = PriorityLock(on_change=self.advance)
        self.transitions = ModelTransitions(
            state, self.lock, runner, loader, settings, self._rules, release_steps, self.reschedule
        )
        self._deadline = math.inf
        self._policy_deadline = math.inf
        self._timer_changed = anyio.Event()

    def advance(self, at: float = -math.inf) -> None:
        """Decide and execute; the only place that does. Called after every change and at every deadline."""
        if not self._state.closed:
            now = max(anyio.current_time(), at)  # a timer may fire one tick of the clock early
            action = decide(policy_view(self._state, self.lock, now, self._keep_warm), now, self._rules)
            self._policy_deadline = math.inf
            self._execute(action, now)
        self.reschedule()

    def _execute(self, action: Action, now: float) -> None:
        state = self._state
        match action:
            case Grant():
                self._grant(now)
            case Load(key):
                spec, requested_key = self._spec_to_load(key)
                self.transitions.begin_load(spec, requested_key)
            case Unload(reason, capped):
                if reason == "swap":
                    state.count("swaps")
                if capped is not None:
                    state.count("starvation_cap_hits")
                    state.reserved_for = capped
                self.transitions.begin_unload()
            case CancelLoad():
                if state.load is not None:
                    state.load.cancelled = True
            case Wait(until):
                self._policy_deadline = math.inf if until is None else until

    def _grant(self, now: float) -> None:
        state, loaded = self._state, self._state.loaded
        assert loaded is not None
        key = loaded.key
        lease = self.lock.hand_over(lambda w: isinstance(w.tag, LeaseRequest) and w.tag.key == key)
        if lease is None:
            return
        if lease.priority is Priority.TOOL:
            loaded.warm_until = now + self._keep_warm
            rivals = any(
                w.priority is Priority.TOOL and isinstance(w.tag, LeaseRequest) and w.tag.key != key
                for w in self.lock.waiters
            )
            state.skipped_count = state.skipped_count + 1 if rivals else 0
        else:
            state.reserved_for = None

    def _spec_to_load(self, key: Key) -> tuple[ModelSpec, Key | None]:
        """What to load for a key, and the key again if a tool call asked for it."""
        requests = [
            (w.priority, w.tag.spec) for w in self.lock.waiters if isinstance(w.tag, LeaseRequest) and w.tag.key == key
        ]
        if requests:
            priority, spec = min(requests, key=lambda pair: pair[0])
            return spec, key if priority is Priority.TOOL else None
        return self._state.breakers[key].spec, key  # a retry: its caller was refused and has left

    async def run_timer(self) -> None:
        """The one timer: wakes at the next deadline."""
        while True:
            timer_changed, deadline = self._timer_changed, self._deadline
            with anyio.CancelScope(deadline=deadline):
                await timer_changed.wait()
            if not timer_changed.is_set():
                self._on_deadline(max(anyio.current_time(), deadline))

    def reschedule(self) -> None:
        """Set the timer to the next deadline and wake every task that waits for a change."""
        deadline = min([self._policy_deadline, *self._deadlines()]) if not self._state.closed else math.inf
        if deadline != self._deadline:
            self._deadline = deadline
            self._timer_changed.set()
            self._timer_changed = anyio.Event()
        self._state.publish()

    def _deadlines(self) -> list[float]:
        """Loop times at which a limit is reached."""
        load, owner, limits = self._state.load, self.lock.owner, self._limits
        if load is not None and load.timed_out_at is None:
            return [load.deadline(limits)]
        if owner is not None and not owner.busy:
            return [owner.idle_since + limits.idle_lease]
        if owner is None or self._state.wedged:  # has been reported already
            return []
        if load is not None:
            return [(load.timed_out_at or 0.0) + limits.orphan]
        return [owner.busy_since + limits.job]

    def _on_deadline(self, now: float) -> None:
        load, owner, limits = self._state.load, self.lock.owner, self._limits
        due = now >= min([math.inf, *self._deadlines()])
        if due and load is not None and load.timed_out_at is None:
            self.transitions.mark_timed_out(load, now)
        elif due and load is not None:
            self.transitions.report_wedged(
                f"loading {load.spec.name!r} has not ended {limits.orphan:.0f} s after its limit"
            )
        elif due and owner is not None and owner.busy:
            self.transitions.report_wedged(
                f"a job on the model thread has not ended after {now - owner.busy_since:.0f} s"
            )
        elif due and owner is not None:
            log.warning("a lease without a job for %.0f s was revoked", limits.idle_lease)
            self._state.count("revoked")
            self.lock.release(owner)
        self.advance(now)


# Loads and unloads --------------------------------------------------------------------------------------------------


class ModelTransitions:
    """Starts loads and unloads on the model thread and records their outcome; a ``lease.LeaseIssuer``.

    Args:
        reschedule: Called when a deadline has moved without a change of lock or state.
    """

    def __init__(
        self,
        state: State,
        lock: PriorityLock,
        runner: Runner,
        loader: Loader,
        settings: SlotSettings,
        rules: Rules,
        release_steps: ReleaseSteps,
        reschedule: Callable[[], None],
    ) -> None:
        self._state = state
        self._lock = lock
        self._runner = runner
        self._loader = loader
        self._settings = settings
        self._rules = rules
        self._release_steps = release_steps
        self.reschedule = reschedule
        self._imports_frozen = False  # read and written on the model thread only

    def begin_load(self, spec: ModelSpec, requested_key: Key | None) -> None:
        """Take the free lock and start loading."""
        now = anyio.current_time()
        lease = self._lock.acquire_nowait("load")
        load = RunningLoad(
            spec, lease, spec.runtime not in self._state.imported, now, now, requested_key=requested_key
        )
        self._state.load = load
        self._state.transition_to("loading")
        log.info("loading model %s on %s", spec.name, spec.device)
        self._lock.job_started(lease)
        job = partial(
            load_with_fallback,
            self._loader,
            spec,
            self._progress(load),
            lambda: load.cancelled,
            self._release_steps,
            self._settings.allow_cpu_fallback,
        )
        self._runner.submit(job, partial(self._load_ended, load))

    def mark_timed_out(self, load: RunningLoad, now: float) -> None:
        """A load has exceeded its limit: its callers are refused; the lock stays held until the load really ends."""
        load.timed_out_at = now
        self._record_failure(load, load.timeout_failure(self._settings.limits), now)
        self._state.breakers[load.key] = while_load_timed_out(self._state.breakers[load.key])
        blocked = failure("orphaned_load", f"A load of {load.spec.name!r} outlived its limit and still runs.")
        self.refuse(lambda request, tool: tool and request.key != load.key, blocked, LOAD_RETRY_S)

    def begin_unload(self) -> None:
        """Take the free lock and start unloading."""
        state = self._state
        loaded = state.loaded
        assert loaded is not None and loaded.embedder is not None
        box: list[Model] = [loaded.embedder]  # the only reference from here on; the job empties it
        loaded.embedder = None
        lease = self._lock.acquire_nowait("unload")
        state.transition_to("unloading")
        state.unload_asked = None
        state.skipped_count = 0
        log.info("unloading model %s", loaded.spec.name)
        self._lock.job_started(lease)
        self._runner.submit(
            partial(unload, box, self._loader, self._release_steps), partial(self._unload_ended, lease)
        )

    def refuse(
        self, applies: Callable[[LeaseRequest, bool], bool], reason: Failure, retry_after: float | None
    ) -> None:
        """Dismiss waiters with a failure: those for which ``applies(request, is_tool)``."""
        for lease in self._lock.waiters:
            request = lease.tag
            if isinstance(request, LeaseRequest) and applies(request, lease.priority is Priority.TOOL):
                request.refusal, request.retry_after = reason, retry_after
                self._lock.dismiss(lease)

    def report_wedged(self, reason: str) -> None:
        """Report, once, that only a restart of the process helps."""
        if not self._state.wedged:
            self._state.wedged = True
            log.critical("the model slot is wedged: %s", reason)
            self._settings.on_wedged(reason)

    def should_yield(self, lease: Lease) -> bool:
        """Whether an INDEX holder should give the lock back (see ``policy.should_yield``)."""
        if self._state.closed:
            return True
        if lease.priority is not Priority.INDEX or not isinstance(lease.tag, LeaseRequest):
            return False
        now = anyio.current_time()
        return should_yield(
            policy_view(self._state, self._lock, now, self._settings.keep_warm), lease.tag.key, now, self._rules
        )

    def job_failed(self, reason: Failure) -> None:
        """An embedding job failed; only a lost device concerns more than its caller."""
        state = self._state
        if reason.code == "device_lost" and state.loaded is not None and state.lost is None:
            loaded = state.loaded
            state.lost = reason
            state.breakers[loaded.key] = after_failure(None, loaded.spec, reason, anyio.current_time(), state.clock())
            state.last_failed = loaded.key
            if state.current == "ready":
                state.transition_to("error")
            self.refuse(lambda request, tool: request.key == loaded.key, reason, None)
            self.report_wedged(reason.message)

    def batch_halved(self) -> None:
        """A batch did not fit the memory."""
        self._state.count("batches_halved")

    def release_memory(self) -> Callable[[], object]:
        """The job that releases unused memory."""
        return partial(release_memory, self._loader, self._release_steps)

    def _progress(self, load: RunningLoad) -> Progress:
        importing = False

        def progress(stage: str, share: float) -> None:  # on the model thread
            nonlocal importing
            if stage == IMPORT_STAGE:
                importing = True
            elif importing and not self._imports_frozen:
                self._imports_frozen = True
                self._runner.post(partial(self._record_floor, freeze_imports(self._release_steps)))
            self._runner.post(partial(self._on_progress, load, stage, share))

        return progress

    def _record_floor(self, floor_after_import: int | None) -> None:
        self._state.floor_after_import = floor_after_import

    def _on_progress(self, load: RunningLoad, stage: str, share: float) -> None:
        if stage != IMPORT_STAGE:
            self._state.imported.add(load.spec.runtime)
        load.record_progress(stage, share, anyio.current_time())
        self.reschedule()

    def _load_ended(self, load: RunningLoad, result: Model | Failure) -> None:
        self._state.load = None
        self._lock.job_ended(load.lease)
        if isinstance(result, Failure):
            self._load_failed(load, result)
        else:
            self._load_ready(load, result)
        self._lock.release(load.lease)

    def _load_ready(self, load: RunningLoad, embedder: Model) -> None:
        state, now = self._state, anyio.current_time()
        if load.timed_out_at is not None:  # adopted; the policy unloads it again if another model is needed
            state.transition_to("loading")
        loaded = LoadedModel(load.key, embedder.spec, embedder, now)
        if load.requested_key == load.key:  # its caller may have left, but will ask again
            loaded.warm_until = now + self._settings.keep_warm
        state.loaded = loaded
        state.skipped_count = 0
        state.breakers.pop(load.key, None)
        state.count("loads")
        state.transition_to("ready")
        log.info("model %s is ready", load.spec.name)

    def _load_failed(self, load: RunningLoad, reason: Failure) -> None:
        now = anyio.current_time()
        if load.timed_out_at is not None:
            self._state.breakers[load.key] = after_timed_out_load(self._state.breakers[load.key], now)
        elif reason.code in ("stopped", "stopping"):
            self._state.transition_to("idle")
        else:
            self._record_failure(load, reason, now)
            if reason.code == "device_lost":
                self.report_wedged(reason.message)

    def _record_failure(self, load: RunningLoad, reason: Failure, now: float) -> None:
        state = self._state
        breaker = after_failure(state.breakers.get(load.key), load.spec, reason, now, state.clock())
        state.breakers[load.key] = breaker
        state.last_failed = load.key
        state.count("load_failures")
        state.transition_to("error")
        log.warning("loading model %s failed (%s): %s", load.spec.name, reason.code, reason.message)
        # A search answers with keyword results at once; indexing waits for the next attempt while there is one.
        again = max(0.0, breaker.not_before - now)
        self.refuse(lambda request, tool: request.key == load.key and (tool or breaker.open), reason, again)

    def _unload_ended(self, lease: Lease, result: UnloadResult | Failure) -> None:
        state = self._state
        state.loaded = None
        state.unloaded = UnloadResult(None, None, False, (result.message,)) if isinstance(result, Failure) else result
        state.count("unloads")
        for problem in state.unloaded.problems:
            log.warning("while unloading: %s", problem)
        if state.unloaded.leaked:
            log.warning("the unloaded model is still referenced; its memory is not free")
        state.transition_to("idle" if state.lost is None else "error")
        state.lost = None
        self._lock.job_ended(lease)
        self._lock.release(lease)
