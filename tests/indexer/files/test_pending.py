import os

from effort import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.files.watch import MANY, Pending, collapse


def test_a_path_is_due_after_its_quiet_time() -> None:
    pending = Pending(quiet=1.5, longest=10)
    pending.add(["/r/a"], now=0.0)
    assert pending.next_due() == 1.5
    assert pending.take(1.4) == []
    assert pending.take(1.5) == ["/r/a"]
    assert pending.next_due() is None and len(pending) == 0


def test_a_change_puts_off_only_its_own_path() -> None:
    pending = Pending(quiet=1.5, longest=10)
    pending.add(["/r/a", "/r/b"], now=0.0)
    pending.add(["/r/a"], now=1.0)
    assert pending.take(1.5) == ["/r/b"]
    assert pending.take(2.5) == ["/r/a"]


def test_a_path_that_never_rests_is_due_at_the_limit() -> None:
    pending = Pending(quiet=1.5, longest=10)
    now = 0.0
    while now < 9.9:
        pending.add(["/r/a"], now)
        assert pending.take(now) == []
        now += 0.5
    pending.add(["/r/a"], 9.9)
    assert pending.next_due() == 10.0
    assert pending.take(10.0) == ["/r/a"]


def test_what_lies_below_another_path_is_left_out() -> None:
    assert collapse(["/r/a", "/r/a/b", "/r/ab", "/r/c/d", "/r/a/b/c"], "/r") == ("/r/a", "/r/ab", "/r/c/d")
    assert collapse(["/r", "/r/a", "/r/b/c"], "/r") == ("/r",)
    assert collapse(["/", "/a"], "/") == ("/",)
    assert collapse([], "/r") == ()


def test_many_paths_become_their_directories() -> None:
    paths = [f"/r/d{number % 7}/{number}" for number in range(MANY + 1)]
    assert collapse(paths, "/r") == tuple(f"/r/d{number}" for number in range(7))
    assert collapse([f"/r/{number}" for number in range(MANY + 1)], "/r") == ("/r",)


names = st.lists(st.sampled_from("abc"), min_size=0, max_size=4).map(lambda parts: "/".join(["/r", *parts]))


@settings(max_examples=scaled(50))
@given(st.lists(names, max_size=30))
def test_every_path_is_covered_and_none_twice(paths: list[str]) -> None:
    left = collapse(paths, "/r")
    assert all(any(path == each or path.startswith(each + "/") for each in left) for path in paths)
    assert not any(a != b and a.startswith(b + "/") for a in left for b in left)
    assert set(left) <= set(paths)


@settings(max_examples=scaled(15))
@given(st.integers(0, 3000))
def test_a_batch_is_never_longer_than_many(count: int) -> None:
    paths = [f"/r/{number % 50}/{number % 1500}/{number}" for number in range(count)]
    left = collapse(paths, "/r")
    assert len(left) <= MANY
    assert all(path.startswith("/r") and os.path.isabs(path) for path in left)
