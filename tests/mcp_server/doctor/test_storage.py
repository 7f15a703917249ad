"""Data directories good, bad and synchronised."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from findings import LOCAL, by_name

from mcp_server.doctor.machine import data_directory_findings, synchronised


def test_a_good_data_directory_is_ok_and_left_as_it_was(tmp_path: Path) -> None:
    found = list(data_directory_findings(tmp_path, LOCAL))
    assert {finding.verdict for finding in found} == {"ok"}
    assert {finding.name for finding in found} == {
        "data directory", "data directory's access", "data directory's disk", "disk space", "hard links"
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_data_directory_that_others_can_enter_is_a_warning_and_left_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    found = by_name(data_directory_findings(data, LOCAL))["data directory's access"]
    assert found.verdict == "warning" and "mode 0755" in found.detail and f"chmod 700 {data}" in found.remedy
    assert stat.S_IMODE(data.stat().st_mode) == 0o755
    data.chmod(0o700)
    found = by_name(data_directory_findings(data, LOCAL))["data directory's access"]
    assert found.verdict == "ok" and "mode 0700" in found.detail


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can make a directory of another user")
def test_a_data_directory_of_another_user_is_a_failure(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 65534, 65534)
    found = by_name(data_directory_findings(data, LOCAL))["data directory's access"]
    assert found.verdict == "failure" and "(65534)" in found.detail


@pytest.mark.skipif(os.name != "posix", reason="modes")
@pytest.mark.parametrize("by", ["path", "link"])
def test_a_way_to_the_data_directory_that_others_can_change_is_a_warning(tmp_path: Path, by: str) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "data").mkdir(mode=0o700)
    data = shared / "data"
    if by == "link":  # in both directions: where the link is, and what it leads through
        data = tmp_path / "link"
        data.symlink_to(shared / "data")
    assert "way to the data directory" not in by_name(data_directory_findings(data, LOCAL))
    shared.chmod(0o777)
    found = by_name(data_directory_findings(data, LOCAL))["way to the data directory"]
    assert found.verdict == "warning" and str(shared) in found.detail
    shared.chmod(0o1777)  # as /tmp: others cannot rename what is not theirs
    assert "way to the data directory" not in by_name(data_directory_findings(data, LOCAL))


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
