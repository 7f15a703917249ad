"""Records are derived from dataclasses: a field is written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from moments import STATUS
from pydantic import ValidationError

from indexer.types import OneLine, PathName, Timestamp
from mcp_server.protocol.results import AsRecord, Record, StatusResult, record, sanitize


@dataclass(frozen=True, slots=True)
class WheelStatus:
    """One wheel.

    More about wheels, for readers of the code.
    """

    path: PathName
    worn: Annotated[Timestamp | None, "When it was worn."]


@dataclass(frozen=True, slots=True)
class Cart:
    """A cart."""

    name: str
    wheels: Annotated[tuple[WheelStatus, ...], "Its wheels."]
    spare: WheelStatus | None
    notes: Annotated[tuple[OneLine, ...], "What was seen."] = ()


class Yard(Record):
    """A yard, described by hand."""

    carts: list[Annotated[Cart, AsRecord()]]


HIDDEN = "/wheels/\x1b.svg"
CART = Cart("c", (WheelStatus(HIDDEN, 0.0),), None, ("two\nlines",))


def test_a_record_has_the_fields_the_order_and_the_descriptions_of_its_dataclass() -> None:
    schema = record(Cart).model_json_schema()
    assert (schema["title"], schema["description"]) == ("CartRecord", "A cart.")
    assert list(schema["properties"]) == ["name", "wheels", "spare", "notes"]
    assert schema["properties"]["wheels"]["description"] == "Its wheels."
    assert schema["required"] == ["name", "wheels", "spare"]
    assert schema["properties"]["notes"]["default"] == []
    assert schema["additionalProperties"] is False
    wheel = schema["$defs"]["WheelRecord"]
    assert wheel["description"] == "One wheel."
    assert wheel["properties"]["worn"]["description"] == "When it was worn."
    assert wheel["properties"]["worn"]["anyOf"] == [{"format": "date-time", "type": "string"}, {"type": "null"}]


def test_a_record_converts_times_paths_and_lines_wherever_they_stand() -> None:
    document = record(Cart).of(CART).model_dump(mode="json")
    worn = document["wheels"][0].pop("worn")
    assert document == {
        "name": "c",
        "wheels": [{"path": "file:///wheels/%1B.svg"}],
        "spare": None,
        "notes": ["two lines"],
    }
    assert worn.startswith(("1970-01-01T", "1969-12-31T"))


def test_a_field_that_nobody_declared_is_refused() -> None:
    document = record(Cart).of(CART).model_dump(mode="json")
    assert record(Cart).model_validate(document).model_dump(mode="json") == document
    with pytest.raises(ValidationError, match="invented"):
        record(Cart).model_validate({**document, "invented": 1})


def test_a_record_written_by_hand_publishes_a_dataclass_as_its_record() -> None:
    assert list(Yard.model_json_schema()["$defs"]) == ["CartRecord", "WheelRecord"]
    assert Yard(carts=[CART]).carts[0].wheels[0].path == "file:///wheels/%1B.svg"


def test_text_forms_get_the_same_dataclass_with_safe_text_and_times_as_numbers() -> None:
    assert sanitize(CART) == Cart("c", (WheelStatus("file:///wheels/%1B.svg", 0.0),), None, ("two lines",))
    assert sanitize(STATUS) == STATUS


def test_every_part_of_the_status_is_published_under_a_name_of_its_own() -> None:
    names = StatusResult.model_json_schema()["$defs"]  # of two of one name, pydantic makes module__name
    assert {"SlotRecord", "FolderRecord", "ReasonRecord"} <= set(names)
    assert [name for name in names if not name.isalpha() or not name.endswith("Record")] == []
