"""The embedding queue in memory."""

import pyarrow as pa

from indexer.store.vector_table import Backlog


def test_queue_is_what_is_in_one_column_and_not_in_the_other() -> None:
    backlog = Backlog.between(pa.chunked_array([["a", "b"], ["c"]]), pa.chunked_array([["b"]]))
    assert backlog.window(0, 9) == ["a", "c"]


def test_window_runs_from_the_compared_ids_into_the_late_ones() -> None:
    backlog = Backlog.between(pa.chunked_array([["a", "b", "c"]]), pa.chunked_array([[]], pa.string()))
    backlog.added_later += ["x", "y", "z"]
    assert backlog.window(2, 3) == ["c", "x", "y"]
    assert backlog.window(4, 9) == ["y", "z"]
    backlog.skip(2)
    assert backlog.window(0, 2) == ["c", "x"]
    backlog.skip(2)
    assert backlog.window(0, 9) == ["y", "z"]
    backlog.added_later.append("w")
    assert backlog.window(0, 9) == ["y", "z", "w"]
    backlog.skip(3)
    assert backlog.window(0, 9) == []
