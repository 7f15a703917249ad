"""Every write fails once, before it was made or after: nothing is lost or doubled, and the next attempt is right."""

import errno
import os
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disks import small_disk
from index_data import DIM, FOLDER, vectors_of, written

from indexer.errors import StoreError
from indexer.store.store import Store, open_store
from indexer.types import Scope

WRITES = {"add", "delete", "optimize", "create_index", "drop_index", "merge_insert"}


class Faulty:
    """A table of the library of which the N-th write fails.

    Args:
        table: The real one.
        plan: ``left`` writes succeed; the next raises ``error``, before it is made or ``after``.
    """

    def __init__(self, table: Any, plan: dict[str, Any]) -> None:
        self._table = table
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._table, name)
        if name == "merge_insert":
            return lambda on: _Merge(found(on), self._plan)
        return _failing(found, self._plan, name) if name in WRITES else found


class _Merge:
    def __init__(self, merge: Any, plan: dict[str, Any]) -> None:
        self._merge = merge
        self._plan = plan

    def when_matched_update_all(self) -> "_Merge":
        return _Merge(self._merge.when_matched_update_all(), self._plan)

    def when_not_matched_insert_all(self) -> "_Merge":
        return _Merge(self._merge.when_not_matched_insert_all(), self._plan)

    async def execute(self, rows: Any) -> Any:
        return await _failing(self._merge.execute, self._plan, "merge_insert")(rows)


def _failing(write: Callable[..., Awaitable[Any]], plan: dict[str, Any], name: str) -> Callable[..., Awaitable[Any]]:
    async def attempt(*args: Any, **kwargs: Any) -> Any:
        plan["left"] -= 1
        fails = plan["left"] == -1
        if fails:
            plan["failed"].append(name)
        if fails and not plan["after"]:
            raise plan["error"]
        done = await write(*args, **kwargs)
        if fails:
            raise plan["error"]
        return done

    return attempt


def put_in(store: Store, plan: dict[str, Any]) -> None:
    for table in store._tables.tables:
        if not isinstance(table.table, Faulty):
            table.table = Faulty(table.table, plan)


async def again(attempt: Callable[[], Awaitable[object]]) -> None:
    """As the passes do: what failed is tried again."""
    for _ in range(3):
        try:
            await attempt()
            return
        except StoreError as error:
            assert error.code == "disk_full"
    pytest.fail("failed three times")


async def life(store: Store, plan: dict[str, Any]) -> None:
    """Writes of every kind; each is repeated until it succeeds."""
    put_in(store, plan)
    await again(lambda: store.replace([written(f"{n}.md", f"word {n}", f"more {n}") for n in range(6)]))
    await again(lambda: store.pending("m", DIM, FOLDER))
    put_in(store, plan)
    await again(lambda: _embed(store))
    await again(lambda: store.replace([written("0.md", "word 0 changed"), written("6.md", "word 6")]))
    await again(lambda: store.touch([written("1.md", "word 1", "more 1", mtime_ns=9).row]))
    await again(lambda: store.remove([f"{FOLDER}/2.md"]))
    await again(lambda: _embed(store))
    await again(lambda: store.maintain(force=True))
    await again(lambda: store.replace([written("x.md", "other", folder="/other")]))
    await again(lambda: store.remove_folder("/other"))
    await again(lambda: store.maintain(force=True))


async def _embed(store: Store) -> None:
    chunks = await store.pending("m", DIM, FOLDER)
    await store.add_vectors("m", DIM, [(chunks, vectors_of(chunks))])


async def check(store: Store) -> None:
    """0 lost, 0 doubled, and counts that are those of the tables."""
    assert {Path(row.path).name: row.chunks for row in await store.files()} == {
        "0.md": 1, "1.md": 2, "3.md": 2, "4.md": 2, "5.md": 2, "6.md": 1,
    }  # fmt: skip
    rows = (await store._chunks.table.query().where("ordinal >= 0").select(["chunk_id"]).to_arrow())["chunk_id"]
    vectors = (await store._vectors["m"].table.query().select(["chunk_id"]).to_arrow())["chunk_id"].to_pylist()
    assert max(Counter(rows.to_pylist()).values()) == max(Counter(vectors).values()) == 1
    assert set(rows.to_pylist()) == set(vectors)
    assert store.chunk_count(FOLDER) == store.embedded_count("m", FOLDER) == 10
    assert await store.pending("m", DIM, FOLDER) == []
    assert len(await store.search_text(["word"], Scope(), 50)) == 6
    assert store.health.problem is None


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before it is made", "after it was made"])
async def test_whichever_write_fails_nothing_is_lost_or_doubled(tmp_path: Path, after: bool) -> None:
    failed: list[str] = []
    for number in range(60):
        error = OSError(errno.ENOSPC, "No space left on device")
        plan = {"left": number, "after": after, "error": error, "failed": failed}
        async with open_store(tmp_path / str(number)) as store:
            store.maintenance.exact = 4
            await life(store, plan)
            await check(store)
        async with open_store(tmp_path / str(number)) as store:
            assert store.damage == ()
            await check(store)
        if plan["left"] >= 0:
            break
    assert set(failed) == WRITES - {"drop_index"} | ({"drop_index"} & set(failed))
    assert len(failed) == number >= 14


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, "io_error"), (errno.EACCES, "permission"), (errno.EROFS, "read_only")]
)
async def test_refusal_of_the_system_is_told_with_its_remedy_until_a_write_succeeds(
    store: Store, number: int, code: str
) -> None:
    await store.replace([written("a.md", "one")])
    put_in(store, {"left": 0, "after": False, "error": OSError(number, os.strerror(number)), "failed": []})
    with pytest.raises(StoreError) as refusal:
        await store.replace([written("b.md", "two")])
    assert refusal.value.code == code
    assert store.health.problem is not None
    assert store.health.problem.code == code
    assert store.health.problem.remedy
    assert not store.health.damage_suspected.is_set()
    assert len(await store.search_text(["one"], Scope(), 5)) == 1
    await store.replace([written("b.md", "two")])
    assert store.health.problem is None


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A disk on which the number of files can be limited."""
    with small_disk(tmp_path / "disk", "size=32m,nr_inodes=4000") as place:
        yield place


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_whichever_file_cannot_be_made_on_a_full_disk_nothing_is_lost_or_doubled(few_files: Path) -> None:
    """The kernel refuses the N-th new file of a life, for every third N: of the library's own writes, and of ours."""

    def limit(inodes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,nr_inodes={inodes}", str(few_files)], check=True)

    refused = 0
    for number in range(0, 400, 3):
        limit(4000)
        place = few_files / str(number)
        async with open_store(place) as store:
            store.maintenance.exact = 4
            await store.replace([written("0.md", "word 0 before")])
            used = os.statvfs(few_files).f_files - os.statvfs(few_files).f_ffree
            limit(used + number)
            seen = 0

            async def attempt(step: Callable[[], Awaitable[object]]) -> None:
                nonlocal seen
                try:
                    await step()
                except StoreError as error:
                    assert error.code == "disk_full", error.__cause__
                    seen += 1
                    assert await store.search_text(["word"], Scope(), 50)
                    limit(4000)
                    await step()

            for step in (
                lambda: store.replace([written(f"{n}.md", f"word {n}", f"more {n}") for n in range(6)]),
                lambda: _embed(store),
                lambda: store.replace([written("0.md", "word 0 changed"), written("6.md", "word 6")]),
                lambda: store.remove([f"{FOLDER}/2.md"]),
                lambda: _embed(store),
                lambda: store.maintain(force=True),
                lambda: store.maintain(force=True),
            ):
                await attempt(step)
            await check(store)
        refused += seen
        subprocess.run(["rm", "-r", str(place)], check=True)
        if not seen:
            break
    assert refused >= 10
