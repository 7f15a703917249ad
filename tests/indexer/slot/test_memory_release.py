from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from indexer.models.loader import RuntimeLoader


def fake_torch(calls: list[str], *, cuda: bool, mps: bool) -> Any:
    def says(name: str) -> Any:
        return lambda: calls.append(name)

    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: cuda, is_initialized=lambda: cuda, synchronize=says("cuda.synchronize"),
            empty_cache=says("cuda.empty_cache"), ipc_collect=says("cuda.ipc_collect"),
        ),
        mps=SimpleNamespace(synchronize=says("mps.synchronize"), empty_cache=says("mps.empty_cache")),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, False, ["cuda.synchronize", "cuda.empty_cache", "cuda.ipc_collect"]),
        (False, True, ["mps.synchronize", "mps.empty_cache"]),
        (False, False, []),
    ],
)
def test_the_accelerators_cache_is_emptied_after_its_work_is_done(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: list[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setitem(sys.modules, "torch", fake_torch(calls, cuda=cuda, mps=mps))
    RuntimeLoader().release()
    assert calls == expected


def test_nothing_is_imported_to_release_what_was_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    RuntimeLoader().release()
    assert "torch" not in sys.modules
