"""Who uses the model next: one pure function from what is and what time it is to what to do.

No clock, no I/O, no logging, no state. The slot calls ``decide`` after every change and at the time it last named,
and does what it says; so a rule is a line here and a row in ``tests/indexer/slot/test_policy.py``.

The lock keeps the order among those who want the loaded model (class, aging, arrival); this module decides
which model that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from indexer.slot.priority_lock import Priority

Key: TypeAlias = tuple[str, ...]
"""``ModelSpec.load_key``: equal when the same loaded model serves both."""
Reason = Literal["idle", "swap", "asked", "lost"]


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers the rules turn on; seconds unless named otherwise.

    Attributes:
        starvation_cap: How long another model's warm window may block indexing; 0 = for ever.
        coalesce_s: How long a tool call may be passed by later ones for the loaded model.
        coalesce_grants: By how many later ones.
        linger: How long a model that indexed stays when nothing waits: the pause between two batches of an indexer.
    """

    starvation_cap: float = 600.0
    coalesce_s: float = 5.0
    coalesce_grants: int = 8
    linger: float = 2.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """Somebody who waits.

    Attributes:
        number: Order of arrival.
        key: The model wanted.
        priority: TOOL or INDEX.
        since: When it came, loop time.
        folder_rank: For INDEX: smaller goes first (the oldest folder has the smallest).
    """

    number: int
    key: Key
    priority: Priority
    since: float
    folder_rank: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """A load that failed and is to be tried again although its askers were sent away.

    Attributes:
        key: The model.
        at: Not before this loop time.
        until: Not after it: nobody has asked for too long.
    """

    key: Key
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class View:
    """Everything ``decide`` looks at. Times are loop time.

    Attributes:
        busy: The lock is held: by a lease, a load, an unload or an orphan.
        loading: The model being loaded, if that is what keeps the lock.
        loaded: The model in the slot.
        lost: The loaded model can no longer be used.
        tickets: Those who wait.
        warm_until: End of the warm window of the loaded model, None when no tool call used it.
        used_until: When indexing last gave the loaded model back, None when it never did.
        blocked_since: Since when the warm window keeps INDEX tickets of another model waiting.
        reserved_for: The model that came in by the starvation cap and has not had its micro-batch yet.
        skipped_count: Grants to tool calls for the loaded model while one for another waited.
        not_before: Models that may not be loaded before a time (a retry is due then, or a breaker half-opens).
        retries: Loads to try again for their own sake.
        unload_asked: Somebody asked to unload.
    """

    busy: bool = False
    loading: Key | None = None
    loaded: Key | None = None
    lost: bool = False
    tickets: tuple[Ticket, ...] = ()
    warm_until: float | None = None
    used_until: float | None = None
    blocked_since: float | None = None
    reserved_for: Key | None = None
    skipped_count: int = 0
    not_before: Mapping[Key, float] = field(default_factory=dict)
    retries: tuple[Retry, ...] = ()
    unload_asked: bool = False


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand the lock to the first in order of those who want the loaded model."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model into the empty slot."""

    key: Key


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload the model; ``capped`` names the model that comes in by the starvation cap."""

    reason: Reason
    capped: Key | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Stop the running load at its next stage: somebody wants something else more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes or this loop time comes."""

    until: float | None = None


Action: TypeAlias = Serve | Load | Unload | Drop | Wait


def decide(view: View, now: float, rules: Rules) -> Action:
    """What to do now. Called again after every change and when ``Wait.until`` has come."""
    waiting = tuple(t for t in view.tickets if now >= view.not_before.get(t.key, now))
    if view.busy:
        return Drop() if view.loading is not None and _unwanted(view, waiting) else Wait()
    if view.loaded is None:
        return _fill(view, waiting, now)
    if view.lost:
        return Unload("lost")
    return _keep_or_swap(view, view.loaded, waiting, now, rules)


def should_yield(view: View, key: Key, now: float, rules: Rules) -> bool:
    """Whether an INDEX holder of ``key`` should give the lock back at this micro-batch boundary."""
    if any(t.priority is Priority.TOOL for t in view.tickets):
        return True
    return _starving(view, tuple(t for t in view.tickets if t.key != key), now, rules) is not None


def first_in_folder_order(tickets: Iterable[Ticket]) -> Ticket | None:
    """The INDEX ticket whose folder comes first: oldest folder, then arrival."""
    return min(tickets, key=lambda t: (t.folder_rank, t.number), default=None)


def _of(waiting: tuple[Ticket, ...], priority: Priority) -> tuple[Ticket, ...]:
    return tuple(t for t in waiting if t.priority is priority)


def _unwanted(view: View, waiting: tuple[Ticket, ...]) -> bool:
    # A tool call does not wait for a load that only indexing wants, unless indexing is owed this one.
    mine = [t for t in waiting if t.key == view.loading]
    others = [t for t in waiting if t.key != view.loading]
    if any(t.priority is Priority.TOOL for t in mine) or (mine and view.reserved_for == view.loading):
        return False
    return any(t.priority is Priority.TOOL or not mine for t in others)


def _fill(view: View, waiting: tuple[Ticket, ...], now: float) -> Action:
    tools, index = _of(waiting, Priority.TOOL), _of(waiting, Priority.INDEX)
    if view.reserved_for is not None and any(t.key == view.reserved_for for t in index):
        return Load(view.reserved_for)
    if tools:
        return Load(min(tools, key=lambda t: t.number).key)
    first = first_in_folder_order(index)
    if first is not None:
        return Load(first.key)
    live = [r for r in view.retries if now <= r.until]
    due = [r for r in live if now >= r.at]
    if due:
        return Load(min(due, key=lambda r: r.at).key)
    times = [r.at for r in live] + [view.not_before[t.key] for t in view.tickets if t not in waiting]
    return Wait(min(times, default=None))


def _keep_or_swap(view: View, loaded: Key, waiting: tuple[Ticket, ...], now: float, rules: Rules) -> Action:
    mine = tuple(t for t in waiting if t.key == loaded)
    others = tuple(t for t in waiting if t.key != loaded)
    if view.reserved_for == loaded and any(t.priority is Priority.INDEX for t in mine):
        return Serve()
    starving = _starving(view, others, now, rules)
    if starving is not None:
        return Unload("swap", capped=starving)
    rival = min(_of(others, Priority.TOOL), key=lambda t: t.number, default=None)
    my_tools = _of(mine, Priority.TOOL)
    if my_tools and (rival is None or _may_pass(my_tools, rival, view, now, rules)):
        return Serve()
    if rival is not None:
        return Unload("swap")
    if mine:
        return Serve()
    if view.unload_asked:
        return Unload("asked")
    return _idle(view, others, now, rules)


def _may_pass(my_tools: tuple[Ticket, ...], rival: Ticket, view: View, now: float, rules: Rules) -> bool:
    # Coalescing saves a swap, but only so long; then age decides.
    if now - rival.since < rules.coalesce_s and view.skipped_count < rules.coalesce_grants:
        return True
    return min(t.number for t in my_tools) < rival.number


def _starving(view: View, others: tuple[Ticket, ...], now: float, rules: Rules) -> Key | None:
    if not rules.starvation_cap or view.blocked_since is None or now < view.blocked_since + rules.starvation_cap:
        return None
    allowed = (t for t in _of(others, Priority.INDEX) if now >= view.not_before.get(t.key, now))
    first = first_in_folder_order(allowed)
    return first.key if first is not None else None


def _idle(view: View, others: tuple[Ticket, ...], now: float, rules: Rules) -> Action:
    """Nobody wants the loaded model: keep it through its warm window, then swap or unload."""
    warm_until = view.warm_until if view.warm_until is not None else now
    if others:
        if now >= warm_until:
            return Unload("swap")
        capped = view.blocked_since + rules.starvation_cap if view.blocked_since is not None else None
        return Wait(min(warm_until, capped) if rules.starvation_cap and capped is not None else warm_until)
    stay = max(warm_until, view.used_until + rules.linger) if view.used_until is not None else warm_until
    if now >= stay:
        return Unload("idle")
    opening = [view.not_before[t.key] for t in view.tickets if now < view.not_before.get(t.key, now)]
    return Wait(min([stay, *opening]))
