"""The scheduling policy: one pure function from the slot's state and the time to an action.

No clock, no I/O, no logging, no state. The scheduler calls ``decide`` after every change and at the time it last
named, and executes the action; so a rule is a line here and a row in ``tests/indexer/slot/test_policy.py``.

The lock keeps the order among the requests for the loaded model (class, aging, arrival); this module decides which
model is loaded.
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
    """The numbers in the rules; seconds unless named otherwise.

    Attributes:
        starvation_cap: How long another model's warm window may block indexing; 0 = for ever.
        coalesce_s: How long later tool calls for the loaded model may overtake one for another model.
        coalesce_grants: How many of them may.
        linger: How long a model that indexed stays when nothing waits: the pause between two batches of an indexer.
    """

    starvation_cap: float = 600.0
    coalesce_s: float = 5.0
    coalesce_grants: int = 8
    linger: float = 2.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A waiting request for a lease.

    Attributes:
        number: Order of arrival.
        key: The model asked for.
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
    """A load that failed and is to be tried again although the callers that asked for it were refused.

    Attributes:
        key: The model.
        at: Not before this loop time.
        until: Not after it: nobody has asked for the model for too long.
    """

    key: Key
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class View:
    """Everything that ``decide`` depends on. Loop times.

    Attributes:
        busy: The lock is held: by a lease, a load (also one that has exceeded its limit) or an unload.
        loading: The model being loaded, if its load holds the lock and is within its limit.
        lost: The device of the loaded model was lost.
        last_indexed_at: When indexing last gave the loaded model back, None when it never did.
        blocked_since: Since when the warm window has kept INDEX tickets of another model waiting.
        reserved_for: The model that was loaded by the starvation cap and has not had its micro-batch yet.
        skipped_count: Grants to tool calls for the loaded model while one for another model waited.
        not_before: Models that may not be loaded before a time (a retry is due then, or a breaker half-opens).
        retries: Loads to try again although nobody waits for them.
        unload_asked: An unload was requested.
    """

    busy: bool = False
    loading: Key | None = None
    loaded: Key | None = None
    lost: bool = False
    tickets: tuple[Ticket, ...] = ()
    warm_until: float | None = None
    last_indexed_at: float | None = None
    blocked_since: float | None = None
    reserved_for: Key | None = None
    skipped_count: int = 0
    not_before: Mapping[Key, float] = field(default_factory=dict)
    retries: tuple[Retry, ...] = ()
    unload_asked: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Hand the lock to the first in order among the requests for the loaded model."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model into the empty slot."""

    key: Key


@dataclass(frozen=True, slots=True)
class Unload:
    """Unload the model; ``capped`` names the one that is loaded next by the starvation cap, if that is why."""

    reason: Reason
    capped: Key | None = None


@dataclass(frozen=True, slots=True)
class CancelLoad:
    """Stop the running load at its next stage: another model is needed first."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes or this loop time comes."""

    until: float | None = None


Action: TypeAlias = Grant | Load | Unload | CancelLoad | Wait


def decide(view: View, now: float, rules: Rules) -> Action:
    """What to do now. Called again after every change and when ``Wait.until`` has come."""
    waiting = tuple(t for t in view.tickets if now >= view.not_before.get(t.key, now))
    if view.busy:
        return CancelLoad() if view.loading is not None and _is_unwanted(view, waiting) else Wait()
    if view.loaded is None:
        return _load_next(view, waiting, now)
    if view.lost:
        return Unload("lost")
    return _keep_or_swap(view, view.loaded, waiting, now, rules)


def should_yield(view: View, key: Key, now: float, rules: Rules) -> bool:
    """Whether an INDEX holder of ``key`` should give the lock back at this micro-batch boundary."""
    if any(t.priority is Priority.TOOL for t in view.tickets):
        return True
    return _starved_key(view, tuple(t for t in view.tickets if t.key != key), now, rules) is not None


def first_in_folder_order(tickets: Iterable[Ticket]) -> Ticket | None:
    """The INDEX ticket whose folder comes first: oldest folder, then arrival."""
    return min(tickets, key=lambda t: (t.folder_rank, t.number), default=None)


def _with_priority(waiting: tuple[Ticket, ...], priority: Priority) -> tuple[Ticket, ...]:
    return tuple(t for t in waiting if t.priority is priority)


def _is_unwanted(view: View, waiting: tuple[Ticket, ...]) -> bool:
    # A tool call does not wait for a load that only indexing needs, unless it was reserved by the starvation cap.
    mine = [t for t in waiting if t.key == view.loading]
    others = [t for t in waiting if t.key != view.loading]
    if any(t.priority is Priority.TOOL for t in mine) or (mine and view.reserved_for == view.loading):
        return False
    return any(t.priority is Priority.TOOL or not mine for t in others)


def _load_next(view: View, waiting: tuple[Ticket, ...], now: float) -> Action:
    tools, index = _with_priority(waiting, Priority.TOOL), _with_priority(waiting, Priority.INDEX)
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
        return Grant()
    starved = _starved_key(view, others, now, rules)
    if starved is not None:
        return Unload("swap", capped=starved)
    rival = min(_with_priority(others, Priority.TOOL), key=lambda t: t.number, default=None)
    my_tools = _with_priority(mine, Priority.TOOL)
    if my_tools and (rival is None or _may_overtake(my_tools, rival, view, now, rules)):
        return Grant()
    if rival is not None:
        return Unload("swap")
    if mine:
        return Grant()
    if view.unload_asked:
        return Unload("asked")
    return _when_idle(view, others, now, rules)


def _may_overtake(my_tools: tuple[Ticket, ...], rival: Ticket, view: View, now: float, rules: Rules) -> bool:
    # Overtaking saves a swap, but only for so long; then age decides.
    if now - rival.since < rules.coalesce_s and view.skipped_count < rules.coalesce_grants:
        return True
    return min(t.number for t in my_tools) < rival.number


def _starved_key(view: View, others: tuple[Ticket, ...], now: float, rules: Rules) -> Key | None:
    if not rules.starvation_cap or view.blocked_since is None or now < view.blocked_since + rules.starvation_cap:
        return None
    allowed = (t for t in _with_priority(others, Priority.INDEX) if now >= view.not_before.get(t.key, now))
    first = first_in_folder_order(allowed)
    return first.key if first is not None else None


def _when_idle(view: View, others: tuple[Ticket, ...], now: float, rules: Rules) -> Action:
    """Nobody needs the loaded model: keep it through its warm window, then swap or unload."""
    warm_until = view.warm_until if view.warm_until is not None else now
    if others:
        if now >= warm_until:
            return Unload("swap")
        capped = view.blocked_since + rules.starvation_cap if view.blocked_since is not None else None
        return Wait(min(warm_until, capped) if rules.starvation_cap and capped is not None else warm_until)
    stay = max(warm_until, view.last_indexed_at + rules.linger) if view.last_indexed_at is not None else warm_until
    if now >= stay:
        return Unload("idle")
    opening = [view.not_before[t.key] for t in view.tickets if now < view.not_before.get(t.key, now)]
    return Wait(min([stay, *opening]))
