from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import get_args

import anyio
import pytest
from engines import ask, engine_over, local_model, names, settings
from fakes import FakeLoader

from indexer.engine import Engine, open_engine
from indexer.errors import FolderError, QueryError, StoreBusy
from indexer.folders.model_availability import ModelResolver
from indexer.types import Mode, Query, Scope


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # LanceDB knows no other


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "bread.md").write_text("# Bread\n\nSourdough needs a warm oven and time.\n", encoding="utf-8")
    (folder / "bees.md").write_text("# Bees\n\nA swarm follows its queen to the new hive.\n", encoding="utf-8")
    (folder / "code.py").write_text("def parse_json_file(path):\n    return open(path).read()\n", encoding="utf-8")
    return folder


@pytest.mark.slow
async def test_a_folder_is_found_by_word_and_by_meaning_with_lines_and_heading(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        report = await engine.index()
        assert (report.indexed, report.failed, report.complete) == (3, 0, True)
        assert report.embedded == report.chunks > 0
        answer = await ask(engine, "when does a swarm follow the queen")
    hit = answer.hits[0]
    assert (Path(hit.path).name, hit.locator, hit.heading) == ("bees.md", "lines 1-3", "Bees")
    assert set(hit.matched) == {"semantic", "keyword"}
    assert (answer.mode_used, answer.semantic.status, answer.semantic.coverage) == ("hybrid", "served", 1.0)


@pytest.mark.slow
async def test_keyword_hits_come_while_the_first_model_load_runs(tmp_path: Path, notes: Path) -> None:
    loader, go_on = FakeLoader(stages=[("weights", 1.0)]), threading.Event()
    loader.pause = lambda _: go_on.wait(30) or None
    config = settings(tmp_path / "data")
    try:
        async with engine_over(tmp_path / "data", notes, loader=loader, config=config) as engine:
            async for status in engine.watch(at_most_every=0):
                if status.slot.state == "loading" and status.folders and status.folders[0].files.indexed == 3:
                    break
            answer = await ask(engine, "parse_json_file")
            assert names(answer.hits) == ["code.py"]
            assert answer.mode_used == "keyword"
            assert answer.semantic.status == "unavailable" and answer.semantic.reason
            go_on.set()
            await engine.index()
            assert (await ask(engine, "parse_json_file")).semantic.status == "served"
    finally:
        go_on.set()


@pytest.mark.slow
async def test_an_unchanged_folder_is_walked_but_no_file_is_read_again(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
    async with engine_over(tmp_path / "data", loader=(loader := FakeLoader())) as engine:
        report = await engine.index()
    assert report.work.files_walked >= 3
    assert (report.work.files_read, report.work.chunks_written, report.work.chunks_embedded) == (0, 0, 0)
    assert loader.loads == []


@pytest.mark.slow
async def test_no_chunk_is_embedded_twice_though_windows_and_commits_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.indexing.embedding_pass.WINDOW", 16)
    monkeypatch.setattr("indexer.indexing.embedding_pass.COMMIT_ROWS", 8)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        text = "\n\n".join(f"# Part {part}\n\n" + f"Sentence {number} of part {part}. " * 60 for part in range(6))
        (folder / f"{number}.md").write_text(text, encoding="utf-8")
    async with engine_over(tmp_path / "data", folder, commit_delay=2.0) as engine:
        report = await engine.index()
        work = engine.status().work
    assert report.chunks > 200 and report.embedded == report.chunks
    assert work.chunks_embedded + work.vectors_reused == report.chunks


@pytest.mark.slow
async def test_an_edited_file_embeds_only_its_changed_chunks(tmp_path: Path, notes: Path) -> None:
    long = notes / "long.md"
    parts = [f"# Part {n}\n\n" + f"Sentence about subject number {n} and nothing else. " * 20 for n in range(8)]
    long.write_text("\n\n".join(parts), encoding="utf-8")
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        parts[4] = parts[4].replace("nothing else", "something new")
        long.write_text("\n\n".join(["A new first line.", *parts]), encoding="utf-8")
        report = await engine.index()
    assert report.work.files_read == 1
    assert 1 <= report.work.chunks_embedded <= 4 < report.work.chunks_written


@pytest.mark.slow
async def test_a_renamed_directory_embeds_nothing(tmp_path: Path, notes: Path) -> None:
    (notes / "old").mkdir()
    for name in ("bread.md", "bees.md"):
        (notes / name).rename(notes / "old" / name)
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        (notes / "old").rename(notes / "new")
        report = await engine.index()
        answer = await ask(engine, "sourdough oven")
    assert report.work.chunks_embedded == 0 and report.work.vectors_reused >= 2
    assert answer.hits[0].path == str(notes / "new" / "bread.md") and "semantic" in answer.hits[0].matched


@pytest.mark.slow
async def test_a_touched_file_is_read_but_not_embedded(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        os.utime(notes / "bees.md", (1, 1))
        report = await engine.index()
        again = await engine.index()
    assert (report.work.files_read, report.work.chunks_written, report.work.chunks_embedded) == (1, 0, 0)
    assert again.work.files_read == 0


@pytest.mark.slow
async def test_a_deleted_file_is_no_hit_even_before_the_index_knows(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        (notes / "bees.md").unlink()
        assert "bees.md" not in names((await ask(engine, "swarm queen hive")).hits)
        report = await engine.index()
    assert report.indexed == 2


@pytest.mark.slow
async def test_a_changed_file_is_marked_and_read_again_by_itself(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        (notes / "bees.md").write_text("# Bees\n\nThe swarm has left for good.\n", encoding="utf-8")
        first = (await ask(engine, "swarm")).hits[0]
        assert first.stale
        async for _ in engine.watch(at_most_every=0):
            hit = (await ask(engine, "swarm")).hits[0]
            if not hit.stale:
                break
    assert "left for good" in hit.snippet


@pytest.mark.slow
async def test_a_search_gives_up_on_an_index_that_takes_long_to_open_and_indexing_waits_for_it(
    tmp_path: Path, notes: Path
) -> None:
    async with engine_over(tmp_path / "data", notes):
        pass  # the folder is remembered
    config = settings(tmp_path / "data")
    config = replace(config, search=replace(config.search, wait=0.1))
    start = anyio.Event()
    reports = []

    async def index(engine: Engine) -> None:
        reports.append(await engine.index())

    async with (
        open_engine(config, version="test", start=start, loader=FakeLoader()) as engine,
        anyio.create_task_group() as tasks,
    ):
        with anyio.fail_after(60):
            tasks.start_soon(index, engine)
            with pytest.raises(QueryError, match="still being opened"):
                await ask(engine, "swarm")
            start.set()
    assert reports[0].complete


async def test_a_changed_text_file_is_shown_and_cited_as_it_is_now(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        text = (notes / "bees.md").read_text(encoding="utf-8").replace("new hive", "old oak")
        (notes / "bees.md").write_text(f"Foreword.\n\n{text}", encoding="utf-8")
        hit = (await ask(engine, "swarm queen", "keyword")).hits[0]
    assert (hit.stale, hit.locator) == (True, "lines 3-5")
    assert "old oak" in hit.snippet and "new hive" not in hit.snippet


async def test_a_folder_that_vanishes_keeps_its_rows_and_says_so(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        notes.rename(tmp_path / "elsewhere")
        report = await engine.index()
        answer = await ask(engine, "sourdough")
        assert not report.complete and engine.status().folders[0].state == "unavailable"
        assert names(answer.hits)[0] == "bread.md" and answer.hits[0].stale and answer.notices
        (tmp_path / "elsewhere").rename(notes)
        back = await engine.index()
    assert back.complete and back.work.files_read == 0


async def test_a_removed_folder_is_not_found_any_more_and_not_read_at_the_next_start(
    tmp_path: Path, notes: Path
) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        await engine.remove_folder(str(notes))
        assert (await ask(engine, "sourdough")).hits == ()
    async with engine_over(tmp_path / "data") as engine:
        await engine.index()
        assert engine.status().index.chunks == 0


async def test_a_model_that_does_not_exist_leaves_the_folder_searchable_by_word(tmp_path: Path, notes: Path) -> None:
    async with open_engine(settings(tmp_path / "data"), version="test", loader=FakeLoader()) as engine:
        await engine.add_folder(str(notes), model="nobody/no-such-model")
        with anyio.fail_after(60):
            report = await engine.index()
            answer = await ask(engine, "sourdough")
        status = engine.status()
    assert report.indexed == 3 and not report.complete
    assert names(answer.hits) == ["bread.md"] and answer.mode_used == "keyword"
    assert answer.semantic.code in {"model_not_found", "offline_missing"} and answer.semantic.hint
    assert "no-such-model" in status.folders[0].detail and status.services.semantic == "unavailable"


async def test_a_change_of_model_embeds_again_without_reading_a_file(tmp_path: Path, notes: Path) -> None:
    model = local_model(tmp_path / "model", b"other weights")
    async with engine_over(tmp_path / "data", notes) as engine:
        first = await engine.index()
        await engine.add_folder(str(notes), model=str(model))
        second = await engine.index()
    assert second.work.files_read == 0
    assert second.work.chunks_embedded == first.chunks and second.complete


@pytest.mark.slow
async def test_two_folders_with_two_models_are_searched_in_one_call_and_never_two_models_live(
    tmp_path: Path, notes: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "swarm.txt").write_text("The swarm rests on a branch.", encoding="utf-8")
    model, loader = local_model(tmp_path / "model", b"other weights"), FakeLoader()
    async with engine_over(tmp_path / "data", notes, loader=loader) as engine:
        await engine.add_folder(str(other), model=str(model))
        await engine.index()
        answer = await engine.search(Query("swarm", mode="semantic"))
    assert {"swarm.txt", "bees.md"} <= set(names(answer.hits))
    assert answer.semantic.status == "served" and len({f.model for f in answer.folders}) == 2
    assert loader.most_alive == 1 and len(set(loader.loads)) == 2


@pytest.mark.slow
async def test_a_warm_search_takes_no_snapshot_of_the_slot(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot reads the process's memory from the system, on the event loop."""
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        await engine.search(Query("swarm", mode="semantic"))
        monkeypatch.setattr("indexer.slot.slot.slot_status", lambda *arguments: pytest.fail("a snapshot was taken"))
        answer = await engine.search(Query("queen", mode="semantic"))
        monkeypatch.undo()
    assert answer.semantic.status == "served"


@pytest.mark.slow
async def test_a_second_engine_reads_the_index_by_word_and_never_loads_a_model(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        loader = FakeLoader()
        async with engine_over(tmp_path / "data", loader=loader) as second:
            answer = await ask(second, "sourdough")
            assert second.status().owner.state == "read_only"
            with pytest.raises(StoreBusy):
                await second.index()
    assert names(answer.hits) == ["bread.md"]
    assert (answer.mode_used, answer.semantic.code, loader.loads) == ("keyword", "not_owner", [])


@pytest.mark.slow
async def test_files_with_odd_names_and_broken_ones_each_end_as_a_recorded_outcome(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    good = [b'it\'s "quoted".txt', b"new\nline.txt", "emoji \U0001f41d.txt".encode(), b"latin-\xe9.txt"]
    for name in good:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_text("marmalade", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 truncated")
    os.mkfifo(folder / "pipe")
    async with engine_over(tmp_path / "data", folder) as engine:
        report = await engine.index()
        answer = await engine.search(Query("marmalade", top_k=20))
        problems = {Path(p.path).name: p.reason for p in report.problems}
    assert report.indexed == len(good) + 1
    assert {"binary.txt", "broken.pdf", "pipe"} <= set(problems) and all(problems.values())
    assert len(answer.hits) + sum(hit.folded for hit in answer.hits) == len(good)


@pytest.mark.slow
async def test_read_gives_the_place_of_a_hit_and_refuses_what_is_not_indexed(tmp_path: Path, notes: Path) -> None:
    secret = tmp_path / "outside.txt"
    secret.write_text("secret", encoding="utf-8")
    (notes / "link.md").symlink_to(secret)
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        hit = (await ask(engine, "swarm queen")).hits[0]
        reading = await engine.read(hit.path, hit.locator)
        assert (reading.text, reading.first_line, reading.locator) == (
            "# Bees\n\nA swarm follows its queen to the new hive.",
            1,
            "lines 1-3",
        )
        assert (await engine.read("bees.md")).text.startswith("# Bees")
        for path in (str(secret), str(notes / "link.md"), "../outside.txt", "/etc/passwd", str(notes), "nul\0byte"):
            with pytest.raises(QueryError):
                await engine.read(path)
        with pytest.raises(QueryError, match="past its end"):
            await engine.read(hit.path, "lines 900-950")
        shutil.rmtree(notes)
        with pytest.raises(QueryError, match="gone"):
            await engine.read(hit.path)


@pytest.mark.parametrize(
    ("query", "names_it"),
    [
        (Query("  "), "empty"),
        (Query("x" * 100_000), "100,000"),
        (Query("x", top_k=0), "top_k"),
        (Query("x", top_k=10_000), "top_k"),
        (Query("x", offset=-1), "offset"),
        (Query("x", scope=Scope(folders=("/nowhere",))), "/nowhere"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, notes: Path, query: Query, names_it: str
) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        with pytest.raises(QueryError, match=names_it):
            await engine.search(query)


@pytest.mark.slow
async def test_a_glob_narrows_and_one_that_matches_nothing_gives_no_hit(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        await engine.index()
        only_code = await engine.search(Query("path json queen oven", scope=Scope(path_glob="*.py")))
        nothing = await engine.search(Query("queen", scope=Scope(path_glob="*.xyz")))
    assert names(only_code.hits) == ["code.py"] and nothing.hits == ()


@pytest.mark.slow
async def test_a_glob_may_be_a_path_as_hits_show_it(tmp_path: Path, notes: Path) -> None:
    other = tmp_path / "other [x]"
    (other / "dup").mkdir(parents=True)
    (other / "dup" / "other.md").write_text("a queen in another folder", encoding="utf-8")
    async with engine_over(tmp_path / "data", notes, other) as engine:
        await engine.index()

        async def found(glob: str, folders: tuple[str, ...] | None = None) -> tuple[list[str], bool]:
            answer = await engine.search(Query("queen", mode="keyword", scope=Scope(path_glob=glob, folders=folders)))
            return names(answer.hits), any("No indexed file matches" in notice for notice in answer.notices)

        for glob in (
            "dup/*.md",
            f"{other}/dup/*.md",
            f"{other}/dup/other.md",
            "dup",
            f"{other}/dup",
            f"{other}",
            "*.MD",
        ):
            hits, said = await found(glob)
            assert "other.md" in hits and not said, glob
        for mode in get_args(Mode):
            for glob in (f"{other}/**", f"{other}", f"{other}/dup/*"):
                answer = await engine.search(Query("queen", mode=mode, scope=Scope(path_glob=glob)))
                assert names(answer.hits) == ["other.md"], f"no file of another folder, {mode} {glob}"
        assert await found(f"{other}/dup/*.md", (str(notes),)) == ([], True), "a folder that was not asked for"
        assert await found(f"{other}/nothing/*.md") == ([], True)
        assert await found("*.xyz") == ([], True)
        assert await found(f"{other}x/dup/*.md") == ([], True)


@pytest.mark.slow
async def test_pages_follow_each_other_without_gap_or_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"apple {'pear ' * number} {number}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        whole = await engine.search(Query("apple", top_k=12))
        pages = [await engine.search(Query("apple", top_k=5, offset=offset)) for offset in (0, 5, 10)]
    assert [hit.path for page in pages for hit in page.hits] == [hit.path for hit in whole.hits]
    assert [page.next_offset for page in pages] == [5, 10, None]


async def test_a_folder_that_cannot_be_indexed_is_refused_with_the_reason(tmp_path: Path, notes: Path) -> None:
    async with engine_over(tmp_path / "data", notes) as engine:
        for path in (tmp_path / "absent", notes / "bees.md", Path("/"), notes / "inner"):
            with pytest.raises(FolderError):
                await engine.add_folder(str(path))
        assert [folder.path for folder in engine.folders()] == [str(notes)]


def test_a_local_model_is_known_to_read_the_languages_of_its_card_and_no_other(tmp_path: Path) -> None:
    silent, english = (local_model(tmp_path / name, name.encode()) for name in ("silent", "english"))
    (english / "README.md").write_text("---\nlanguage: en\n---\n", encoding="utf-8")
    models = ModelResolver(settings(tmp_path / "data"))
    assert models.for_folder(str(english)).languages == {"en"}
    assert models.for_folder(str(silent)).languages is None
    assert models.for_folder(None).languages == {"en"}


@pytest.mark.slow
async def test_a_phrase_is_found_though_many_texts_are_better_for_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(f"Light of red. Light of red. {number}", encoding="utf-8")
    long = "Nothing else of any note is said in these lines. " * 12
    (folder / "phrase.txt").write_text(f"{long} The wagon showed a Red  Light once. {long}", encoding="utf-8")
    async with engine_over(tmp_path / "data", folder) as engine:
        await engine.index()
        loose = await engine.search(Query("light red", top_k=1, mode="keyword"))
        exact = await engine.search(Query('"red light"', top_k=1, mode="keyword"))
        absent = await engine.search(Query('"light green wagon"', top_k=1, mode="keyword"))
    assert names(loose.hits) != ["phrase.txt"]
    assert names(exact.hits) == ["phrase.txt"] and exact.next_offset is None
    assert len(absent.hits) == 1


@pytest.mark.slow
async def test_hostile_ignore_files_close_their_directories_and_all_else_is_indexed(
    tmp_path: Path, notes: Path
) -> None:
    hostile = tmp_path / "hostile"
    deep = hostile / "vendor" / Path(*["a"] * 60)
    deep.mkdir(parents=True)
    (deep / "x.txt").write_text("a zebrafish in the depth", encoding="utf-8")
    (hostile / "vendor" / ".gitignore").write_text("**/a/" * 8 + "**/c/*.txt\n", encoding="utf-8")
    (hostile / "closed").mkdir()
    (hostile / "closed" / "y.txt").write_text("a zebrafish behind a door", encoding="utf-8")
    (hostile / "closed" / ".gitignore").write_bytes(b"x" * ((1 << 20) + 1))
    (hostile / ".gitignore").write_text("?" * 5000 + "\n", encoding="utf-8")
    (hostile / "good.md").write_text("a zebrafish in the budget", encoding="utf-8")
    async with engine_over(tmp_path / "data", hostile, notes) as engine:
        for _ in range(2):  # the second scan finds what the first wrote
            await engine.index()
            answer = await engine.search(Query("zebrafish", mode="keyword"))
            assert names(answer.hits) == ["good.md", "x.txt"] or names(answer.hits) == ["x.txt", "good.md"]
            assert names((await engine.search(Query("queen", mode="keyword"))).hits)
            told = {Path(each.path).name: each.reason for each in engine.status(verbose=True).folders[0].problems}
            assert "1 MiB for an ignore file" in told["closed"] and "line 1" in told["hostile"]
        (hostile / "closed" / ".gitignore").unlink()
        (hostile / ".gitignore").unlink()
        await engine.index()
        assert "y.txt" in names((await engine.search(Query("zebrafish", mode="keyword"))).hits)
        assert not engine.status(verbose=True).folders[0].problems
