"""What the owner says arrives as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes_engine import FakeEngine

from indexer.slot.slot_types import ModelStatus, SlotStatus
from indexer.status_types import IndexReport, Status, Work
from indexer.types import Answer, FolderCoverage, Hit, Locator, Query, Scope, Semantic
from mcp_server.engine_port import from_json, to_json

PLACE = str(Locator("lines", "", 1, 2))
HIT = Hit("/notes/a\udcff.md", "/notes", PLACE, "", "x", 1.0, ("semantic", "keyword"), 1.5, False)
SEEN = (FolderCoverage("/notes", "m", 1, 0, 1.0),)
ANSWER = Answer((HIT,), "hybrid", Semantic("served", 1.0), SEEN, None, ("n",), 1.5)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Answer, ANSWER),
        (Query, Query("q", scope=Scope(folders=("/a", "/b"), path_glob="*.md", modified_after=1.0))),
        (Query, Query("q")),
        (Status, FakeEngine().status()),
        (SlotStatus, SlotStatus(model=ModelStatus("n", "k", 3, "onnx", "cpu", "float32"))),
        (IndexReport, IndexReport((), 1, 0, 0, 1, 1, Work(1, 2, 3), 0.5, True, (), ())),
    ],
)
def test_a_round_trip_changes_nothing(kind: Any, value: object) -> None:
    assert from_json(kind, json.loads(json.dumps(to_json(value)))) == value


def test_fields_of_a_newer_owner_are_passed_over_and_missing_ones_have_their_default() -> None:
    assert from_json(Query, {"text": "q", "invented": 1}) == Query("q")
    with pytest.raises(TypeError):
        from_json(Query, {"top_k": 3})
