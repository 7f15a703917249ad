"""Whose turn it is, carried out: asks the policy after every change and when a time has come, and does what it says.

Decision and change happen in one go, without an ``await`` in between: what was read is still true when it is acted
upon. A read that gates a change somewhere else would be a bug.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

import anyio

from indexer.slot.embedder import Loader, Model, ModelSpec, Progress
from indexer.slot.failure import Failure, after_failure, after_timed_out_load, failure, while_load_timed_out
from indexer.slot.policy import Action, Drop, Key, Load, Rules, Serve, Unload, Wait, decide, should_yield
from indexer.slot.priority_lock import Lease, Priority, PriorityLock
from indexer.slot.slot_state import IMPORT_STAGE, Loaded, RunningLoad, State, Want, attempt, view
from indexer.slot.slot_types import SlotSettings
from indexer.slot.thread import Recipe, Runner, Unloaded, give_back, settle, unload
from indexer.waits import LOAD_RETRY_S

log = logging.getLogger(__name__)


class Scheduler:
    """The lock, the model's way in and out, and the timer, driven by ``policy.decide``.

    Attributes:
        lock: Who holds the slot and who waits.
        transit: Loads and unloads.
    """

    def __init__(self, state: State, settings: SlotSettings, runner: Runner, loader: Loader, recipe: Recipe) -> None:
        self._state = state
        self._keep_warm = settings.keep_warm
        self._limits = settings.limits
        self._rules = Rules(starvation_cap=settings.starvation_cap, linger=settings.linger)
        self.lock = PriorityLock(on_change=self.advance)
        self.transitions = ModelTransitions(
            state, self.lock, runner, loader, settings, self._rules, recipe, self.touched
        )
        self._deadline = math.inf
        self._policy_deadline = math.inf
        self._alarm = anyio.Event()

    def advance(self, at: float = -math.inf) -> None:
        """Decide and do. The one place; called after every change and when a time has come."""
        if not self._state.closed:
            now = max(anyio.current_time(), at)  # a timer may fire a clock tick early
            action = decide(view(self._state, self.lock, now, self._keep_warm), now, self._rules)
            self._policy_deadline = math.inf
            self._do(action, now)
        self.touched()

    def _do(self, action: Action, now: float) -> None:
        state = self._state
        match action:
            case Serve():
                self._serve(now)
            case Load(key):
                spec, requested_key = self._wanted_spec(key)
                self.transitions.begin_load(spec, requested_key)
            case Unload(reason, capped):
                if reason == "swap":
                    state.count("swaps")
                if capped is not None:
                    state.count("starvation_cap_hits")
                    state.reserved_for = capped
                self.transitions.begin_unload()
            case Drop():
                if state.load is not None:
                    state.load.dropped = True
            case Wait(until):
                self._policy_deadline = math.inf if until is None else until

    def _serve(self, now: float) -> None:
        state, loaded = self._state, self._state.loaded
        assert loaded is not None
        key = loaded.key
        lease = self.lock.hand_over(lambda w: isinstance(w.tag, Want) and w.tag.key == key)
        if lease is None:
            return
        if lease.priority is Priority.TOOL:
            loaded.warm_until = now + self._keep_warm
            rivals = any(
                w.priority is Priority.TOOL and isinstance(w.tag, Want) and w.tag.key != key for w in self.lock.waiters
            )
            state.skipped_count = state.skipped_count + 1 if rivals else 0
        else:
            state.reserved_for = None

    def _wanted_spec(self, key: Key) -> tuple[ModelSpec, Key | None]:
        """What to load for a key, and the key again if a tool call wants it."""
        wants = [(w.priority, w.tag.spec) for w in self.lock.waiters if isinstance(w.tag, Want) and w.tag.key == key]
        if wants:
            priority, spec = min(wants, key=lambda pair: pair[0])
            return spec, key if priority is Priority.TOOL else None
        return self._state.breakers[key].spec, key  # a retry for an asker who was sent away

    async def keep_time(self) -> None:
        """The one timer: wakes at the next time that matters."""
        while True:
            alarm, deadline = self._alarm, self._deadline
            with anyio.CancelScope(deadline=deadline):
                await alarm.wait()
            if not alarm.is_set():
                self._on_time(max(anyio.current_time(), deadline))

    def touched(self) -> None:
        """Set the timer anew and wake everybody who watches."""
        deadline = min([self._policy_deadline, *self._times()]) if not self._state.closed else math.inf
        if deadline != self._deadline:
            self._deadline = deadline
            self._alarm.set()
            self._alarm = anyio.Event()
        self._state.publish()

    def _times(self) -> list[float]:
        """Loop times at which a limit is reached."""
        load, owner, limits = self._state.load, self.lock.owner, self._limits
        if load is not None and load.orphaned_at is None:
            return [load.deadline(limits)]
        if owner is not None and not owner.busy:
            return [owner.idle_since + limits.idle_lease]
        if owner is None or self._state.wedged:  # the owner of the process knows already
            return []
        if load is not None:
            return [(load.orphaned_at or 0.0) + limits.orphan]
        return [owner.busy_since + limits.job]

    def _on_time(self, now: float) -> None:
        load, owner, limits = self._state.load, self.lock.owner, self._limits
        due = now >= min([math.inf, *self._times()])
        if due and load is not None and load.orphaned_at is None:
            self.transitions.orphan(load, now)
        elif due and load is not None:
            self.transitions.wedge(f"loading {load.spec.name!r} has not ended {limits.orphan:.0f} s after its limit")
        elif due and owner is not None and owner.busy:
            self.transitions.wedge(f"a job on the model thread has not ended after {now - owner.busy_since:.0f} s")
        elif due and owner is not None:
            log.warning("a lease without a job for %.0f s was revoked", limits.idle_lease)
            self._state.count("revoked")
            self.lock.release(owner)
        self.advance(now)


# Loads and unloads --------------------------------------------------------------------------------------------------
# A model's way in and out of the slot: starts loads and unloads on the model thread and books what became of them.


class ModelTransitions:
    """Moves models for the slot; also what a loan turns to (``lease.Lender``).

    Args:
        touched: Called when a deadline has moved without a change of lock or state.
    """

    def __init__(
        self,
        state: State,
        lock: PriorityLock,
        runner: Runner,
        loader: Loader,
        settings: SlotSettings,
        rules: Rules,
        recipe: Recipe,
        touched: Callable[[], None],
    ) -> None:
        self._state = state
        self._lock = lock
        self._runner = runner
        self._loader = loader
        self._settings = settings
        self._rules = rules
        self._recipe = recipe
        self.touched = touched
        self._settled = False  # touched on the model thread only

    def begin_load(self, spec: ModelSpec, requested_key: Key | None) -> None:
        """Take the free lock and start loading."""
        now = anyio.current_time()
        lease = self._lock.take("load")
        load = RunningLoad(
            spec, lease, spec.runtime not in self._state.imported, now, now, requested_key=requested_key
        )
        self._state.load = load
        self._state.become("loading")
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

    def orphan(self, load: RunningLoad, now: float) -> None:
        """A load has passed its limit: its askers are told, the lock stays held until it really ends."""
        found = load.overdue(self._settings.limits)
        load.orphaned_at = now
        self._book(load, found, now)
        self._state.breakers[load.key] = while_load_timed_out(self._state.breakers[load.key])
        blocked = failure("orphaned_load", f"A load of {load.spec.name!r} outlived its limit and still runs.")
        self.refuse(lambda want, tool: tool and want.key != load.key, blocked, LOAD_RETRY_S)

    def begin_unload(self) -> None:
        """Take the free lock and start unloading."""
        state = self._state
        loaded = state.loaded
        assert loaded is not None and loaded.embedder is not None
        box: list[Model] = [loaded.embedder]
        loaded.embedder = None
        lease = self._lock.take("unload")
        state.become("unloading")
        state.unload_asked = None
        state.skipped_count = 0
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
        if not self._state.wedged:
            self._state.wedged = True
            log.critical("the model slot is wedged: %s", reason)
            self._settings.on_wedged(reason)

    def should_yield(self, lease: Lease) -> bool:
        """Whether an INDEX holder should leave (see ``policy.should_yield``)."""
        if self._state.closed:
            return True
        if lease.priority is not Priority.INDEX or not isinstance(lease.tag, Want):
            return False
        now = anyio.current_time()
        return should_yield(
            view(self._state, self._lock, now, self._settings.keep_warm), lease.tag.key, now, self._rules
        )

    def failed(self, found: Failure) -> None:
        """An embedding job failed for good; only a lost device concerns more than its caller."""
        state = self._state
        if found.code == "device_lost" and state.loaded is not None and state.lost is None:
            loaded = state.loaded
            state.lost = found
            state.breakers[loaded.key] = after_failure(None, loaded.spec, found, anyio.current_time(), state.clock())
            state.last_trouble = loaded.key
            if state.current == "ready":
                state.become("error")
            self.refuse(lambda want, tool: want.key == loaded.key, found, None)
            self.wedge(found.message)

    def halved(self) -> None:
        """A batch did not fit the memory."""
        self._state.count("batches_halved")

    def give_back(self) -> Callable[[], object]:
        """The job that returns unused memory."""
        return partial(give_back, self._loader, self._recipe)

    def _progress(self, load: RunningLoad) -> Progress:
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
        self._state.floor = floor

    def _heard(self, load: RunningLoad, stage: str, share: float) -> None:
        if stage != IMPORT_STAGE:
            self._state.imported.add(load.spec.runtime)
        load.progress(stage, share, anyio.current_time())
        self.touched()

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
        if load.orphaned_at is not None:  # adopted; the policy unloads it again if somebody else waits
            state.become("loading")
        loaded = Loaded(load.key, embedder.spec, embedder, now)
        if load.requested_key == load.key:  # its asker may have left, but will ask again
            loaded.warm_until = now + self._settings.keep_warm
        state.loaded = loaded
        state.skipped_count = 0
        state.breakers.pop(load.key, None)
        state.count("loads")
        state.become("ready")
        log.info("model %s is ready", load.spec.name)

    def _load_failed(self, load: RunningLoad, found: Failure) -> None:
        now = anyio.current_time()
        if load.orphaned_at is not None:
            self._state.breakers[load.key] = after_timed_out_load(self._state.breakers[load.key], now)
        elif found.code in ("stopped", "stopping"):
            self._state.become("idle")
        else:
            self._book(load, found, now)
            if found.code == "device_lost":
                self.wedge(found.message)

    def _book(self, load: RunningLoad, found: Failure, now: float) -> None:
        state = self._state
        trouble = after_failure(state.breakers.get(load.key), load.spec, found, now, state.clock())
        state.breakers[load.key] = trouble
        state.last_trouble = load.key
        state.count("load_failures")
        state.become("error")
        log.warning("loading model %s failed (%s): %s", load.spec.name, found.code, found.message)
        # A search answers by keyword at once; indexing waits for the next attempt as long as there is one.
        again = max(0.0, trouble.not_before - now)
        self.refuse(lambda want, tool: want.key == load.key and (tool or trouble.open), found, again)

    def _unload_ended(self, lease: Lease, result: Unloaded | Failure) -> None:
        state = self._state
        state.loaded = None
        state.unloaded = Unloaded(None, None, False, (result.message,)) if isinstance(result, Failure) else result
        state.count("unloads")
        for said in state.unloaded.breakers:
            log.warning("while unloading: %s", said)
        if state.unloaded.leaked:
            log.warning("the unloaded model is still referenced; its memory is not free")
        state.become("idle" if state.lost is None else "error")
        state.lost = None
        self._lock.job_ended(lease)
        self._lock.release(lease)
