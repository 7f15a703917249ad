"""The engine: opens everything, runs everything in one task group, closes everything.

It can be asked from the first moment: what is not there yet is waited for (searches) or reported (status).
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

from indexer import timing
from indexer.broadcast import Notifier
from indexer.config import Config
from indexer.errors import FolderError, QueryError, StoreBusy, StoreError
from indexer.folders import registry
from indexer.folders.model_availability import AvailableModels, Models
from indexer.folders.state import Folders, LiveFolder
from indexer.history import History, Recorder, Searched, record_work, snapshots
from indexer.indexing.queue import ignore_for
from indexer.lifetime import Components, SharedState, open_components, run_passes
from indexer.models.loader import RuntimeLoader
from indexer.search.read import read_place
from indexer.slot.embedder import Loader
from indexer.status_report import build_status, index_report
from indexer.status_types import IndexReport, OwnerStatus, Status, WorkCounters
from indexer.types import Answer, Query, Reading

log = logging.getLogger(__name__)

OwnerState = Literal["uninitialized", "initializing", "serving", "read_only", "stopping"]


class Engine:
    """One index, one slot, any number of clients. Use ``open_engine``."""

    def __init__(
        self,
        config: Config,
        version: str,
        loader: Loader | None,
        on_wedged: Callable[[str], None] | None = None,
        complete_owner: Callable[[OwnerStatus], OwnerStatus] | None = None,
    ) -> None:
        self.config = config
        self._models = Models(config)
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
        self._shown = Notifier()
        self._recorder = Recorder(self._since)
        self._available = AvailableModels(config, self._models, self._folders, self._model_arrived)
        self._shared = SharedState(
            self._folders, self._counters, self._notifier, self._models, self._recorder, self._shown
        )

    # What clients ask -----------------------------------------------------------------------------------------

    async def search(self, query: Query) -> Answer:
        """Answer a query within ``search.wait`` seconds.

        Raises:
            QueryError: The query makes no sense, or the index is not open yet.
            StoreError: The index cannot be opened or read.
        """
        if self._available.incomplete:
            self._available.check_again()
        answer = await (await self._opened()).search.answer(query)
        self._recorder.searches.append(Searched(time.time(), answer.elapsed_ms, answer.semantic.status))
        self._shown.notify()
        return answer

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Read a place of an indexed file.

        Raises:
            QueryError: Not an indexed file, not readable now, or no such place.
        """
        components = await self._opened()
        return await read_place(
            path,
            locator,
            max_chars=max_chars,
            manifest=components.manifest,
            folders=self._folders,
            parsers=components.parsers,
        )

    def status(self, *, verbose: bool = False) -> Status:
        """A snapshot of everything. Never waits."""
        if self._available.incomplete:
            self._available.check_again()
        return self._snapshot(verbose=verbose)

    def _snapshot(self, *, verbose: bool = False) -> Status:
        state = self._state, self._detail, self._clients, self._since, str(self.config.data_dir)
        owner, found = OwnerStatus(os.getpid(), self._version, *state), (self._components, self._available.models)
        if self._complete_owner is not None:
            owner = self._complete_owner(owner)
        return build_status(owner, self._folders, self._counters, *found, verbose=verbose, failure=self._failure)

    def watch(self, *, at_most_every: float = 0.2) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change, no faster than ``at_most_every`` seconds."""
        return snapshots(self._snapshot, self._shown, at_most_every)

    async def history(self, after: float = 0.0) -> History:
        """What happened in the last hour, or what of it came after a time. Never waits."""
        return self._recorder.history(time.time(), after)

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Scan folders (all when None) and wait until everything indexable is indexed and embedded.

        Raises:
            FolderError: A folder is not known.
            StoreBusy: Another process is the writer.
        """
        components = await self._opened(math.inf)
        if components.text_pass is None:
            raise components.refused or StoreBusy(self._detail)
        await self._available.assign_models()
        started, before = anyio.current_time(), self._counters.work()
        live = [self._known(path) for path in folders] if folders is not None else list(self._folders)
        for folder in live:
            components.queue.add(folder.path)
        while not all(self._settled(folder, components) for folder in live):
            await self._notifier.wait()
        chosen = {folder.path for folder in live}
        status = [f for f in self.status(verbose=True).folders if f.path in chosen]
        return index_report(status, before, self._counters.work(), anyio.current_time() - started)

    async def add_folder(
        self, path: str, model: str | None = None, *, allow_broad: bool = False
    ) -> registry.KnownFolder:
        """Remember a folder and begin to index it; adding it again may change its model.

        Raises:
            FolderError: It cannot be indexed; the message says why.
        """
        add = functools.partial(registry.add_folder, self.config, path, model=model, allow_broad=allow_broad)
        known = await anyio.to_thread.run_sync(add)
        components = await self._opened(math.inf)
        self._folders.put(await self._live(known))
        self._available.check_again()
        components.queue.add(known.path)
        self._folders_changed.notify()
        self._notifier.notify()
        return known

    async def remove_folder(self, path: str) -> str:
        """Take a folder's text out of the index and forget it. Returns its root.

        Raises:
            FolderError: It is not known, or it stands in the configuration file.
        """
        components = await self._opened(math.inf)
        root = (await anyio.to_thread.run_sync(registry.remove_folder, self.config, path)).path
        self._folders.drop(root)
        self._available.check_again()
        components.queue.drop(root)
        await components.store.remove_folder(root)
        components.manifest.drop_folder(root)
        self._folders_changed.notify()
        self._notifier.notify()
        return root

    def folders(self) -> tuple[registry.KnownFolder, ...]:
        """The folders being kept."""
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
        """Open the index and work until cancelled; everything opened is closed again, in reverse.

        What cannot be opened, or not for writing, is tried again now and then.
        """
        if start is not None:
            await start.wait()
        self._state = "initializing"
        self._notifier.notify()
        while True:
            try:
                async with AsyncExitStack() as stack:
                    given = (stack, self.config, self._shared, self._loader)
                    components, self._detail = await open_components(
                        *given, read_only=read_only, on_wedged=self._on_wedged
                    )
                    await self._keep_folders()
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
                await anyio.sleep(timing.INDEX_RETRY_S)

    async def keep_models_known(self, start: anyio.Event | None) -> None:
        """Look for the named models, at the start and whenever one is missed, until cancelled."""
        if start is not None:
            await start.wait()
        await self._available.run(self._notifier.notify)

    def _model_arrived(self, root: str) -> None:
        """Compare a folder anew: its tokens are counted by its own model from now on, and its chunks embedded."""
        if self._components is not None:  # else every folder is about to be looked at anyway
            self._components.queue.add(root)
        self._notifier.notify()

    async def _keep_folders(self) -> None:
        mended = await anyio.to_thread.run_sync(registry.mend_folders, self.config.data_dir)
        listed = await anyio.to_thread.run_sync(registry.list_folders, self.config)
        for refused in listed.refused:
            log.warning("not indexed: %s", refused)
        self._detail = " ".join((self._detail, mended, *listed.refused)).strip()
        for known in listed.known:
            self._folders.put(await self._live(known))
        self._available.check_again()

    async def _opened(self, wait: float | None = None) -> Components:
        """The open parts; waits for them ``wait`` seconds, ``search.wait`` when None."""
        with anyio.move_on_after(self.config.search.wait if wait is None else wait):
            while self._components is None and self._failure is None:
                await self._notifier.wait()
        if self._failure is not None:
            raise self._failure
        if self._components is None:
            raise QueryError("the index is still being opened; ask again in a few seconds")
        return self._components

    async def _live(self, known: registry.KnownFolder) -> LiveFolder:
        def make() -> LiveFolder:
            model = self._models.for_folder(known.model)
            return LiveFolder(known, len(self._folders), model, ignore_for(known, self.config))

        return await anyio.to_thread.run_sync(make)

    def _known(self, path: str) -> LiveFolder:
        folder = self._folders.get(os.path.realpath(os.path.expanduser(path)))
        if folder is None:
            raise FolderError(f"{path} is not one of the indexed folders; add it: folder-mcp folders add {path}")
        return folder

    def _settled(self, folder: LiveFolder, components: Components) -> bool:
        """Whether nothing more will happen to a folder by itself soon."""
        assert components.text_pass is not None
        if components.queue.waiting(folder.path) or folder.path in components.text_pass.active:
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
        config: Where the data lies and how to work.
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
        tasks.start_soon(engine.keep_models_known, start)
        tasks.start_soon(record_work, engine._recorder, engine._counters, engine._notifier, engine._shown)
        try:
            yield engine
        finally:
            engine._state = "stopping"
            tasks.cancel_scope.cancel()
