import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from indexer.files.ignore import Ignore
from indexer.files.watch import Changes, Timing, Watched, WatchEvent, WatchProblem, watch

FAST = Timing(quiet=0.08, longest=0.6, step=0.02, retry=0.05, poll=0.1, check=0.1)


class Seen:
    """Events of a watch, waited for one after the other."""

    def __init__(self, events: AsyncIterator[WatchEvent]) -> None:
        self._events = events

    async def next(self) -> WatchEvent:
        with anyio.fail_after(8):
            return await anext(self._events)

    async def until(self, kind: type, part: str = "") -> WatchEvent:
        while True:
            event = await self.next()
            if isinstance(event, kind) and part in str(event):
                return event

    async def path(self, path: Path | str) -> set[str]:
        """All paths named up to the one waited for."""
        named: set[str] = set()
        while str(path) not in named:
            event = await self.next()
            if isinstance(event, Changes):
                named.update(event.paths)
        return named


@asynccontextmanager
async def watching(root: Path, *, silent=lambda root: (), timing: Timing = FAST, **rules) -> AsyncIterator[Seen]:
    ignore = Ignore(str(root), **rules)
    async with watch({str(root): ignore}, timing=timing, silent=silent) as events:
        seen = Seen(events)
        if not silent(str(root)):
            assert await seen.next() == Watched(str(root))
            assert await seen.next() == Changes(str(root), (str(root),))
        yield seen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path.resolve() / "root"
    made.mkdir()
    return made


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.slow
async def test_a_new_a_changed_and_a_deleted_file_are_named(root: Path) -> None:
    file = root / "a.txt"
    async with watching(root) as seen:
        file.write_text("one")
        assert await seen.path(file) == {str(file)}
        file.write_text("two")
        assert await seen.path(file) == {str(file)}
        file.unlink()
        assert await seen.path(file) == {str(file)}


async def test_an_atomic_save_names_the_target(root: Path) -> None:
    target, new = root / "a.txt", root / "a.txt.new"
    target.write_text("one")
    async with watching(root) as seen:
        new.write_text("two")
        new.replace(target)
        assert str(target) in await seen.path(target)


async def test_a_renamed_directory_is_named_by_its_old_and_new_path(root: Path) -> None:
    (root / "old").mkdir()
    (root / "old" / "a.txt").write_text("text")
    async with watching(root) as seen:
        (root / "old").rename(root / "new")
        named = await seen.path(root / "new")
        assert {str(root / "old"), str(root / "new")} <= named


@pytest.mark.slow
async def test_a_directory_moved_in_is_named_and_watched_from_then_on(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("text")
    async with watching(root) as seen:
        outside.rename(root / "inside")
        await seen.path(root / "inside")
        (root / "inside" / "b.txt").write_text("more")
        await seen.path(root / "inside" / "b.txt")


async def test_a_directory_moved_out_is_named(root: Path, tmp_path: Path) -> None:
    (root / "sub").mkdir()
    async with watching(root) as seen:
        (root / "sub").rename(tmp_path / "gone")
        await seen.path(root / "sub")


async def test_files_of_a_new_tree_are_covered_by_a_named_directory(root: Path) -> None:
    async with watching(root) as seen:
        deep = root / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (deep / "x.txt").write_text("text")
        named = await seen.path(root / "a")
        assert not [path for path in named if path.startswith(str(root / "a") + "/")]


@pytest.mark.slow
async def test_a_burst_of_20_000_files_is_covered_in_few_batches(root: Path) -> None:
    async with watching(root, timing=Timing(0.3, 2.0, 0.02, 0.05, 5.0, 1.0)) as seen:
        for number in range(100):
            directory = root / f"d{number:03}"
            directory.mkdir()
            for file in range(200):
                (directory / f"{file}.txt").touch()
        covered: set[str] = set()
        batches = 0
        wanted = {str(root / f"d{number:03}") for number in range(100)}
        while not wanted <= covered and str(root) not in covered:
            event = await seen.next()
            assert isinstance(event, Changes)
            batches += 1
            assert len(event.paths) <= 1000
            covered.update(event.paths)
        assert batches < 100


async def test_changes_that_rules_leave_out_are_not_named(root: Path) -> None:
    (root / "node_modules").mkdir()
    (root / ".gitignore").write_text("*.log\n")
    async with watching(root) as seen:
        (root / "node_modules" / "x.js").write_text("text")
        (root / "a.log").write_text("text")
        (root / ".hidden").write_text("text")
        (root / "last.txt").write_text("text")
        assert await seen.path(root / "last.txt") == {str(root / "last.txt")}


async def test_a_secret_is_named_so_that_it_is_reported(root: Path) -> None:
    async with watching(root) as seen:
        (root / "id_rsa").write_text("key")
        await seen.path(root / "id_rsa")


@pytest.mark.slow
async def test_an_edited_ignore_file_names_its_directory_and_counts_at_once(root: Path) -> None:
    sub = root / "sub"
    sub.mkdir()
    async with watching(root) as seen:
        (sub / ".gitignore").write_text("*.txt\n")
        assert await seen.path(sub) == {str(sub)}
        (sub / "a.txt").write_text("text")
        (sub / "b.md").write_text("text")
        assert await seen.path(sub / "b.md") == {str(sub / "b.md")}


async def test_what_comes_through_a_link_is_not_named(root: Path, tmp_path: Path) -> None:
    outside = tmp_path.resolve() / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    async with watching(root) as seen:
        (outside / "a.txt").write_text("text")
        (root / "last.txt").write_text("text")
        assert await seen.path(root / "last.txt") == {str(root / "last.txt")}


@pytest.mark.slow
async def test_a_root_deleted_and_made_again_is_watched_again(root: Path) -> None:
    (root / "a.txt").write_text("text")
    async with watching(root) as seen:
        shutil.rmtree(root)
        gone = await seen.until(WatchProblem)
        assert isinstance(gone, WatchProblem) and "not there" in gone.reason and gone.remedy
        root.mkdir()
        await seen.until(Watched)
        await seen.path(root)
        (root / "b.txt").write_text("text")
        await seen.path(root / "b.txt")


async def test_a_root_replaced_at_once_is_watched_again(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with watching(root) as seen:
        root.rename(tmp_path / "away")
        other.rename(root)
        await seen.until(Watched)
        (root / "b.txt").write_text("text")
        await seen.path(root / "b.txt")


async def test_a_root_that_is_missing_at_the_start_is_told_and_then_watched(root: Path) -> None:
    root.rmdir()
    ignore = Ignore(str(root))
    async with watch({str(root): ignore}, timing=FAST, silent=lambda root: ()) as events:
        seen = Seen(events)
        assert isinstance(await seen.next(), WatchProblem)
        root.mkdir()
        await seen.until(Watched)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="APFS refuses names that are not UTF-8")
async def test_a_name_that_is_not_utf8_does_not_end_the_watch(root: Path) -> None:
    async with watching(root) as seen:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.txt")).write_text("text")
        await seen.until(Watched)
        await seen.path(root)
        (root / "a.txt").write_text("text")
        await seen.path(root / "a.txt")


async def test_odd_names_are_named_as_they_are(root: Path) -> None:
    file = root / 'line\nbreak "quoted" \U0001f600.txt'
    async with watching(root) as seen:
        file.write_text("text")
        assert await seen.path(file) == {str(file)}


@pytest.mark.slow
async def test_a_file_that_never_rests_is_named_all_the_same(root: Path) -> None:
    file = root / "busy.log.txt"
    async with watching(root) as seen, anyio.create_task_group() as tasks:

        async def append() -> None:
            while True:
                with file.open("a") as stream:
                    stream.write("more\n")
                await anyio.sleep(0.01)

        tasks.start_soon(append)
        await seen.path(file)
        tasks.cancel_scope.cancel()


async def test_a_network_folder_is_told_and_named_again_and_again(root: Path) -> None:
    async with watching(root, silent=lambda root: ((root, "nfs4"),)) as seen:
        problem = await seen.next()
        assert isinstance(problem, WatchProblem) and "nfs4" in problem.reason
        for _ in range(3):
            assert await seen.next() == Changes(str(root), (str(root),))


@pytest.mark.slow
async def test_a_network_mount_inside_a_folder_is_named_again_and_again_and_the_rest_is_watched(root: Path) -> None:
    share = root / "share"
    share.mkdir()
    async with watch(
        {str(root): Ignore(str(root))}, timing=FAST, silent=lambda root: ((str(share), "cifs"),)
    ) as events:
        seen = Seen(events)
        problem = await seen.next()
        assert isinstance(problem, WatchProblem) and str(share) in problem.reason
        await seen.path(share)
        (root / "a.txt").write_text("text")
        await seen.path(root / "a.txt")


async def test_two_roots_are_told_apart(tmp_path: Path) -> None:
    one, two = tmp_path.resolve() / "one", tmp_path.resolve() / "two"
    one.mkdir()
    two.mkdir()
    rules = {str(each): Ignore(str(each)) for each in (one, two)}
    async with watch(rules, timing=FAST, silent=lambda root: ()) as events:
        seen = Seen(events)
        ready = set()
        while ready != {str(one), str(two)}:
            event = await seen.next()
            if isinstance(event, Changes) and event.paths == (event.root,):
                ready.add(event.root)
        (two / "a.txt").write_text("text")
        assert await seen.next() == Changes(str(two), (str(two / "a.txt"),))


async def test_leaving_the_block_ends_the_threads_soon(root: Path) -> None:
    calm = Timing(quiet=0.08, step=0.05, check=3600)
    with anyio.fail_after(5):
        async with watching(root, timing=calm):
            pass


LIMITED = """
import sys, anyio
sys.path.insert(0, sys.argv[2])
from indexer.files.ignore import Ignore
from indexer.files.watch import Timing, WatchProblem, watch

async def main():
    fast = Timing(quiet=0.05, step=0.02, retry=0.05, poll=0.1, check=0.1)
    with anyio.fail_after(20):
        async with watch({sys.argv[1]: Ignore(sys.argv[1])}, timing=fast, silent=lambda root: ()) as events:
            changes = 0
            made = False
            async for event in events:
                if isinstance(event, WatchProblem):
                    print("PROBLEM", event.reason, "|", event.remedy)
                    changes = 0
                    made = True
                else:
                    changes += 1
                    if not made:
                        import os
                        for n in range(20):
                            os.makedirs(f"{sys.argv[1]}/n{n}", exist_ok=True)
                if made and changes >= 2:
                    print("RESCANNED")
                    return
anyio.run(main)
"""


def _in_a_namespace_with_few_watches(root: Path, watches: int) -> str:
    script = f'echo {watches} > /proc/sys/user/max_inotify_watches && exec "$@"'
    command = ["unshare", "-U", "-r", "sh", "-c", script, "sh", sys.executable, "-c", LIMITED, str(root), os.getcwd()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unshare" in done.stderr or "max_inotify_watches" in done.stderr:
        pytest.skip("needs user namespaces with their own watch limit: " + done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (Linux)")
@pytest.mark.parametrize(("before", "watches"), [(10, 5), (0, 8)], ids=["at the start", "later"])
def test_an_exhausted_watch_limit_is_told_with_its_remedy_and_the_root_is_rescanned(
    root: Path, before: int, watches: int
) -> None:
    for number in range(before):
        (root / str(number)).mkdir()
    told = _in_a_namespace_with_few_watches(root, watches)
    assert "PROBLEM" in told and "max_user_watches" in told and "RESCANNED" in told


CLOSED = """
import os, sys, time, anyio, anyio.to_thread, watchfiles
sys.path.insert(0, sys.argv[2])
from indexer.files.ignore import Ignore
from indexer.files.watch import Changes, Timing, WatchProblem, watch

async def main():
    root, seen = sys.argv[1], []
    await anyio.to_thread.run_sync(time.time)  # all is imported; another user may not be able to
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    fast = Timing(quiet=0.05, step=0.02, retry=0.05, poll=0.3, check=0.1)
    with anyio.fail_after(20):
        async with watch({root: ignore}, timing=fast, silent=lambda root: ()) as events:
            async for event in events:
                if isinstance(event, WatchProblem):
                    print("PROBLEM", event.reason)
                elif event == Changes(root, (root,)):
                    seen.append(event)
                    if len(seen) == 2:
                        print("RESCANNED")
                        open(f"{root}/open/a.txt", "w").close()
                elif isinstance(event, Changes) and f"{root}/open/a.txt" in event.paths:
                    print("WATCHED")
                    return

ignore = Ignore(sys.argv[1])
anyio.run(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_an_unreadable_directory_is_told_and_the_rest_is_watched() -> None:
    # Not in tmp_path, which other users cannot enter.
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve()
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0o700)
        (root / "open").mkdir()
        (root / "open").chmod(0o777)
        command = [sys.executable, "-c", CLOSED, str(root), os.getcwd()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "PROBLEM a directory cannot be read" in done.stdout
    assert "RESCANNED" in done.stdout and "WATCHED" in done.stdout
