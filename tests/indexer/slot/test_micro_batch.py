"""Micro-batches by time."""

from hypothesis import given
from hypothesis import strategies as st

from indexer.slot.lease import (
    FIRST_BUDGET,
    LARGEST_BUDGET,
    Pace,
    after_batch,
    after_overflow,
    batch_size,
    padded_tokens,
    token_budget,
)


def test_the_first_batch_is_small_because_nothing_is_known():
    assert token_budget(Pace(), 1.0) == FIRST_BUDGET


def test_the_budget_is_what_the_model_does_in_the_target_time():
    pace = Pace(tokens_per_s=2000.0, largest=10_000)
    assert token_budget(pace, 1.0) == 2000
    assert token_budget(pace, 0.25) == 500


def test_the_budget_grows_by_at_most_four_times_the_largest_batch_seen():
    assert token_budget(after_batch(Pace(), 300, 0.001), 1.0) == 1200


def test_the_pace_is_a_moving_average():
    pace = after_batch(after_batch(Pace(), 1000, 1.0), 2000, 1.0)
    assert pace.tokens_per_s == 0.3 * 2000 + 0.7 * 1000
    assert pace.batch_s == 1.0


def test_a_slower_machine_gets_smaller_batches_at_once():
    fast = Pace(tokens_per_s=1000.0, largest=1000, batch_s=1.0)
    assert token_budget(after_batch(fast, 1000, 10.0), 1.0) < 800


def test_a_batch_that_did_not_fit_the_memory_halves_the_budget_for_good():
    pace = after_overflow(Pace(tokens_per_s=1e6, largest=8000), 8000)
    assert token_budget(pace, 1.0) == 4000
    assert token_budget(after_overflow(pace, 4000), 1.0) == 2000
    assert token_budget(after_overflow(pace, 9000), 1.0) == 4000


def test_measurements_of_nothing_change_nothing():
    assert after_batch(Pace(), 0, 1.0) == Pace() == after_batch(Pace(), 10, 0.0)


def test_one_text_goes_even_when_it_exceeds_the_budget():
    assert batch_size([512, 10], 1) == 1
    assert batch_size([], 100) == 0


def test_padding_counts():
    assert batch_size([10, 10, 10, 100], 300) == 3
    assert padded_tokens([10, 20]) == 40 and padded_tokens([]) == 0


@given(st.lists(st.integers(1, 512), min_size=1), st.integers(1, 5000))
def test_a_batch_fits_the_budget_or_is_a_single_text_and_could_not_be_longer(lengths, tokens):
    count = batch_size(lengths, tokens)
    assert 1 <= count <= len(lengths)
    assert count == 1 or padded_tokens(lengths[:count]) <= tokens
    assert count == len(lengths) or padded_tokens(lengths[: count + 1]) > tokens


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 1e3))), st.floats(0.01, 10))
def test_a_budget_is_always_between_one_and_the_largest(history, target):
    pace = Pace()
    for tokens, seconds in history:
        pace = after_batch(pace, tokens, seconds)
    assert 1 <= token_budget(pace, target) <= LARGEST_BUDGET
