"""The engine: one index and one model slot, and everything that clients may ask of them.

It answers from the first moment: searches wait until the index is open, status reports that it is not.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Literal

import anyio

from indexer import waits
from indexer.broadcast import Notifier
from indexer.config import Config
from indexer.errors import FolderError, QueryError, StoreBusy, StoreError
from indexer.folders import registry
from indexer.folders.model_availability import ModelResolver, ModelTracker
from indexer.folders.state import Folders, LiveFolder
from indexer.history import AnsweredSearch, History, HistoryRecorder, follow_work, snapshots
from indexer.indexing.queue import ignore_rules
from indexer.lifetime import Components, SharedState, open_components, run_passes
from indexer.models.loader import RuntimeLoader
from indexer.search.read import read_document
from indexer.search.search import answer_query
from indexer.slot.embedder import Loader
from indexer.status_report import build_status, index_report
from indexer.status_types import IndexReport, OwnerStatus, Status, WorkCounters
from indexer.types import Answer, Query, Reading

log = logging.getLogger(__name__)

OwnerState = Literal["uninitialized", "initializing", "serving", "read_only", "stopping"]


class Engine:
    """One index, one slot, any number of clients. Open it with ``open_engine``."""

    def __init__(
        self,
        config: Config,
        version: str,
        loader: Loader | None,
        on_wedged: Callable[[str], None] | None = None,
        complete_owner: Callable[[OwnerStatus], OwnerStatus] | None = None,
    ) -> None:
        self.config = config
        self._models = ModelResolver(config)
        self._loader: Loader = loader or RuntimeLoader()
        self._version = version
        self._on_wedged = on_wedged
        self._complete_owner = complete_owner
        self._since = time.time()
        self._clients = 0
        self._state: OwnerState = "uninitialized"
        self._detail = ""
        self._components: Components | None = None
        self._failure: StoreError | None = None
        self._folders = Folders()
        self._counters = WorkCounters()
        self._notifier = Notifier()
        self._folders_changed = Notifier()
        self._watchers = Notifier()
        self._recorder = HistoryRecorder(self._since)
        self._tracker = ModelTracker(config, self._models, self._folders, self._model_assigned)
        self._shared = SharedState(
            self._folders, self._counters, self._notifier, self._models, self._recorder, self._watchers
        )

    # What clients ask -----------------------------------------------------------------------------------------

    async def search(self, query: Query) -> Answer:
        """Answer a query within ``search.wait`` seconds.

        Raises:
            QueryError: The query makes no sense, or the index is not open yet.
            StoreError: The index cannot be opened or read.
        """
        if self._tracker.incomplete:
            self._tracker.check_again()
        answer = await answer_query(query, (await self._wait_open()).search)
        self._recorder.searches.append(AnsweredSearch(time.time(), answer.elapsed_ms, answer.semantic.status))
        self._watchers.notify()
        return answer

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read an indexed file at a locator, or from its beginning.

        Raises:
            QueryError: It is not indexed, cannot be read now, or has no such locator.
        """
        components = await self._wait_open()
        return await read_document(
            path,
            locator,
            max_chars=max_chars,
            manifest=components.manifest,
            folders=self._folders,
            parsers=components.parsers,
        )

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        """A snapshot of everything, and of parts of folders as if each was a folder. Never waits."""
        if self._tracker.incomplete:
            self._tracker.check_again()
        return self._snapshot(verbose=verbose, parts=parts)

    def _snapshot(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        owner = OwnerStatus(
            pid=os.getpid(),
            version=self._version,
            state=self._state,
            detail=self._detail,
            clients=self._clients,
            since=self._since,
            data_dir=str(self.config.data_dir),
        )
        if self._complete_owner is not None:
            owner = self._complete_owner(owner)
        return build_status(
            owner,
            self._folders,
            self._counters,
            self._components,
            self._tracker.models,
            verbose=verbose,
            failure=self._failure,
            parts=parts,
        )

    def watch(self, *, at_most_every: float = 0.2) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change, no faster than ``at_most_every`` seconds."""
        return snapshots(self._snapshot, self._watchers, at_most_every)

    async def history(self, after: float = 0.0) -> History:
        """The last hour, or the part of it after a time. Never waits."""
        return self._recorder.history(time.time(), after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Scan folders (all when None) and wait until everything indexable is indexed and embedded.

        Raises:
            FolderError: A folder is not known.
            StoreBusy: Another process is the writer.
        """
        components = await self._wait_open(math.inf)
        if components.text_pass is None:
            raise components.refused or StoreBusy(self._detail)
        await self._tracker.assign_models()
        started, before = anyio.current_time(), self._counters.work()
        chosen = [self._indexed_folder(path) for path in folders] if folders is not None else list(self._folders)
        for folder in chosen:
            components.queue.add(folder.path)
        while not all(self._is_finished(folder, components) for folder in chosen):
            await self._notifier.wait()
        paths = {folder.path for folder in chosen}
        status = [f for f in self.status(verbose=True).folders if f.path in paths]
        return index_report(status, before, self._counters.work(), anyio.current_time() - started)

    async def add_folder(
        self, path: str, model: str | None = None, *, allow_broad: bool = False
    ) -> registry.KnownFolder:
        """Add a folder and begin to index it; adding it again may change its model.

        Raises:
            FolderError: It cannot be indexed; the message says why.
        """
        add = functools.partial(registry.add_folder, self.config, path, model=model, allow_broad=allow_broad)
        known = await anyio.to_thread.run_sync(add)
        components = await self._wait_open(math.inf)
        self._folders.put(await self._open_folder(known))
        self._tracker.check_again()
        components.queue.add(known.path)
        self._folders_changed.notify()
        self._notifier.notify()
        return known

    async def remove_folder(self, path: str) -> str:
        """Remove a folder and its text from the index. Returns its root.

        Raises:
            FolderError: It is not known, or it stands in the configuration file.
        """
        components = await self._wait_open(math.inf)
        root = (await anyio.to_thread.run_sync(registry.remove_folder, self.config, path)).path
        self._folders.drop(root)
        self._tracker.check_again()
        components.queue.drop(root)
        await components.store.remove_folder(root)
        components.manifest.drop_folder(root)
        self._folders_changed.notify()
        self._notifier.notify()
        return root

    def folders(self) -> tuple[registry.KnownFolder, ...]:
        """The folders that are indexed."""
        return tuple(folder.known for folder in self._folders)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a client for as long as it is connected."""
        self._clients += 1
        self._notifier.notify()
        try:
            yield
        finally:
            self._clients -= 1
            self._notifier.notify()

    # Opening, running, closing --------------------------------------------------------------------------------

    async def run(self, start: anyio.Event | None, read_only: bool) -> None:
        """Open the index and work until cancelled, then close everything in reverse order.

        An index that cannot be opened, or not for writing, is tried again every ``INDEX_RETRY_S`` seconds.
        """
        if start is not None:
            await start.wait()
        self._state = "initializing"
        self._notifier.notify()
        while True:
            try:
                async with AsyncExitStack() as stack:
                    components, self._detail = await open_components(
                        stack,
                        self.config,
                        self._shared,
                        self._loader,
                        read_only=read_only,
                        on_wedged=self._on_wedged,
                    )
                    await self._load_folders()
                    self._failure, self._components = None, components
                    self._state = "read_only" if components.text_pass is None else "serving"
                    self._notifier.notify()
                    await run_passes(components, self.config, self._shared, self._folders_changed)
            except StoreError as error:
                log.log(logging.INFO if error.code == "missing" else logging.ERROR, "the index is not open: %s", error)
                self._failure, self._detail = error, str(error)
            self._components = None
            self._notifier.notify()
            if self._failure is not None:
                await anyio.sleep(waits.INDEX_RETRY_S)

    async def track_models(self, start: anyio.Event | None) -> None:
        """Check which of the named models are here, at the start and whenever asked, until cancelled."""
        if start is not None:
            await start.wait()
        await self._tracker.run(self._notifier.notify)

    def _model_assigned(self, root: str) -> None:
        """Scan a folder again: its own model counts its tokens from now on, and embeds its chunks."""
        if self._components is not None:  # otherwise every folder is about to be scanned anyway
            self._components.queue.add(root)
        self._notifier.notify()

    async def _load_folders(self) -> None:
        repaired = await anyio.to_thread.run_sync(registry.repair_folders_file, self.config.data_dir)
        listed = await anyio.to_thread.run_sync(registry.list_folders, self.config)
        for refused in listed.refused:
            log.warning("not indexed: %s", refused)
        self._detail = " ".join((self._detail, repaired, *listed.refused)).strip()
        for known in listed.known:
            self._folders.put(await self._open_folder(known))
        self._tracker.check_again()

    async def _wait_open(self, wait: float | None = None) -> Components:
        """The open components; waits for them ``wait`` seconds, ``search.wait`` when None."""
        with anyio.move_on_after(self.config.search.wait if wait is None else wait):
            while self._components is None and self._failure is None:
                await self._notifier.wait()
        if self._failure is not None:
            raise self._failure
        if self._components is None:
            raise QueryError("the index is still being opened; ask again in a few seconds")
        return self._components

    async def _open_folder(self, known: registry.KnownFolder) -> LiveFolder:
        def open_folder() -> LiveFolder:
            model = self._models.for_folder(known.model)
            return LiveFolder(known, len(self._folders), model, ignore_rules(known, self.config))

        return await anyio.to_thread.run_sync(open_folder)

    def _indexed_folder(self, path: str) -> LiveFolder:
        folder = self._folders.get(os.path.realpath(os.path.expanduser(path)))
        if folder is None:
            raise FolderError(f"{path} is not one of the indexed folders; add it: folder-mcp folders add {path}")
        return folder

    def _is_finished(self, folder: LiveFolder, components: Components) -> bool:
        """Whether a folder is scanned and embedded, as far as it can be now."""
        assert components.text_pass is not None
        if components.queue.is_waiting(folder.path) or folder.path in components.text_pass.active:
            return False
        if not folder.scanned:
            return not folder.available
        spec = folder.model.spec
        return (
            spec is None or bool(folder.embedding_problem) or not components.store.pending_count(spec.key, folder.path)
        )


@asynccontextmanager
async def open_engine(
    config: Config,
    *,
    version: str,
    read_only: bool = False,
    start: anyio.Event | None = None,
    loader: Loader | None = None,
    on_wedged: Callable[[str], None] | None = None,
    complete_owner: Callable[[OwnerStatus], OwnerStatus] | None = None,
) -> AsyncIterator[Engine]:
    """Open an engine; returns at once, heavy imports and indexing begin in the background.

    Args:
        config: Where the data is and how to work.
        version: Of the program, for status.
        read_only: Open the index beside another writer: keyword search only, no model.
        start: Begin the heavy part when this is set; None begins at once.
        loader: Loads models; None is the real one.
        on_wedged: Called with the reason when only a restart of the process helps the model slot.
        complete_owner: Adds to the owner's part of each status what only the process around the engine knows.
    """
    engine = Engine(config, version, loader, on_wedged, complete_owner)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.run, start, read_only)
        tasks.start_soon(engine.track_models, start)
        tasks.start_soon(follow_work, engine._recorder, engine._counters, engine._notifier, engine._watchers)
        try:
            yield engine
        finally:
            engine._state = "stopping"
            tasks.cancel_scope.cancel()
