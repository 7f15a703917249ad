"""Where an index should not lie."""

from pathlib import Path

import pytest

from indexer.files.mounts import synchronised, warnings

LOCAL = [("/", "ext4")]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/home/me/Dropbox/data", "Dropbox"),
        ("/home/me/OneDrive - Work/x", "OneDrive - Work"),
        ("/Users/me/Library/Mobile Documents/com~apple~CloudDocs/x", "com~apple~CloudDocs"),
        ("/home/me/.local/share/folder-mcp", ""),
        ("/home/me/dropboxes/x", ""),
    ],
)
def test_synchronised_folders_are_known_by_name(path: str, named: str) -> None:
    assert synchronised(Path(path)) == named
    assert bool(warnings(Path(path), LOCAL)) is bool(named)


def test_synchronised_folders_are_known_by_their_mark(tmp_path: Path) -> None:
    (tmp_path / ".stfolder").mkdir()
    assert synchronised(tmp_path / "below" / "it") == tmp_path.name


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_disks_are_known_by_their_mount(kind: str) -> None:
    (said,) = warnings(Path("/mnt/share/data"), [("/", "ext4"), ("/mnt/share", kind)])
    assert kind in said
    assert "--data-dir" in said
    assert warnings(Path("/home/me"), [("/", "ext4"), ("/mnt/share", kind)]) == ()
