"""The last hour, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

from fakes import model_spec
from hypothesis import given
from hypothesis import strategies as st

from indexer.history import (
    CHANGES,
    KEPT_S,
    MINUTE,
    SEARCHES,
    AnsweredSearch,
    History,
    HistoryRecorder,
    Minute,
    SlotChange,
)
from indexer.slot.slot import Transition
from indexer.slot.slot_types import SlotState
from indexer.status_types import Work
from mcp_server.engine_port import from_json, to_json

START = 1_700_000_000.0
SPEC = model_spec("paraphrase")


def slot(state: SlotState, epoch: int, since: float) -> Transition:
    return Transition(epoch, state, since, SPEC.name if state != "idle" else "")


def searched(at: float, ms: float) -> AnsweredSearch:
    return AnsweredSearch(at, ms, "served")


def states(history: History) -> list[tuple[float, str]]:
    return [(change.at - START, change.state) for change in history.changes]


def test_each_state_is_written_down_once_and_with_its_model() -> None:
    recorder = HistoryRecorder(START)
    for state, epoch, at in (("idle", 0, 0.0), ("loading", 1, 10.0), ("loading", 1, 10.0), ("ready", 2, 15.0)):
        recorder.record_slot_status(slot(state, epoch, START + at))  # type: ignore[arg-type]
    history = recorder.history(START + 20)
    assert states(history) == [(0.0, "idle"), (10.0, "loading"), (15.0, "ready")]
    assert [change.model for change in history.changes] == ["", "paraphrase", "paraphrase"]


def test_an_hour_is_kept_and_the_state_at_its_beginning() -> None:
    recorder = HistoryRecorder(START)
    for epoch, (state, at) in enumerate((("idle", 0.0), ("loading", 100.0), ("ready", 200.0), ("unloading", 5000.0))):
        recorder.record_slot_status(slot(state, epoch, START + at))  # type: ignore[arg-type]
    history = recorder.history(START + 5100)
    assert history.since == START + 5100 - KEPT_S
    assert states(history) == [(200.0, "ready"), (5000.0, "unloading")]


def test_work_goes_to_the_minute_in_which_it_was_done() -> None:
    recorder = HistoryRecorder(START)
    first = START - START % 60 + 60
    recorder.record_counters(first + 1, Work(files_read=2, chunks_written=9, chunks_embedded=4))
    recorder.record_counters(first + 59, Work(files_read=2, chunks_written=9, chunks_embedded=9))
    recorder.record_counters(first + 59.5, Work(files_read=2, chunks_written=9, chunks_embedded=9))
    recorder.record_counters(first + 61, Work(files_read=3, chunks_written=9, chunks_embedded=9))
    assert recorder.history(first + 62).minutes == (Minute(first, 2, 9, 9), Minute(first + 60, 1, 0, 0))


def test_memory_is_bounded_whatever_happens() -> None:
    recorder = HistoryRecorder(START)
    for number in range(3 * max(CHANGES, SEARCHES)):
        at = START + number / 10
        recorder.record_slot_status(slot("ready" if number % 2 else "loading", number, at))
        recorder.searches.append(searched(at, 1.0))
        recorder.record_counters(START + number * 60, Work(files_read=number))
    history = recorder.history(START + 180)
    assert (len(history.changes), len(history.searches), len(history.minutes)) == (CHANGES, SEARCHES, 61)


def test_a_search_is_forgotten_after_an_hour_and_its_words_are_never_kept() -> None:
    recorder = HistoryRecorder(START)
    recorder.searches.append(searched(START + 1, 12.5))
    assert [search.elapsed_ms for search in recorder.history(START + 2).searches] == [12.5]
    assert recorder.history(START + 2 + KEPT_S).searches == ()


def joined(known: History, news: History) -> History:
    """What a page makes of the two: a minute that went on replaces what was known of it."""
    minutes = {minute.at: minute for minute in (*known.minutes, *news.minutes)}
    changes = {change.at: change for change in (*known.changes, *news.changes)}
    start = max(known.since, news.at - KEPT_S)
    before = [change for change in changes.values() if change.at <= start]
    return History(
        news.at,
        start,
        (*before[-1:], *(change for change in changes.values() if change.at > start)),
        tuple(each for each in dict.fromkeys((*known.searches, *news.searches)) if each.at >= start),
        tuple(each for each in minutes.values() if each.at + MINUTE > start),
    )


events = st.lists(
    st.tuples(st.sampled_from(["slot", "search", "work"]), st.floats(0.01, 900.0)), min_size=1, max_size=40
)


@given(events, st.sets(st.integers(0, 39)))
def test_what_was_known_and_what_came_after_it_make_the_whole(
    happened: Sequence[tuple[str, float]], looks: set[int]
) -> None:
    """Whoever watches asks for what is new; put together it is what one question at the end would have brought."""
    recorder, at = HistoryRecorder(START), START
    work, seen = Work(), recorder.history(START)
    for number, (what, pause) in enumerate(happened):
        at += pause
        if what == "slot":
            recorder.record_slot_status(slot("ready" if number % 2 else "loading", number, at))
        elif what == "search":
            recorder.searches.append(searched(at, float(number)))
        else:
            work = Work(files_read=work.files_read + 1, chunks_embedded=work.chunks_embedded + number)
            recorder.record_counters(at, work)
        if number in looks:
            seen = joined(seen, recorder.history(at, seen.at))
    assert joined(seen, recorder.history(at, seen.at)) == recorder.history(at)


def test_the_history_travels_between_processes() -> None:
    history = History(START, START - 5, (SlotChange(START - 5, "idle", ""),), (), (Minute(START, 1, 2, 3),))
    assert from_json(History, to_json(history)) == history
