"""Data directories good, bad and synchronised."""

from __future__ import annotations

from pathlib import Path

import pytest
from findings import LOCAL, by_name

from mcp_server.doctor.machine import data_directory_findings, synchronised


def test_a_good_data_directory_is_ok_and_left_as_it_was(tmp_path: Path) -> None:
    found = list(data_directory_findings(tmp_path, LOCAL))
    assert {finding.verdict for finding in found} == {"ok"}
    assert {finding.name for finding in found} == {
        "data directory", "data directory's disk", "disk space", "hard links"
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_to_come_is_not_made(tmp_path: Path) -> None:
    found = by_name(data_directory_findings(tmp_path / "a" / "b", LOCAL))
    assert found["data directory"].verdict == "ok" and "not there yet" in found["data directory"].detail
    assert not (tmp_path / "a").exists()


def test_a_data_directory_below_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    found = by_name(data_directory_findings(tmp_path / "file" / "data", LOCAL))
    assert found["data directory"].verdict == "failure" and "is not a directory" in found["data directory"].detail


def test_a_network_disk_is_a_warning(tmp_path: Path) -> None:
    found = by_name(data_directory_findings(tmp_path, [("/", "ext4"), (str(tmp_path), "nfs4")]))
    assert found["data directory's disk"].verdict == "warning"
    assert "nfs4" in found["data directory's disk"].detail


def test_an_index_without_room_for_maintenance_is_a_failure(tmp_path: Path) -> None:
    table = tmp_path / "index" / "tables" / "chunks.lance"
    table.mkdir(parents=True)
    with (table / "data").open("wb") as big:
        big.truncate(12 << 40)  # a hole: terabytes that take no room
    found = by_name(data_directory_findings(tmp_path, LOCAL))
    assert found["disk space"].verdict == "failure"
    assert "1.2 times" in found["disk space"].detail


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/home/a/Dropbox/data", "Dropbox"),
        ("/home/a/Dropbox (Work)/data", "Dropbox (Work)"),
        ("/home/a/OneDrive - Acme/data", "OneDrive - Acme"),
        ("/Users/a/Library/Mobile Documents/com~apple~CloudDocs/x", "com~apple~CloudDocs"),
        ("/Users/a/Library/CloudStorage/GoogleDrive-a@b.c/x", "GoogleDrive-a@b.c"),
        ("/home/a/Google Drive/x", "Google Drive"),
        ("/home/a/dropboxes/data", ""),
        ("/home/a/.local/share/folder-mcp", ""),
    ],
)
def test_synchronised_folders_are_known_by_name(path: str, named: str) -> None:
    assert synchronised(Path(path)) == named


def test_a_synchronised_folder_is_known_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / ".stfolder").mkdir()
    found = by_name(data_directory_findings(tmp_path / "data", LOCAL))
    assert found["data directory in sync"].verdict == "warning"
