"""The rules, one by one: a view and a time in, an action out. No loop, no clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.slot.policy import CancelLoad, Grant, Load, Retry, Rules, Ticket, Unload, View, Wait, decide, should_yield
from indexer.slot.priority_lock import Priority

A, B, C = ("a",), ("b",), ("c",)
RULES = Rules()
NOW = 10_000.0


def tool(key, number=1, since=NOW):
    return Ticket(number, key, Priority.TOOL, since)


def index(key, number=1, since=NOW, folder_rank=0):
    return Ticket(number, key, Priority.INDEX, since, folder_rank)


def test_nobody_waits_and_nothing_is_loaded_so_nothing_happens():
    assert decide(View(), NOW, RULES) == Wait(None)


def test_a_held_lock_leaves_nothing_to_decide():
    assert decide(View(busy=True, loaded=A, tickets=(tool(B),)), NOW, RULES) == Wait()


def test_an_empty_slot_loads_for_the_tool_call_before_earlier_indexing():
    assert decide(View(tickets=(index(A, 1), tool(B, 2))), NOW, RULES) == Load(B)


def test_an_empty_slot_loads_for_the_oldest_tool_call():
    assert decide(View(tickets=(tool(B, 2), tool(A, 1))), NOW, RULES) == Load(A)


def test_an_empty_slot_loads_for_the_oldest_folder():
    tickets = (index(A, 1, folder_rank=2), index(B, 2, folder_rank=1), index(C, 3, folder_rank=1))
    assert decide(View(tickets=tickets), NOW, RULES) == Load(B)


def test_tool_calls_for_the_loaded_model_pass_an_earlier_one_for_another():
    assert decide(View(loaded=A, tickets=(tool(B, 1), tool(A, 2))), NOW, RULES) == Grant()


def test_a_passed_tool_call_goes_by_age_after_five_seconds():
    view = View(loaded=A, tickets=(tool(B, 1, NOW - 5), tool(A, 2)))
    assert decide(view, NOW - 0.01, RULES) == Grant()
    assert decide(view, NOW, RULES) == Unload("swap")


def test_a_passed_tool_call_goes_by_age_after_eight_grants():
    view = View(loaded=A, tickets=(tool(B, 1), tool(A, 2)))
    assert decide(replace(view, skipped_count=7), NOW, RULES) == Grant()
    assert decide(replace(view, skipped_count=8), NOW, RULES) == Unload("swap")


def test_by_age_the_loaded_model_goes_on_when_its_call_is_the_older():
    view = View(loaded=A, skipped_count=99, tickets=(tool(A, 1, NOW - 9), tool(B, 2, NOW - 8)))
    assert decide(view, NOW, RULES) == Grant()


def test_a_tool_call_for_another_model_swaps_although_indexing_of_the_loaded_one_waits():
    assert decide(View(loaded=A, tickets=(index(A, 1), tool(B, 2))), NOW, RULES) == Unload("swap")


def test_a_tool_call_for_another_model_swaps_within_the_warm_window():
    assert decide(View(loaded=A, warm_until=NOW + 100, tickets=(tool(B),)), NOW, RULES) == Unload("swap")


def test_indexing_of_the_loaded_model_runs_in_its_warm_window():
    assert decide(View(loaded=A, warm_until=NOW + 100, tickets=(index(A),)), NOW, RULES) == Grant()


def test_indexing_of_another_model_waits_for_the_end_of_the_warm_window():
    view = View(loaded=A, warm_until=NOW, blocked_since=NOW - 100, tickets=(index(B),))
    assert decide(view, NOW - 1, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Unload("swap")


def test_indexing_of_another_model_swaps_in_when_the_starvation_cap_is_reached():
    view = View(loaded=A, warm_until=NOW + 300, blocked_since=NOW - 600, tickets=(index(B),))
    assert decide(view, NOW - 1, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Unload("swap", capped=B)


def test_the_cap_counts_even_while_tool_calls_and_indexing_of_the_loaded_model_wait():
    view = View(loaded=A, warm_until=NOW + 300, blocked_since=NOW - 600, tickets=(tool(A), index(A, 2), index(B, 3)))
    assert decide(view, NOW, RULES) == Unload("swap", capped=B)


def test_a_cap_of_zero_means_pure_warmth():
    view = View(loaded=A, warm_until=NOW + 300, blocked_since=NOW - 10_000, tickets=(index(B),))
    assert decide(view, NOW, Rules(starvation_cap=0)) == Wait(NOW + 300)


def test_what_came_in_by_the_cap_is_loaded_before_a_waiting_tool_call():
    assert decide(View(reserved_for=B, tickets=(tool(A, 1), index(B, 2))), NOW, RULES) == Load(B)


def test_what_came_in_by_the_cap_gets_its_micro_batch_before_the_next_swap():
    view = View(loaded=B, reserved_for=B, tickets=(tool(A, 1), index(B, 2)))
    assert decide(view, NOW, RULES) == Grant()
    assert decide(replace(view, reserved_for=None), NOW, RULES) == Unload("swap")


def test_an_owed_turn_whose_indexer_has_left_is_forgotten():
    assert decide(View(reserved_for=B, tickets=(tool(A),)), NOW, RULES) == Load(A)
    assert decide(View(loaded=B, reserved_for=B, tickets=(tool(A),)), NOW, RULES) == Unload("swap")


def test_folders_of_the_loaded_model_go_first_and_older_folders_of_another_wait():
    assert (
        decide(View(loaded=A, tickets=(index(B, 1, folder_rank=0), index(A, 2, folder_rank=9))), NOW, RULES) == Grant()
    )


def test_nothing_waits_and_the_window_is_over_so_the_model_is_unloaded():
    view = View(loaded=A, warm_until=NOW)
    assert decide(view, NOW - 0.001, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Unload("idle")


def test_a_model_no_tool_call_used_is_unloaded_at_once():
    assert decide(View(loaded=A), NOW, RULES) == Unload("idle")


def test_a_model_that_indexed_lingers_for_the_pause_between_two_batches():
    view = View(loaded=A, last_indexed_at=NOW - 2)
    assert decide(view, NOW - 1, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Unload("idle")


def test_lingering_does_not_shorten_the_warm_window():
    view = View(loaded=A, last_indexed_at=NOW - 10, warm_until=NOW + 100)
    assert decide(view, NOW, RULES) == Wait(NOW + 100)


def test_lingering_keeps_nobody_waiting():
    assert decide(View(loaded=A, last_indexed_at=NOW, tickets=(index(B),)), NOW, RULES) == Unload("swap")


def test_unloading_on_request_ignores_the_warm_window_but_lets_waiters_go_first():
    view = View(loaded=A, warm_until=NOW + 100, unload_asked=True)
    assert decide(view, NOW, RULES) == Unload("asked")
    assert decide(replace(view, tickets=(index(A),)), NOW, RULES) == Grant()


def test_a_lost_model_is_unloaded_whoever_waits():
    assert decide(View(loaded=A, lost=True, tickets=(tool(A),)), NOW, RULES) == Unload("lost")


def test_a_model_in_trouble_is_not_loaded_before_its_time():
    view = View(tickets=(index(A),), not_before={A: NOW})
    assert decide(view, NOW - 1, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Load(A)


def test_indexing_of_a_model_in_trouble_does_not_drive_the_loaded_one_out():
    view = View(loaded=A, warm_until=NOW + 9, tickets=(index(B),), not_before={B: NOW + 5})
    assert decide(view, NOW, RULES) == Wait(NOW + 5)


def test_the_loaded_model_leaves_when_its_window_ends_before_the_troubled_one_may_come():
    view = View(loaded=A, warm_until=NOW, tickets=(index(B),), not_before={B: NOW + 500})
    assert decide(view, NOW, RULES) == Unload("idle")


def test_a_failed_load_is_tried_again_for_an_asker_who_was_sent_away():
    view = View(retries=(Retry(A, NOW, NOW + 300),))
    assert decide(view, NOW - 1, RULES) == Wait(NOW)
    assert decide(view, NOW, RULES) == Load(A)


def test_a_retry_nobody_asked_for_lately_is_left():
    assert decide(View(retries=(Retry(A, NOW - 500, NOW - 200),)), NOW, RULES) == Wait(None)


def test_a_retry_does_not_drive_out_a_loaded_model():
    view = View(loaded=B, warm_until=NOW + 50, retries=(Retry(A, NOW, NOW + 300),))
    assert decide(view, NOW, RULES) == Wait(NOW + 50)


@pytest.mark.parametrize(
    ("tickets", "dropped"),
    [
        ((), False),
        ((tool(A),), False),
        ((tool(A), tool(B, 2)), False),
        ((tool(B),), True),
        ((index(B),), True),
        ((index(A), index(B, 2)), False),
        ((index(A), tool(B, 2)), True),
    ],
)
def test_a_load_is_dropped_only_when_another_is_wanted_more(tickets, dropped):
    action = decide(View(busy=True, loading=A, tickets=tickets), NOW, RULES)
    assert action == (CancelLoad() if dropped else Wait())


def test_a_load_that_the_cap_owes_is_not_dropped():
    view = View(busy=True, loading=A, reserved_for=A, tickets=(index(A), tool(B, 2)))
    assert decide(view, NOW, RULES) == Wait()


def test_indexing_yields_to_any_tool_call():
    assert should_yield(View(busy=True, loaded=A, tickets=(tool(B),)), A, NOW, RULES)
    assert should_yield(View(busy=True, loaded=A, tickets=(tool(A),)), A, NOW, RULES)
    assert not should_yield(View(busy=True, loaded=A, tickets=(index(B), index(A, 2))), A, NOW, RULES)


def test_indexing_yields_to_indexing_that_has_reached_the_cap():
    view = View(busy=True, loaded=A, warm_until=NOW + 9, blocked_since=NOW - 600, tickets=(index(B),))
    assert should_yield(view, A, NOW, RULES)
    assert not should_yield(view, A, NOW - 1, RULES)


KEYS = st.sampled_from([A, B, C])
TIMES = st.integers(0, 1000).map(float)
CLASSES = st.sampled_from([Priority.TOOL, Priority.INDEX])


@st.composite
def views(draw):
    tickets = tuple(
        Ticket(
            n, draw(KEYS), draw(st.sampled_from([Priority.TOOL, Priority.INDEX])), draw(TIMES), draw(st.integers(0, 2))
        )
        for n in range(draw(st.integers(0, 5)))
    )
    loaded = draw(st.none() | KEYS)
    return View(
        busy=draw(st.booleans()),
        loaded=loaded,
        tickets=tickets,
        warm_until=draw(st.none() | TIMES) if loaded else None,
        last_indexed_at=draw(st.none() | TIMES) if loaded else None,
        blocked_since=draw(st.none() | TIMES) if loaded else None,
        reserved_for=draw(st.none() | KEYS),
        skipped_count=draw(st.integers(0, 9)),
        not_before=draw(st.dictionaries(KEYS, TIMES)),
        unload_asked=draw(st.booleans()),
    )


@given(views(), TIMES)
def test_every_decision_is_sound(view, now):
    action = decide(view, now, RULES)
    match action:
        case Load(key):
            assert view.loaded is None and not view.busy, "never a second model, never under a lease"
            assert now >= view.not_before.get(key, now), "never before its time"
            assert any(t.key == key for t in view.tickets), "never for nobody"
        case Unload(reason, _):
            assert view.loaded is not None and not view.busy, "never under a lease"
            if reason == "idle":
                assert view.warm_until is None or now >= view.warm_until, "never in the warm window"
            if reason == "swap":
                assert any(t.key != view.loaded and now >= view.not_before.get(t.key, now) for t in view.tickets)
        case Grant():
            assert any(t.key == view.loaded for t in view.tickets) and not view.busy
        case Wait(until):
            assert until is None or until > now, "a time that has come is acted upon, or the slot would spin"
            ready = [t for t in view.tickets if now >= view.not_before.get(t.key, now)]
            if not view.busy:
                assert not any(t.priority is Priority.TOOL for t in ready), "no tool call is left waiting"
                assert not any(t.key == view.loaded for t in ready)
                assert view.loaded is not None or not ready


@given(views(), TIMES)
def test_the_cap_is_kept(view, now):
    starving = [t for t in view.tickets if t.priority is Priority.INDEX and t.key != view.loaded]
    ready = [t for t in starving if now >= view.not_before.get(t.key, now)]
    over = view.blocked_since is not None and now - view.blocked_since >= RULES.starvation_cap
    if view.loaded and not view.busy and over and ready and view.reserved_for != view.loaded:
        assert isinstance(decide(view, now, RULES), Unload)
