"""``docs/scheduling.md`` names every number of the slot as the code has it, every state, and no others."""

from __future__ import annotations

import importlib
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from indexer.slot.failure import RETRIED
from indexer.slot.policy import Rules
from indexer.slot.slot_state import TRANSITIONS
from indexer.slot.slot_types import Limits, SlotSettings, SlotState

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "scheduling.md").read_text(encoding="utf-8")
NUMBERS = re.findall(r"^\| `(\w+)` \| (\S+)[^|]* \| (.+) \|$", PAGE, re.MULTILINE)


def in_code(name: str, place: str) -> Any:
    """The default that stands at ``module`` or ``module.Class`` under ``indexer.slot``, or in ``indexer.waits``."""
    module, _, owner = place.partition(".")
    found = importlib.import_module("indexer.waits" if module == "waits" else f"indexer.slot.{module}")
    if not owner:
        return getattr(found, name)
    (field,) = [field for field in fields(getattr(found, owner)) if field.name == name]
    return field.default


@pytest.mark.parametrize(("name", "said", "places"), NUMBERS, ids=[name for name, _, _ in NUMBERS])
def test_each_number_is_the_default_in_the_code(name: str, said: str, places: str) -> None:
    for place in re.findall(r"`([\w.]+)`", places):
        value = in_code(name, place)
        assert value == (said == "true" if isinstance(value, bool) else float(said)), place


def test_no_number_is_missing() -> None:
    told = {name for name, _, _ in NUMBERS}
    plain = {
        field.name
        for owner in (SlotSettings, Limits, Rules)
        for field in fields(owner)
        if field.default is not MISSING and isinstance(field.default, int | float)
    }
    constants = set()
    for module in ("priority_lock", "lease", "failure"):
        found = vars(importlib.import_module(f"indexer.slot.{module}"))
        constants |= {
            n for n, v in found.items() if n.isupper() and not n.startswith("_") and isinstance(v, int | float)
        }
    assert (plain | constants) - told - {"TYPE_CHECKING"} == set()


def test_every_number_is_explained_in_the_text() -> None:
    text = PAGE.split("## Numbers")[0]
    assert [name for name, _, _ in NUMBERS if f"`{name}`" not in text] == []


def test_the_states_and_their_edges_are_those_of_the_code() -> None:
    states = set(get_args(SlotState))
    rows = re.findall(r"^\| ([a-z, ]+) \| ([a-z, ]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    told = {(a, b) for here, there in rows for a in here.split(", ") for b in there.split(", ") if {a, b} <= states}
    assert told == TRANSITIONS


def test_the_codes_that_are_tried_again_are_those_of_the_code() -> None:
    (listed,) = re.findall(r"Codes that may pass \(([^)]*)\)", PAGE)
    assert set(re.findall(r"`(\w+)`", listed)) == RETRIED
