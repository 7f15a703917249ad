"""Every relative link of the documentation leads somewhere, to the heading it names too."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from docs_text import PAGES, anchor, anchors, name_of, without_blocks

LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)|(?:src|href)=\"(?P<source>[^\"]+)\"")


def wrong_links(page: Path) -> list[str]:
    """The links of a page that lead nowhere, each with the reason."""
    wrong = []
    for found in LINK.finditer(without_blocks(page.read_text(encoding="utf-8"))):
        target = found["target"] or found["source"]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, heading = target.partition("#")
        there = page if not path else (page.parent / unquote(path)).resolve()
        if not there.exists():
            wrong.append(f"{target}: there is no such file")
        elif heading and there.suffix == ".md" and heading not in anchors(there):
            wrong.append(f"{target}: that page has no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert wrong_links(page) == []


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](page.md#one-two) [b](no.md) [c](#three) [d](https://example.org/x)\n", "utf-8")
    assert wrong_links(page) == ["no.md: there is no such file", "#three: that page has no such heading"]


def test_headings_get_the_anchors_that_github_makes() -> None:
    assert anchor("What it costs") == "what-it-costs"
    assert anchor("`folder-mcp serve` [FOLDER ...]") == "folder-mcp-serve-folder-"


def test_every_page_is_linked_from_another() -> None:
    linked = set()
    for page in PAGES:
        for found in LINK.finditer(without_blocks(page.read_text(encoding="utf-8"))):
            path = (found["target"] or found["source"]).partition("#")[0]
            if path and ":" not in path:
                there = (page.parent / unquote(path)).resolve()
                linked |= {there} if there.is_file() else set(there.glob("*.md"))
    assert [name_of(page) for page in PAGES if page not in linked and page.name != "README.md"] == []
