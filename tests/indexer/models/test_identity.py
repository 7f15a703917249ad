from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from indexer.errors import SlotUnavailable
from indexer.models import prepared
from indexer.models.prepared import digest, verify


def test_a_blob_of_the_hub_cache_is_named_by_its_hash_and_not_read(tmp_path: Path) -> None:
    name = "ab" * 32
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"anything")
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / "blobs" / name)
    assert digest(link) == name


def test_a_large_file_is_hashed_once_and_again_when_it_changed(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "model.safetensors"
    first = b"a" * (prepared.BLOCK + 1)
    file.write_bytes(first)
    assert digest(file, data) == hashlib.sha256(first).hexdigest()
    kept = data / "models" / "digests.json"
    known = json.loads(kept.read_text(encoding="utf-8"))
    known[str(file)][2] = "remembered"
    kept.write_text(json.dumps(known), encoding="utf-8")
    assert digest(file, data) == "remembered"
    second = b"b" * (prepared.BLOCK + 2)
    file.write_bytes(second)
    assert digest(file, data) == hashlib.sha256(second).hexdigest()


def test_a_damaged_memory_of_hashes_costs_only_the_reading(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x" * (prepared.BLOCK + 1))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "digests.json").write_text("{", encoding="utf-8")
    assert digest(file, tmp_path) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"changed")
    with pytest.raises(SlotUnavailable, match="is not the file it should be") as caught:
        verify(tmp_path, (("w", hashlib.sha256(b"original").hexdigest()),))
    assert caught.value.code == "corrupt_files"


def test_a_file_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(SlotUnavailable) as caught:
        verify(tmp_path, (("w", "00"),))
    assert caught.value.code == "offline_missing"


def test_a_verified_file_is_read_again_only_when_size_or_time_changed(tmp_path: Path) -> None:
    file, checks = tmp_path / "w", (("w", hashlib.sha256(b"original").hexdigest()),)
    file.write_bytes(b"original")
    verify(tmp_path, checks)
    stat = file.stat()
    file.write_bytes(b"ORIGINAL")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    verify(tmp_path, checks)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(SlotUnavailable):
        verify(tmp_path, checks)


def test_a_stopped_verification_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"changed")
    checks = (("w", hashlib.sha256(b"original").hexdigest()),)
    verify(tmp_path, checks, lambda: True)
    with pytest.raises(SlotUnavailable):
        verify(tmp_path, checks)
