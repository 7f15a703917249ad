"""OpenDocument texts and presentations: every paragraph once, in order, at its slide or section."""

from __future__ import annotations

import pytest
from broken_files import LAUGHS, REMOTE
from documents import odt, opendocument

from indexer.documents.opendocument import read_opendocument
from indexer.errors import ParseFailed, ParseSkipped

LIMIT = 100_000
NUMBERED = (
    '<text:list-style style:name="L1"><text:list-level-style-number text:level="1" style:num-format="1"/>'
    "</text:list-style>"
)


def texts(data: bytes, kind: str = "odt") -> list[str]:
    return [unit.text for unit in read_opendocument(data, kind, LIMIT).units]


def test_a_slide_has_its_title_its_shapes_and_its_notes_and_nothing_of_its_master() -> None:
    body = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Results</text:p></draw:text-box>'
        "</draw:frame><draw:g><draw:custom-shape><text:p>in a <text:span>shape</text:span></text:p>"
        "</draw:custom-shape></draw:g><presentation:notes><draw:frame presentation:class='notes'><draw:text-box>"
        "<text:p>say this</text:p></draw:text-box></draw:frame><draw:frame><draw:text-box><text:p>"
        "<text:page-number>7</text:page-number></text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
        "<draw:page/><draw:page><draw:frame><draw:text-box><text:p>last</text:p></draw:text-box></draw:frame>"
        "</draw:page>"
    )
    units = read_opendocument(opendocument("presentation", body), "odp", LIMIT).units
    assert [(unit.kind, unit.name, unit.heading) for unit in units] == [("slide", "1", "Results"), ("slide", "3", "")]
    assert [unit.text for unit in units] == ["## Results\n\nin a shape\n\nNotes: say this", "last"]


def test_what_stands_in_a_frame_or_a_footnote_comes_once_and_after_its_paragraph() -> None:
    body = (
        "<text:p><draw:frame><draw:text-box><text:p>Caption</text:p></draw:text-box></draw:frame>Right of it"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Below</text:p></text:note-body>"
        "</text:note>.</text:p>"
    )
    assert texts(opendocument("text", body)) == ["Right of it.\n\nCaption\n\nBelow"]


def test_lists_tables_and_spaces_read_as_on_the_page() -> None:
    body = (
        '<text:list text:style-name="L1"><text:list-item><text:p>one</text:p><text:list><text:list-item>'
        "<text:p>inner</text:p></text:list-item></text:list></text:list-item><text:list-item><text:p>two</text:p>"
        "</text:list-item></text:list><table:table><table:table-row><table:table-cell><text:p>a</text:p><text:p>b"
        "</text:p></table:table-cell><table:covered-table-cell/><table:table-cell><text:p>c</text:p>"
        "</table:table-cell></table:table-row><table:table-row><table:table-cell/></table:table-row></table:table>"
        "<text:p>x<text:s text:c='3'/>y\n   z<text:line-break/>w</text:p>"
    )
    assert texts(opendocument("text", body, styles=NUMBERED)) == [
        "1. one\n   - inner\n2. two\n\n| a b |  | c |\n\nx   y z\nw"
    ]


def test_headings_make_sections_and_deleted_text_is_left_out() -> None:
    body = (
        "<text:tracked-changes><text:changed-region><text:p>gone</text:p></text:changed-region></text:tracked-changes>"
        f"<text:h text:outline-level='1'>Top</text:h><text:p>{'words ' * 300}</text:p>"
        "<text:h text:outline-level='2'>Deep</text:h><text:p># not a heading of the author's</text:p>"
    )
    units = read_opendocument(opendocument("text", body), "odt", LIMIT).units
    assert [unit.name for unit in units][:2] == ["Top", "Top > Deep"]
    assert not any("gone" in unit.text for unit in units)


@pytest.mark.parametrize("kind", ["odt", "odp"])
def test_a_document_with_a_password_is_called_encrypted(kind: str) -> None:
    data = opendocument("text" if kind == "odt" else "presentation", "<text:p>x</text:p>", sealed=True)
    with pytest.raises(ParseSkipped, match="encrypted"):
        read_opendocument(data, kind, LIMIT)


@pytest.mark.slow
def test_entities_neither_multiply_nor_reach_a_file() -> None:
    for before, name in ((LAUGHS, "j"), (REMOTE, "e")):
        data = opendocument("text", f"<text:p>&{name};</text:p>", before=before)
        try:
            found = "".join(texts(data))
        except ParseFailed:
            continue
        assert "root:" not in found
        assert len(found) < LIMIT


def test_a_part_beyond_the_limit_is_refused_and_a_cut_file_is_damaged() -> None:
    with pytest.raises(ParseSkipped, match=r"content\.xml exceeds the limit"):
        read_opendocument(odt([(0, "words " * 1000)]), "odt", 500)
    with pytest.raises(ParseFailed, match="damaged"):
        read_opendocument(odt([(0, "x")])[:-40], "odt", LIMIT)
    with pytest.raises(ParseFailed, match="damaged"):
        read_opendocument(opendocument("text", "<text:p>"), "odt", LIMIT)


def test_ten_thousand_levels_cost_no_recursion() -> None:
    deep = 10_000
    body = "<text:list><text:list-item>" * deep + "<text:p>deep</text:p>" + "</text:list-item></text:list>" * deep
    assert texts(opendocument("text", body))[0].endswith("- deep")
