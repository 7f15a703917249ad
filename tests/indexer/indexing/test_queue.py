from __future__ import annotations

import anyio
import pytest

from indexer.indexing.queue import ScanRequest, WorkQueue


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_asking_twice_is_asking_once() -> None:
    queue = WorkQueue()
    queue.add("/a", "/a/x")
    queue.add("/a", "/a/x")
    assert await queue.take() == ScanRequest("/a", ("/a/x",))
    assert not queue.is_waiting("/a")


async def test_the_whole_folder_swallows_single_paths_before_and_after() -> None:
    queue = WorkQueue()
    queue.add("/a", "/a/x")
    queue.add("/a")
    queue.add("/a", "/a/y")
    assert await queue.take() == ScanRequest("/a")


async def test_folders_come_in_the_order_of_asking_and_urgent_ones_first() -> None:
    queue = WorkQueue()
    for root in ("/a", "/b", "/c"):
        queue.add(root)
    queue.add("/c", "/c/x", urgent=True)
    assert [(await queue.take()).root for _ in range(3)] == ["/c", "/a", "/b"]


async def test_a_forced_file_is_named_as_such() -> None:
    queue = WorkQueue()
    queue.add("/a", "/a/x", force=True)
    queue.add("/a", "/a/y")
    assert await queue.take() == ScanRequest("/a", ("/a/x", "/a/y"), frozenset({"/a/x"}))


async def test_a_dropped_folder_is_forgotten() -> None:
    queue = WorkQueue()
    queue.add("/a", "/a/x", force=True)
    queue.add("/b")
    queue.drop("/a")
    assert await queue.take() == ScanRequest("/b")


async def test_take_waits_until_there_is_work() -> None:
    queue = WorkQueue()
    taken: list[ScanRequest] = []

    async def take() -> None:
        taken.append(await queue.take())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await anyio.wait_all_tasks_blocked()
            assert taken == []
            queue.add("/a")
    assert taken == [ScanRequest("/a")]
