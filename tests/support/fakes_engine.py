"""A small real engine for the tests of clients: reads text files, finds words, and can be told to wait or fail.

It fits ``mcp_server.engine_port.EnginePort``. Nothing in it is canned: hits come from the files in its folders.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import anyio

from indexer.config import Config
from indexer.errors import FolderError, QueryError
from indexer.folders.registry import KnownFolder, list_folders, remove_folder
from indexer.history import History, HistoryRecorder
from indexer.search.search import check_query
from indexer.slot.slot_types import SlotStatus
from indexer.status_types import (
    FileCounts,
    FileProblem,
    FolderStatus,
    Halves,
    IndexReport,
    IndexStatus,
    OwnerStatus,
    ReasonCount,
    Status,
    Work,
)
from indexer.types import Answer, FolderCoverage, Hit, Locator, Query, Reading, Semantic

MODEL = "fake-model"


class FakeEngine:
    """Searches the text files of its folders by word.

    Attributes:
        gate: Set: searches answer at once. Replace it with a new event to hold them.
        crash: Raised by the next search and read, if given.
        slot: The slot as ``status`` shows it; change it with ``change``.
        asked: The queries that came, in order; ``searching`` is set with the first.
        was_cancelled: Set when a held search was cancelled.
        clients: Connections now.
        watchers: Who watches the status now.
        complete_owner: What an owner adds to its part of the status.
    """

    def __init__(self, folders: Sequence[str] = (), *, config: Config | None = None) -> None:
        self._config = config
        self._folders = [KnownFolder(str(Path(folder).resolve())) for folder in folders]
        self.gate = anyio.Event()
        self.gate.set()
        self.crash: Exception | None = None
        self.semantic = Semantic("served", 1.0)
        self.slot = SlotStatus()
        self.asked: list[Query] = []
        self.searching = anyio.Event()
        self.was_cancelled = anyio.Event()
        self.clients = 0
        self.watchers = 0
        self.started = False
        self.version = "9.9.9"
        self.complete_owner: Callable[[OwnerStatus], OwnerStatus] = lambda status: status
        self._changed = anyio.Event()
        self.recorder = HistoryRecorder(time.time())

    def change(self, **changes: object) -> None:
        """Change fields of the slot and tell who watches."""
        self.slot = replace(self.slot, **changes)  # type: ignore[arg-type]
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def search(self, query: Query) -> Answer:
        check_query(query)
        await self._opened()
        self.asked.append(query)
        self.searching.set()
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.was_cancelled.set()
            raise
        if self.crash is not None:
            raise self.crash
        found = sorted(self._matches(query), key=lambda hit: (-hit.score, hit.path, hit.locator))
        page = found[query.offset : query.offset + query.top_k]
        best = found[0].score if found else 1.0
        more = query.offset + query.top_k < len(found)
        return Answer(
            hits=tuple(replace(hit, score=hit.score / best) for hit in page),
            mode_used=query.mode,
            semantic=self.semantic,
            folders=tuple(
                FolderCoverage(f.path, MODEL, len(list(self._files(f.path))), 0, 1.0) for f in self._folders
            ),
            next_offset=query.offset + query.top_k if more else None,
            notices=(),
            elapsed_ms=1.5,
        )

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        if self.crash is not None:
            raise self.crash
        if not any(path.startswith(folder.path + "/") for folder in self._folders) or not os.path.isfile(path):
            raise QueryError(f"{path} is not an indexed file; give a path exactly as search returned it")
        lines = _text(path).split("\n")
        place = Locator.parse(locator) if locator else Locator("lines", "", 1, len(lines))
        kept, size = [], 0
        for line in lines[place.start - 1 : place.end]:
            size += len(line) + 1
            if size > max_chars:
                break
            kept.append(line)
        last = place.start + len(kept) - 1
        cut = last < min(place.end, len(lines))
        goes_on = str(Locator("lines", "", last + 1, len(lines))) if last < len(lines) else ""
        shown = str(Locator("lines", "", place.start, last))
        return Reading(path, shown, "\n".join(kept), place.start, (), len(lines), cut, goes_on if cut else "", False)

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        folders = tuple(self._folder_status(folder, verbose) for folder in self._folders)
        chunks = sum(folder.chunks for folder in folders)
        state = "serving" if self.started else "initializing"
        owner = OwnerStatus(os.getpid(), self.version, state, "", self.clients, 1_700_000_000.0, "/data")
        return Status(
            at=time.time(),
            owner=self.complete_owner(owner),
            services=Halves("serving", "serving"),
            slot=self.slot,
            index=IndexStatus(chunks, chunks, 4096, 0.0, None, "", "in-process"),
            folders=folders,
            work=Work(files_walked=chunks),
        )

    async def watch(self) -> AsyncIterator[Status]:
        self.watchers += 1
        try:
            while True:
                changed = self._changed
                yield self.status()
                await changed.wait()
        finally:
            self.watchers -= 1

    async def history(self, after: float = 0.0) -> History:
        return self.recorder.history(time.time(), after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        await self._opened()
        chosen = [folder for folder in self._folders if folders is None or folder.path in folders]
        counts = [self._folder_status(folder, True) for folder in chosen]
        return IndexReport(
            folders=tuple(folder.path for folder in chosen),
            indexed=sum(folder.files.indexed for folder in counts),
            skipped=0,
            failed=sum(folder.files.failed for folder in counts),
            chunks=sum(folder.chunks for folder in counts),
            embedded=sum(folder.embedded for folder in counts),
            work=Work(files_read=sum(folder.files.indexed for folder in counts)),
            seconds=0.5,
            complete=True,
            incomplete_because=(),
            problems=tuple(problem for folder in counts for problem in folder.problems),
        )

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        await anyio.lowlevel.checkpoint()
        if not os.path.isdir(path):
            raise FolderError(f"{path} does not exist; give the path of a folder")
        self._folders.append(KnownFolder(path, model))
        return self._folders[-1]

    async def remove_folder(self, path: str) -> str:
        await self._opened()
        if self._config is not None:
            remove_folder(self._config, path)
        self._folders = [folder for folder in self._folders if folder.path != path]
        return path

    def folders(self) -> tuple[KnownFolder, ...]:
        return tuple(self._folders)

    @contextmanager
    def connected(self) -> Iterator[None]:
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1

    def keep(self, folders: Sequence[KnownFolder]) -> None:
        """Serve these folders from now on."""
        self._folders = list(folders)
        self.started = True

    async def _opened(self) -> None:
        while not self.started:
            await self._changed.wait()

    def _files(self, folder: str) -> Iterator[str]:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and not path.name.startswith("broken"):
                yield str(path)

    def _matches(self, query: Query) -> Iterator[Hit]:
        words = re.findall(r"\w+", query.text.lower())
        for folder in self._folders:
            if query.scope.folders is not None and folder.path not in query.scope.folders:
                continue
            for path in self._files(folder.path):
                if query.scope.path_glob and not fnmatch(os.path.relpath(path, folder.path), query.scope.path_glob):
                    continue
                if query.scope.suffixes is not None and not path.lower().endswith(
                    tuple(f".{suffix}" for suffix in query.scope.suffixes)
                ):
                    continue
                modified = os.stat(path).st_mtime
                if query.scope.modified_after is not None and modified <= query.scope.modified_after:
                    continue
                yield from _hits(path, folder.path, words, modified)

    def _folder_status(self, folder: KnownFolder, verbose: bool) -> FolderStatus:
        files = len(list(self._files(folder.path)))
        broken = [str(path) for path in sorted(Path(folder.path).glob("broken*"))]
        problems = tuple(FileProblem(path, "failed", "it is broken", 1) for path in broken)
        return FolderStatus(
            path=folder.path,
            model=MODEL,
            state="ready",
            detail="",
            files=FileCounts(indexed=files, failed=len(broken)),
            chunks=files,
            embedded=files,
            coverage=1.0,
            position=None,
            eta_s=None,
            reasons=(ReasonCount("it is broken", len(broken)),) if broken else (),
            problems=problems if verbose else problems[:3],
            source=folder.source,
            last_scan=1_700_000_000.0,
        )


def _hits(path: str, folder: str, words: Sequence[str], modified: float) -> Iterator[Hit]:
    """One hit for each paragraph with any of the words."""
    start = 1
    for paragraph in re.split(r"(?<=\n)\n+", _text(path)):
        end = start + max(0, paragraph.rstrip("\n").count("\n"))
        score = sum(paragraph.lower().count(word) for word in words)
        if score:
            place = str(Locator("lines", "", start, end))
            yield Hit(path, folder, place, "", paragraph.strip("\n"), float(score), ("keyword",), modified, False)
        start = end + 2


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def open_fake(
    config: Config, *, start: anyio.Event | None = None, read_only: bool = False
) -> AsyncIterator[FakeEngine]:
    """Open a fake engine over the known folders, which it takes up when ``start`` is set."""
    engine = FakeEngine(config=config)

    async def run() -> None:
        if start is not None:
            await start.wait()
        engine.keep((await anyio.to_thread.run_sync(list_folders, config)).known)
        engine.change()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            yield engine
        finally:
            group.cancel_scope.cancel()
