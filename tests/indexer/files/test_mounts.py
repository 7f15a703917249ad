import psutil
import pytest

from indexer.files.mounts import mount_table, silent_parts

TABLE = [
    ("/", "ext4"),
    ("/home", "btrfs"),
    ("/home/ada/share", "nfs4"),
    ("/home/ada/share/local", "ext4"),
    ("/home/ada/shared", "ext4"),
    ("/mnt/c", "9p"),
    ("/media/twice", "ext4"),
    ("/media/twice", "cifs"),
]


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        ("/home/ada/notes", ()),
        ("/home/ada/shared/x", ()),
        ("/home/ada/share", (("/home/ada/share", "nfs4"),)),
        ("/home/ada/share/x/y", (("/home/ada/share/x/y", "nfs4"),)),
        ("/home/ada/share/local/x", ()),
        ("/home/ada", (("/home/ada/share", "nfs4"),)),
        ("/mnt/c/Users", (("/mnt/c/Users", "9p"),)),
        ("/media/twice/x", (("/media/twice/x", "cifs"),)),
    ],
)
def test_the_mount_that_holds_a_folder_decides(root: str, parts: tuple[tuple[str, str], ...]) -> None:
    assert silent_parts(root, TABLE) == parts


def test_the_system_is_asked_for_its_mounts() -> None:
    assert [point for point, _ in mount_table()] == [each.mountpoint for each in psutil.disk_partitions(all=True)]
    assert mount_table()
