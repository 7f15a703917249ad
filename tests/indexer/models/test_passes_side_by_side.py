from __future__ import annotations

import heapq
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_bert

from indexer.models import onnx, recipe
from indexer.models.onnx import PADDED_TOKENS, SMALL, Passes, batches
from indexer.models.spec import resolve


def lengths_of(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [min(254, int(rng.lognormvariate(4.5, 0.8)) + 2) for _ in range(count)]


@pytest.mark.parametrize("at_once", [1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 33, 200])
def test_every_text_is_in_one_pass_and_no_pass_of_several_is_too_large(count: int, at_once: int) -> None:
    for seed in range(20):
        lengths = lengths_of(seed, count)
        cut = list(batches(lengths, PADDED_TOKENS, at_once))
        assert sorted(i for batch in cut for i in batch) == list(range(count))
        assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= PADDED_TOKENS for b in cut)


def idle_share(lengths: list[int], cut: list[list[int]], workers: int) -> float:
    """How much of the workers' time is lost when each takes the next pass as soon as it is free."""
    free = [0] * workers
    for batch in cut:
        heapq.heapreplace(free, free[0] + len(batch) * max(lengths[i] for i in batch))
    return 1 - sum(free) / (workers * max(free))


def test_passes_that_run_side_by_side_end_at_about_the_same_time() -> None:
    shared, whole = [], []
    for seed in range(50):
        lengths = lengths_of(seed, 33)
        shared.append(idle_share(lengths, list(batches(lengths, PADDED_TOKENS, 2)), 2))
        whole.append(idle_share(lengths, list(batches(lengths, PADDED_TOKENS)), 2))
    assert sum(shared) / 50 < 0.02 < sum(whole) / 50, "or the shares of what is left are in vain"


def test_so_many_passes_as_are_allowed_are_under_way_at_once() -> None:
    meeting, met = threading.Barrier(3, timeout=30), list[int]()

    def forward(batch: list[int]) -> None:
        met.append(meeting.wait())

    Passes(tokens=1, at_once=3, threads=1).run(forward, [5] * 9)
    assert sorted(met) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_a_pass_raises_reaches_the_caller(at_once: int) -> None:
    def forward(batch: list[int]) -> None:
        if 3 in batch:
            raise MemoryError("the third text")

    with pytest.raises(MemoryError, match="third"):
        Passes(tokens=1, at_once=at_once).run(forward, [2] * 6)


def test_small_models_work_side_by_side_and_others_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "cores", lambda: 4)
    assert Passes.of(12 * 12 * 384**2, one_by_one=False) == Passes(PADDED_TOKENS, at_once=4, threads=1)
    assert Passes.of(SMALL + 1, one_by_one=False) == Passes(PADDED_TOKENS, at_once=1, threads=0)
    assert Passes.of(0, one_by_one=False).at_once == 1, "nothing is known of it"
    assert Passes.of(1000, one_by_one=True) == Passes(1, at_once=4, threads=1)


def test_vectors_are_the_same_however_the_passes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["lease " * n for n in (30, 1, 12, 2, 7)] * 12
    directory = write_bert(tmp_path)
    assert 0 < recipe.layer_weights(directory) <= SMALL
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(onnx, "cores", lambda cores=cores: cores)
        spec = resolve(str(directory), device="cpu")
        model = onnx.load_embedder(spec, lambda _stage, _done: None, lambda: False)
        found.append(model.embed_passages(texts))
        model.close()
    assert np.abs(found[0] - found[1]).max() < 1e-6
