"""The fenced engine over the real one: it answers as an engine that has only the allowed folders."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from engines import engine_over
from fakes_engine import FakeEngine
from two_owners import COMMON, words_in, write_both

from indexer.engine import Engine
from indexer.errors import FolderError, FolderMcpError, QueryError, StoreError
from indexer.search.scope import scope_below_folders
from indexer.slot.slot_types import ErrorStatus, HolderStatus, ModelStatus, QueueStatus, SlotStatus
from indexer.status_types import FolderStatus, ModelAvailability, OwnerStatus, RelayStatus, Status
from indexer.types import Query, Scope
from mcp_server.access.access import Access
from mcp_server.access.fenced_engine import LATER, NOT_USABLE, UNKNOWN_FILE, FencedEngine
from mcp_server.access.request import RequestView
from mcp_server.engine_port import EnginePort, to_json
from mcp_server.protocol.status_resource import notify_changes, relevant_state


def fenced(engine: EnginePort, *folders: Path | str) -> FencedEngine:
    return FencedEngine(engine, Access(folders=tuple(str(folder) for folder in folders)))


def lasting(folder: FolderStatus) -> FolderStatus:
    """A folder without the times of this run, and how often a broken file was tried in it."""
    problems = tuple(replace(problem, attempts=0) for problem in folder.problems)
    return replace(folder, last_scan=None, eta_s=None, problems=problems)


@pytest.mark.slow
async def test_a_status_is_that_of_an_engine_without_the_other_folder(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with (
        engine_over(tmp_path / "both", two.root, one.root) as both,
        engine_over(tmp_path / "alone", one.root) as alone,
    ):
        await both.index()
        await alone.index()
        for verbose in (False, True):
            shown, expected = fenced(both, one.root).status(verbose=verbose), alone.status(verbose=verbose)
            assert [lasting(each) for each in shown.folders] == [lasting(each) for each in expected.folders]
            assert (shown.services, shown.models) == (expected.services, expected.models)
            assert (shown.index.chunks, shown.index.embedded) == (expected.index.chunks, expected.index.embedded)
            assert words_in(str(to_json(shown)), [*two.never_asked, two.root.name + '"', str(two.root)]) == []
        answer, alike = await fenced(both, one.root).search(Query(COMMON)), await alone.search(Query(COMMON))
        assert answer.folders == alike.folders
        assert {hit.path for hit in answer.hits} == {hit.path for hit in alike.hits}
        assert fenced(both, one.root).folders() == alone.folders()


@pytest.mark.slow
async def test_a_part_of_a_folder_is_searched_read_and_counted_as_a_folder(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    part = two.root / "bircharchive"
    (part / "top.md").write_text("# Top\n\nAbove the deep ones, basaltcrow.\n", encoding="utf-8")
    (two.root / "bircharchive2").mkdir()
    (two.root / "bircharchive2" / "near.md").write_text("basaltcrow of a near name\n", encoding="utf-8")
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        view = fenced(engine, part)

        async def names(glob: str | None = None, mode: Any = "hybrid", folders: Any = None) -> set[str]:
            answer = await view.search(Query("basaltcrow", 50, mode=mode, scope=Scope(folders, glob)))
            assert {hit.folder for hit in answer.hits} <= {str(part)}
            return {str(Path(hit.path).relative_to(part)) for hit in answer.hits}

        for mode in ("keyword", "semantic", "hybrid"):
            assert await names(mode=mode) == {"top.md", "deep/birchinner.md"}
        assert await names("deep/**") == {"deep/birchinner.md"}
        assert await names("/deep/*.md") == {"deep/birchinner.md"}
        assert await names("*.md") == {"top.md", "deep/birchinner.md"}
        assert await names("**/deep/**") == {"deep/birchinner.md"}
        assert await names("bircharchive/**") == set(), "a glob begins at the part"
        assert await names(f"{part}/deep/**") == await names(f"{part}/deep") == {"deep/birchinner.md"}
        assert await names(str(part)) == {"top.md", "deep/birchinner.md"}
        for outside in (two.root, f"{two.root}/**", f"{two.root}/plan.md", f"{two.root}/deep/**", f"{part}2/**"):
            assert await names(str(outside)) == set()
        assert await names(folders=(str(part),)) == {"top.md", "deep/birchinner.md"}
        with pytest.raises(QueryError, match=rf"is not indexed; indexed folders: {part}$"):
            await names(folders=(str(two.root),))
        (folder,) = view.status().folders
        assert (folder.path, folder.files.indexed, folder.files.failed, folder.chunks) == (str(part), 2, 0, 2)
        assert (folder.source, [count.format for count in folder.formats]) == ("part", ["md"])
        answer = await view.search(Query("basaltcrow"))
        assert [(each.path, each.files_indexed) for each in answer.folders] == [(str(part), 2)]
        assert (await view.read("top.md")).path == str(part / "top.md")
        assert (await view.read(str(part / "deep" / "birchinner.md"))).path.endswith("birchinner.md")
        with pytest.raises(QueryError, match=UNKNOWN_FILE):
            await view.read(str(two.root / "bircharchive2" / "near.md"))
        wide = fenced(engine, one.root, part, two.root / "bircharchive2")
        found = await wide.search(Query("basaltcrow", 50, mode="keyword"))
        assert {Path(hit.path).name for hit in found.hits} == {"top.md", "birchinner.md", "near.md"}


@pytest.mark.slow
async def test_a_glob_without_files_is_said_as_it_was_asked_whatever_others_have(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    part = two.root / "bircharchive"
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        for folders in ((one.root,), (one.root, part)):
            view = fenced(engine, *folders)
            for glob in (
                "*.xyz",
                "/nothing/**",
                f"{one.root}/nothing/*.md",
                f"{two.root}/**",
                f"{two.root}/plan.md",
                f"{two.root}/nothing.md",
                "birchnote*.md",
            ):
                answer = await view.search(Query("basaltcrow", scope=Scope(path_glob=glob)))
                assert (answer.hits, answer.next_offset) == ((), None)
                assert [notice.partition(". ")[0] for notice in answer.notices] == [
                    f"No indexed file matches path_glob {glob!r}"
                ]


@pytest.mark.slow
async def test_a_name_that_several_files_have_names_those_that_may_be_seen(tmp_path: Path) -> None:
    roots = [tmp_path / unicodedata.normalize(form, "r\u00e9gion") for form in ("NFC", "NFD")]
    for root, forms in zip(roots, (("NFC", "NFD"), ("NFC",)), strict=True):
        root.mkdir()
        for form in forms:
            (root / unicodedata.normalize(form, "\u1e69\u00e9.md")).write_text(f"{root} {form}\n", encoding="utf-8")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes both forms for one name")
    async with engine_over(tmp_path / "data", *roots) as engine:
        await engine.index()
        mixed = "s\u0307\u0323\u00e9.md"
        with pytest.raises(QueryError, match="one of 3 files"):
            await engine.read(str(roots[0] / mixed))
        for path in (str(roots[0] / mixed), mixed):
            with pytest.raises(QueryError, match="one of 2 files that are spelled alike") as refused:
                await fenced(engine, roots[0]).read(path)
            assert roots[0].as_uri() in str(refused.value)
            assert roots[1].as_uri() not in str(refused.value)
        reading = await fenced(engine, roots[1]).read(str(roots[1] / mixed))
        assert reading.text == f"{roots[1]} NFC"


@pytest.mark.slow
async def test_a_change_in_another_folder_is_no_news_and_one_in_the_own_is(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
        part = two.root / "bircharchive"
        told: dict[str, list[str]] = {"one": [], "part": []}
        step = "other"

        def tell(who: str) -> Callable[[], Awaitable[None]]:
            async def now() -> None:
                told[who].append(step)

            return now

        async with anyio.create_task_group() as group:
            for who, folder in (("one", one.root), ("part", part)):
                view = RequestView(fenced(engine, folder), Access(folders=(str(folder),)))
                group.start_soon(notify_changes, view, tell(who), 0.0)
            await anyio.sleep(0.3)
            for number in range(3):
                (two.root / f"new{number}.md").write_text(f"{COMMON} {number}\n", encoding="utf-8")
                await engine.index()
                await engine.search(Query(COMMON))
            await anyio.sleep(0.5)  # what was notified has come
            assert told == {"one": [], "part": []}
            step = "own"
            (one.root / "new.md").write_text(f"{COMMON}\n", encoding="utf-8")
            (part / "new.md").write_text(f"{COMMON}\n", encoding="utf-8")
            await engine.index()
            while not all(told.values()):
                await anyio.sleep(0.05)
            group.cancel_scope.cancel()
        assert set(told["one"] + told["part"]) == {"own"}


# What others do -----------------------------------------------------------------------------------------------------


class Busy(FakeEngine):
    """An engine in which others are busy: with another folder, another model, other clients."""

    def status(self, *, verbose: bool = False, parts: Any = ()) -> Status:
        status = super().status(verbose=verbose, parts=parts)
        error = ErrorStatus(
            "k2", "other-model", "corrupt_files", "/other/weights is damaged", "", 1.0, 1, 3, None, True
        )
        slot = SlotStatus(
            state="loading",
            model=ModelStatus("other-model", "k2", 3, "onnx", "cpu", "float32"),
            requested="other-model",
            holder=HolderStatus("index", 5.0),
            queue=QueueStatus(3, 4, 5.0),
            last_error=error,
            errors=(error,),
            warm_until=9.0,
            last_used_at=8.0,
        )
        relay = RelayStatus(4_242_424_242, "1", 1.0, ("/other/folder",), True)
        owner: OwnerStatus = replace(status.owner, relays=(relay,), clients=5, detail="not indexed: /other is away")
        mine = replace(
            status.folders[0], detail="waits for other-model, which is in the slot", position=3, state="blocked"
        )
        other = replace(status.folders[1], model="other-model", position=1)
        index = replace(
            status.index, last_error="/other/x.md: broken", notices=("damaged parts are kept in /data/damaged",)
        )
        models = (ModelAvailability("other-model", False, 1, "", "/other/weights is damaged", ""),)
        return replace(status, slot=slot, owner=owner, folders=(mine, other), index=index, models=models)


@pytest.fixture
def busy(notes: Path, tmp_path: Path) -> Busy:
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret.md").write_text("signing keys of others\n", encoding="utf-8")
    made = Busy([str(notes), str(other)])
    made.started = True
    return made


def test_nothing_that_others_do_is_in_a_status(busy: Busy, notes: Path) -> None:
    view = fenced(busy, notes)
    status = view.status(verbose=True)
    text = str(to_json(status))
    assert words_in(text, ["other-model", "/other", "k2", "damaged", "4242424242", "/data", "secret"]) == []
    assert (status.slot, status.owner.clients, status.owner.relays) == (SlotStatus(), 1, ())
    assert (status.folders[0].detail, status.folders[0].position) == ("waits for the model, which is busy", 1)
    assert status.index.disk_bytes is None
    assert "other-model" not in str(relevant_state(status, RequestView(view, view.access)))


async def test_no_folder_can_be_added_removed_or_indexed_but_the_own(busy: Busy, notes: Path) -> None:
    view = fenced(busy, notes)
    other = busy.folders()[1].path
    for refused in (view.add_folder(other), view.remove_folder(other), view.remove_folder("/nothing")):
        with pytest.raises(FolderError, match="on the machine itself"):
            await refused
    for folder in (other, "/nothing"):
        with pytest.raises(FolderError, match=r"^that is not one of the indexed folders$"):
            await view.index([folder])
    assert (await view.index()).folders == (str(notes),)
    history = await view.history()
    assert (history.searches, history.changes, history.minutes) == ((), (), ())


@pytest.mark.parametrize(
    ("crash", "kind", "text"),
    [
        (StoreError("cannot read /data/index/chunks.lance", "io_error"), StoreError, NOT_USABLE),
        (FolderMcpError("config.toml line 3 in /home/other"), FolderMcpError, NOT_USABLE),
        (QueryError("folder /x is not indexed; indexed folders: /a, /b"), QueryError, LATER),
        (QueryError("index of /other/two is away"), QueryError, LATER),
        (QueryError("path_glob '[' opens a bracket that it does not close"), QueryError, "path_glob '\\['"),
    ],
)
async def test_an_error_that_quotes_a_path_says_less(
    busy: Busy, notes: Path, crash: Exception, kind: type[Exception], text: str
) -> None:
    busy.crash = crash
    with pytest.raises(kind, match=text) as raised:
        await fenced(busy, notes).search(Query("signing"))
    assert "/" not in str(raised.value).replace("`folder-mcp status`", "")


async def test_where_nothing_may_be_seen_a_search_finds_nothing_and_a_read_knows_nothing(busy: Busy) -> None:
    view = fenced(busy)
    answer = await view.search(Query("signing"))
    assert (answer.hits, answer.folders) == ((), ())
    with pytest.raises(QueryError, match=UNKNOWN_FILE):
        await view.read(busy.folders()[1].path + "/secret.md")
    assert view.status().folders == ()
    assert busy.asked == [], "the engine was never asked"


async def test_a_forbidden_path_and_an_unknown_one_take_the_same_way_and_never_reach_the_engine(
    busy: Busy, notes: Path
) -> None:
    read: list[str] = []

    async def recorded(path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Any:
        read.append(path)
        return await FakeEngine.read(busy, path, locator, max_chars=max_chars)

    busy.read = recorded  # type: ignore[method-assign]
    other = busy.folders()[1].path
    for path in (f"{other}/secret.md", f"{other}/nothing.md", "/nowhere/x.md", f"{notes}/../other/secret.md", "/"):
        with pytest.raises(QueryError, match=f"^{UNKNOWN_FILE}$"):
            await fenced(busy, notes).read(path)
    assert read == []
    with pytest.raises(QueryError, match=f"^{UNKNOWN_FILE}$"):
        await fenced(busy, notes).read(f"{notes}/nothing.md")
    assert read == [f"{notes}/nothing.md"]


async def test_a_glob_with_the_path_of_the_folder_around_a_part_names_no_folder(busy: Busy, notes: Path) -> None:
    (notes / "part").mkdir()
    view = fenced(busy, notes / "part", busy.folders()[1].path)
    for glob in (str(notes), f"{notes}/", f"{notes}/**", f"{notes}/../x", f"{notes}/part/../**", f"{notes}//part/**"):
        await view.search(Query("signing", scope=Scope(path_glob=glob)))
        asked = busy.asked[-1].scope
        roots = [folder.path for folder in busy.folders()]
        assert scope_below_folders(asked, roots) == asked, glob


async def test_what_the_engine_returns_is_looked_at_once_more(busy: Busy, notes: Path) -> None:
    async def everything(query: Query) -> Any:
        return await FakeEngine.search(busy, replace(query, scope=Scope()))

    busy.search = everything  # type: ignore[method-assign]
    answer = await fenced(busy, notes).search(Query("signing"))
    assert {hit.folder for hit in answer.hits} == {str(notes)}


@pytest.mark.slow
async def test_a_search_waits_for_an_index_that_is_being_opened(tmp_path: Path) -> None:
    one, two = write_both(tmp_path)
    async with engine_over(tmp_path / "data", one.root, two.root) as engine:
        await engine.index()
    async with engine_over(tmp_path / "data") as again:
        assert isinstance(again, Engine)
        answer = await fenced(again, one.root).search(Query("amberfox"))
        assert answer.hits
