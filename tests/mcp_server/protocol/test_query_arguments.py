from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from indexer.errors import QueryError
from mcp_server.protocol import arguments


@pytest.mark.parametrize("name", ["plain.md", "with space.md", "100%.md", "what?#.md", "caf\udce9.md", "ünï.md"])
def test_an_address_leads_back_to_its_path(name: str) -> None:
    path = f"/notes/{name}"
    assert arguments.path_from(Path(path).as_uri()) == path


def test_home_is_understood() -> None:
    assert arguments.path_from("~/notes") == os.path.expanduser("~/notes")


def test_an_address_on_another_machine_is_refused() -> None:
    with pytest.raises(QueryError, match="another machine"):
        arguments.path_from("file://server/share/a.md")


def test_an_ambiguous_folder_name_is_not_guessed() -> None:
    with pytest.raises(QueryError, match="indexed folders: /a/notes, /b/notes"):
        arguments.roots_of(["notes"], ["/a/notes", "/b/notes"])


def test_a_misspelled_folder_is_answered_with_the_nearest() -> None:
    with pytest.raises(QueryError, match="did you mean /home/me/notes"):
        arguments.roots_of(["/home/me/note"], ["/home/me/notes", "/srv/work"])


def test_without_any_folder_the_remedy_is_named() -> None:
    with pytest.raises(QueryError, match="folders add"):
        arguments.roots_of(["notes"], [])


def test_a_link_to_a_folder_means_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert arguments.roots_of([str(tmp_path / "link")], [str(tmp_path / "real")]) == (str(tmp_path / "real"),)


def test_dates_without_zone_are_local() -> None:
    assert arguments.parse_time("2026-11-01") == datetime(2026, 11, 1).timestamp()
    assert arguments.parse_time("2026-11-01T09:00+01:00") == arguments.parse_time("2026-11-01T08:00Z")
