"""The storage library's caches grow with the index, between a least and a most."""

from pathlib import Path

import pytest

from indexer.store.resources import cache_sizes

MIB = 1 << 20


def sparse(file: Path, size: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.truncate(size)


@pytest.mark.parametrize(
    ("indexes", "data", "expected"),
    [
        (0, 0, (128 * MIB, 16 * MIB)),
        (400 * MIB, 2800 * MIB, (600 * MIB, 50 * MIB)),
        (9000 * MIB, 90_000 * MIB, (2048 * MIB, 256 * MIB)),
    ],
)
def test_caches_grow_with_the_index_between_a_least_and_a_most(
    tmp_path: Path, indexes: int, data: int, expected: tuple[int, int]
) -> None:
    sparse(tmp_path / "chunks.lance" / "_indices" / "one" / "part.lance", indexes)
    sparse(tmp_path / "chunks.lance" / "data" / "one.lance", data)
    assert cache_sizes(tmp_path) == expected


def test_a_place_that_is_not_there_has_the_least(tmp_path: Path) -> None:
    assert cache_sizes(tmp_path / "nowhere") == (128 * MIB, 16 * MIB)
