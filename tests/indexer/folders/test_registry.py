import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from indexer.config import Config, FolderSettings
from indexer.errors import ConfigError, FolderError
from indexer.folders.registry import KnownFolder, add_folder, check_folder, list_folders, remove_folder

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@pytest.fixture
def config(here: Path) -> Config:
    return Config(data_dir=here / "data", config_file=here / "config.toml")


def made(here: Path, *names: str) -> list[str]:
    for name in names:
        (here / name).mkdir(parents=True, exist_ok=True)
    return [str(here / name) for name in names]


def test_an_added_folder_is_remembered_with_its_settings(here: Path, config: Config) -> None:
    (notes,) = made(here, "notes")
    added = add_folder(config, notes, model="a/b", include=[".env"], exclude=["drafts/"])
    assert added == KnownFolder(notes, "a/b", (".env",), ("drafts/",))
    assert list_folders(config).known == (added,)


def test_adding_again_is_no_error_and_changes_only_what_is_given(here: Path, config: Config) -> None:
    (notes,) = made(here, "notes")
    add_folder(config, notes, model="a/b", exclude=["x"])
    assert add_folder(config, notes) == KnownFolder(notes, "a/b", (), ("x",))
    assert add_folder(config, notes, model="c/d") == KnownFolder(notes, "c/d", (), ("x",))
    assert list_folders(config).paths == (notes,)


def test_a_link_a_relative_path_and_a_trailing_slash_are_the_same_folder(
    here: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (notes,) = made(here, "notes")
    (here / "link").symlink_to(notes)
    monkeypatch.chdir(here)
    for spelling in (notes, "notes", "./notes/", str(here / "link"), str(here / "x/../notes")):
        assert add_folder(config, spelling).path == notes
    assert list_folders(config).paths == (notes,)


def test_a_home_relative_path_is_expanded(here: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    (notes,) = made(here, "notes")
    assert add_folder(config, "~/notes").path == notes


@pytest.mark.parametrize("name", ['quo"te', "new\nline", "\U0001f600", "a 'b'", os.fsdecode(b"\xff\xfe")])
def test_odd_names_survive_being_remembered(here: Path, config: Config, name: str) -> None:
    try:
        (odd,) = made(here, name)
    except OSError:
        pytest.skip("this file system refuses such a name")
    add_folder(config, odd)
    assert list_folders(config).paths == (odd,)
    assert remove_folder(config, odd).path == odd
    assert list_folders(config).known == ()


def test_a_removed_folder_is_forgotten_even_if_it_is_gone(here: Path, config: Config) -> None:
    (notes, other) = made(here, "notes", "other")
    add_folder(config, notes)
    add_folder(config, other)
    os.rmdir(notes)
    remove_folder(config, notes)
    assert list_folders(config).paths == (other,)


def test_removing_what_is_not_known_names_what_is(here: Path, config: Config) -> None:
    (notes,) = made(here, "notes")
    with pytest.raises(FolderError, match="is not a known folder; known folders: none"):
        remove_folder(config, notes)
    add_folder(config, notes)
    with pytest.raises(FolderError, match=f"overlaps {notes}"):
        remove_folder(config, str(here))


def test_folders_of_the_file_come_first_and_count_over_added_ones(here: Path, config: Config) -> None:
    notes, other = made(here, "notes", "other")
    add_folder(config, notes, model="a/b")
    add_folder(config, other)
    config = replace(config, folders=(FolderSettings(notes, "c/d"),))
    assert list_folders(config).known == (
        KnownFolder(notes, "c/d", source="config", allow_broad=True),
        KnownFolder(other),
    )
    assert add_folder(config, notes).source == "config"
    with pytest.raises(FolderError, match=r"is set in .*config\.toml; change it there"):
        add_folder(config, notes, model="e/f")
    with pytest.raises(FolderError, match=r"is set in .*config\.toml; take its"):
        remove_folder(config, notes)


def test_a_folder_that_is_missing_now_stays_known(here: Path, config: Config) -> None:
    (notes,) = made(here, "notes")
    add_folder(config, notes)
    os.rmdir(notes)
    config = replace(config, folders=(FolderSettings(str(here / "usb")),))
    assert list_folders(config).paths == (str(here / "usb"), notes)


def test_a_bad_folder_of_the_file_costs_only_itself(here: Path, config: Config) -> None:
    notes, _, other = made(here, "notes", "notes/sub", "other")
    (here / "file").write_text("")
    wrong = (str(here / "file"), str(here / "notes/sub"))
    config = replace(config, folders=tuple(FolderSettings(path) for path in (notes, *wrong, other)))
    listed = list_folders(config)
    assert listed.paths == (notes, other)
    assert [path in reason for path, reason in zip(wrong, listed.refused, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("known", "new", "message"),
    [
        ("a", "a/b", "is inside {known}, which is already indexed"),
        ("a", "a/b/c", "is inside {known}, which is already indexed"),
        ("a/b", "a", "contains {known}, which is already indexed"),
        ("a/b/c", "a", "contains {known}, which is already indexed"),
        ("a", "ab", None),
        ("a/b", "a/c", None),
        ("a", "a", None),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_overlap_is_refused_either_way_and_names_the_other(
    here: Path, config: Config, known: str, new: str, message: str | None, linked: bool
) -> None:
    old, fresh = made(here, known, new)
    add_folder(config, old)
    if linked:
        (here / "link").symlink_to(fresh)
        fresh = str(here / "link")
    if message is None:
        add_folder(config, fresh)
    else:
        with pytest.raises(FolderError, match=message.format(known=old)):
            add_folder(config, fresh)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; check the spelling"),
        (lambda path: path.write_text(""), "is a file; name the folder it is in: "),
        (lambda path: path.symlink_to("nowhere"), "does not exist"),
        (lambda path: path.symlink_to(path.name), "cannot be read|does not exist"),
    ],
)
def test_what_is_no_folder_is_refused(here: Path, config: Config, make, message: str) -> None:
    make(here / "x")
    with pytest.raises(FolderError, match=message):
        add_folder(config, str(here / "x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_an_unreadable_folder_is_refused(here: Path, config: Config) -> None:
    (closed,) = made(here, "closed")
    os.chmod(closed, 0)
    with pytest.raises(FolderError, match="cannot be read"):
        add_folder(config, closed)


@pytest.mark.parametrize("path", ["", "\0", "a\0b"])
def test_what_is_no_path_is_refused(config: Config, path: str) -> None:
    for attempt in (add_folder, remove_folder):
        with pytest.raises(FolderError, match="is not a path"):
            attempt(config, path)


def test_a_broad_folder_once_allowed_may_be_named_again(
    here: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home,) = made(here, "ada")
    monkeypatch.setenv("HOME", home)
    assert add_folder(config, "~", allow_broad=True).allow_broad
    assert add_folder(config, "~", model="a/b") == KnownFolder(home, "a/b", allow_broad=True)


@pytest.mark.parametrize("path", ["/", "/etc", "/usr", "/usr/lib", "/var", "/tmp", "~", "~/.."])
def test_broad_folders_are_taken_only_when_asked_for(here: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "homes/ada").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(here / "homes/ada"))
    data = Path("/nonexistent/data")
    with pytest.raises(FolderError, match="--allow-broad"):
        check_folder(path, data_dir=data)
    assert check_folder(path, data_dir=data, allow_broad=True) == os.path.realpath(os.path.expanduser(path))


def test_a_folder_below_a_system_folder_is_fine() -> None:
    below = os.path.dirname(os.path.realpath(os.__file__))
    assert check_folder(below, data_dir=Path("/nonexistent/data")) == below


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/dev"])
def test_trees_of_the_kernel_are_never_taken(path: str) -> None:
    with pytest.raises(FolderError, match="belongs to the kernel"):
        check_folder(path, data_dir=Path("/nonexistent/data"), allow_broad=True)


def test_the_data_directory_is_neither_inside_nor_around(here: Path, config: Config) -> None:
    data, inside = made(here, "data", "data/index")
    for path in (data, inside):
        with pytest.raises(FolderError, match="is in the data directory"):
            add_folder(config, path)
    with pytest.raises(FolderError, match="contains the data directory"):
        add_folder(config, str(here))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"folders": 3}',
        '{"folders": [{}]}',
        '{"folders": [{"path": 3}]}',
        '{"folders": ["a"]}',
        "\x00",
        r'{"folders": [{"path": "a\u0000"}]}',
    ],
)
def test_a_damaged_list_is_told_and_never_overwritten(here: Path, config: Config, text: str) -> None:
    (notes,) = made(here, "notes")
    config.data_dir.mkdir()
    file = config.data_dir / "folders.json"
    file.write_text(text)
    for attempt in (lambda: list_folders(config), lambda: add_folder(config, notes)):
        with pytest.raises(ConfigError, match=r"folders\.json: damaged .*add the folders again"):
            attempt()
    assert file.read_text() == text


def test_a_leftover_of_a_crash_changes_nothing(here: Path, config: Config) -> None:
    notes, other = made(here, "notes", "other")
    add_folder(config, notes)
    (config.data_dir / "folders.json.123.new").write_text('{"fold')
    add_folder(config, other)
    assert list_folders(config).paths == (notes, other)


def test_the_list_is_plain_ascii_json(here: Path, config: Config) -> None:
    (notes,) = made(here, "n\u00f6tes")
    add_folder(config, notes)
    raw = (config.data_dir / "folders.json").read_bytes()
    assert raw.isascii() and json.loads(raw)["folders"][0]["path"] == notes


@pytest.mark.slow
def test_processes_that_add_at_once_lose_nothing(here: Path, config: Config) -> None:
    made(here, *(f"p{process}/{number}" for process in range(3) for number in range(15)))
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from indexer.config import Config
        from indexer.folders.registry import add_folder, remove_folder
        config = Config(data_dir=Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(15):
            add_folder(config, f"{sys.argv[2]}/{number}")
        remove_folder(config, f"{sys.argv[2]}/7")
        """
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(config.data_dir), str(here / f"p{process}")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    expected = {str(here / f"p{process}/{number}") for process in range(3) for number in range(15) if number != 7}
    assert set(list_folders(config).paths) == expected
