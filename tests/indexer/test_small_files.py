"""Every call to the system by which a small file is written fails once: what was there stays, and again is right."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer.config import Config
from indexer.errors import FolderError, StoreError
from indexer.folders.registry import add_folder, list_folders, repair_folders_file
from indexer.models.prepared import _remember_digest, _remembered_digests
from indexer.store.files_on_disk import Checksums
from indexer.store.health import Health
from indexer.store.writer_lock import WriterLock
from mcp_server.state_files import read_state, write_state

CALLS = ("open", "write", "fsync", "ftruncate", "replace", "rename")
FULL = OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def failing(number: int) -> Iterator[list[str]]:
    """Let the call of this number fail, of all that could write; yields the names of those made."""
    made: list[str] = []

    def counted(name: str, real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if writes(*args, **kwargs):
                made.append(name)
                if len(made) == number + 1:
                    raise FULL
            return real(*args, **kwargs)

        return call

    def for_writing(file: Any, mode: str = "r", *rest: Any, **more: Any) -> bool:
        return not isinstance(file, int) and "r" not in mode

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name), lambda *_, **__: True))
        patch.setattr(io, "open", counted("io.open", io.open, for_writing))
        yield made


def every_call(attempt: Callable[[int], list[str]]) -> set[str]:
    """Attempt with the first call failing, then the second, until one goes through; names of all that failed."""
    failed: list[str] = []
    for number in range(40):
        made = attempt(number)
        if len(made) <= number:
            return set(failed)
        failed.append(made[number])
    pytest.fail("it never went through")


def test_a_list_of_folders_that_cannot_be_written_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    a, b = str(tmp_path / "a"), str(tmp_path / "b")

    def attempt(number: int) -> list[str]:
        config = Config(data_dir=tmp_path / f"data{number}")
        add_folder(config, a)
        with failing(number) as made:
            try:
                add_folder(config, b)
            except FolderError as error:
                assert "No space left on device" in str(error)
        assert [folder.path for folder in list_folders(config).known] in ([a], [a, b])
        assert not list(config.data_dir.glob("*.new"))
        assert repair_folders_file(config.data_dir) == ""
        add_folder(config, b)
        assert [folder.path for folder in list_folders(config).known] == [a, b]
        return made

    assert every_call(attempt) >= {"open", "io.open", "fsync", "replace"}


def test_a_writer_lock_that_cannot_be_written_is_free_again(tmp_path: Path) -> None:
    def attempt(number: int) -> list[str]:
        lock = WriterLock(tmp_path / f"{number}.lock")
        with failing(number) as made:
            try:
                with lock:
                    pass
            except StoreError as error:
                assert error.code == "disk_full"
        with WriterLock(tmp_path / f"{number}.lock"):
            pass
        return made

    assert every_call(attempt) >= {"open", "write", "ftruncate"}


def test_sums_that_cannot_be_written_leave_those_of_before(tmp_path: Path) -> None:
    def attempt(number: int) -> list[str]:
        root = tmp_path / str(number)
        (root / "tables" / "t.lance").mkdir(parents=True)
        (root / "tables" / "t.lance" / "one").write_bytes(b"1")
        sums = Checksums.load(root)
        sums.update(sums.unknown_files())
        (root / "tables" / "t.lance" / "two").write_bytes(b"2")
        with failing(number) as made:
            try:
                sums.update(sums.unknown_files())
            except OSError as error:
                assert error is FULL
        kept = Checksums.load(root)
        assert {Path(name).name for name in kept.files} in ({"one"}, {"one", "two"})
        assert kept.changed_files(thorough=True) == []
        return made

    assert every_call(attempt) >= {"io.open", "replace"}


def test_a_note_of_the_owner_that_cannot_be_written_is_the_old_one_whole(tmp_path: Path) -> None:
    def attempt(number: int) -> list[str]:
        path = str(tmp_path / f"{number}.json")
        write_state(path, {"at": 1})
        with failing(number) as made:
            try:
                write_state(path, {"at": 2})
            except OSError as error:
                assert error is FULL
        assert read_state(path)["at"] in (1, 2)
        assert [file.name for file in tmp_path.glob(f"{number}.json*")] == [f"{number}.json"]
        return made

    assert every_call(attempt) >= {"open", "replace"}


def test_a_remembered_hash_that_cannot_be_written_costs_only_the_hashing(tmp_path: Path) -> None:
    def attempt(number: int) -> list[str]:
        kept = tmp_path / f"{number}.json"
        _remember_digest(kept, "a", [1])
        with failing(number) as made:
            _remember_digest(kept, "b", [2])
        assert _remembered_digests(kept)["a"] == [1]
        assert json.loads(kept.read_text(encoding="utf-8"))
        return made

    assert every_call(attempt) >= {"io.open", "replace"}


def test_a_note_that_text_was_lost_counts_though_it_cannot_be_written(tmp_path: Path) -> None:
    with failing(0) as made:
        health = Health(tmp_path)
        health.request_rebuild("why")
    assert made == ["io.open"]
    assert health.rebuilding == "why"
