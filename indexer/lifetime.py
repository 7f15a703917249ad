"""Open the parts and run them: what happens inside the engine's task group."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from indexer import timing
from indexer.broadcast import Notifier
from indexer.config import Config
from indexer.documents.pool import Parsers, open_parsers
from indexer.errors import StoreBusy, StoreError
from indexer.files.mounts import warnings
from indexer.folders.model_availability import Models
from indexer.folders.registry import restore_folders
from indexer.folders.state import Folders
from indexer.history import Recorder, record_slot
from indexer.indexing.embedding_pass import EmbeddingPass
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue, keep_watching, rescan_now_and_then
from indexer.indexing.repair import maintain, supervise
from indexer.indexing.text_pass import TextPass
from indexer.models.loader import detect_accelerator
from indexer.search.search import Search
from indexer.slot.embedder import Loader
from indexer.slot.slot import ModelSlot, open_slot
from indexer.slot.slot_types import GpuStatus, SlotSettings
from indexer.status_types import WorkCounters
from indexer.store.resources import prepare_process

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)


# Components ---------------------------------------------------------------------------------------------------------
# What is open while the engine runs.


@dataclass(frozen=True, slots=True)
class Components:
    """The open parts. Passes are None in a process that only reads; so is the slot beside another writer.

    Attributes:
        refused: Why the index can only be read although it should be written; None when that is as it should be.
        warnings: What speaks against the place of the data directory, one sentence each.
    """

    store: Store
    manifest: Manifest
    parsers: Parsers
    queue: WorkQueue
    search: Search
    slot: ModelSlot | None
    text_pass: TextPass | None
    embedding_pass: EmbeddingPass | None
    refused: StoreError | None = None
    warnings: tuple[str, ...] = ()


# Opening and running ------------------------------------------------------------------------------------------------

PASSING = ("busy", "disk_full", "read_only", "permission", "io_error")
"""Why an index may not be writable for now, though it can be read."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """What engine and passes share from the first moment, open or not.

    Attributes:
        recorder: Writes the history down.
        shown: Beats for those who watch.
    """

    folders: Folders
    counters: WorkCounters
    notifier: Notifier
    models: Models
    recorder: Recorder
    shown: Notifier


async def open_components(
    stack: AsyncExitStack,
    config: Config,
    shared: SharedState,
    loader: Loader,
    *,
    read_only: bool,
    on_wedged: Callable[[str], None] | None,
) -> tuple[Components, str]:
    """Open everything, to be closed with ``stack``; beside another writer without slot and passes.

    Returns:
        The parts, and a sentence about them for status, empty when there is nothing to say.

    Raises:
        StoreError: The index cannot be opened.
    """
    store, refused = await _open_store(stack, config.data_dir / "index", read_only=read_only)
    detail = " ".join((str(refused or ""), *store.damage)).strip()
    manifest, queue = Manifest(await store.files()), WorkQueue()
    parsers = await stack.enter_async_context(
        open_parsers(workers=config.index.parser_workers, interpreter=config.parser_python)
    )
    slot, text_pass, embedding_pass = None, None, None
    if not isinstance(refused, StoreBusy) and not read_only:
        slot = await stack.enter_async_context(open_slot(loader, slot_settings(config, on_wedged), gpu=gpu_status()))
    if slot is not None and not store.read_only:
        common = (manifest, queue, shared.folders, shared.counters, shared.notifier)
        text_pass = TextPass(store, parsers, *common)
        embedding_pass = EmbeddingPass(store, slot, *common)
    reranker = partial(shared.models.reranker, config.search.rerank) if config.search.rerank else None
    search = Search(store, slot, manifest, queue, shared.folders, config.search, reranker)
    found = await anyio.to_thread.run_sync(warnings, config.data_dir)
    return Components(store, manifest, parsers, queue, search, slot, text_pass, embedding_pass, refused, found), detail


async def _open_store(stack: AsyncExitStack, directory: Path, *, read_only: bool) -> tuple[Store, StoreError | None]:
    """The store, only for reading when it cannot be written now, and why.

    Raises:
        StoreError: It cannot be read either.
    """
    open_store = await anyio.to_thread.run_sync(_load_store)
    try:
        return await stack.enter_async_context(open_store(directory, read_only=read_only)), None
    except StoreError as error:
        if error.code not in PASSING:
            raise
        refused = error
    try:
        return await stack.enter_async_context(open_store(directory, read_only=True)), refused
    except StoreError as worse:
        raise refused from worse


def _load_store() -> Callable[..., AbstractAsyncContextManager[Store]]:
    """Import the store: 2.4 s of CPU the first time, so not on the event loop and not before it is needed."""
    prepare_process()
    from indexer.store.store import open_store  # noqa: PLC0415

    return open_store


async def run_passes(components: Components, config: Config, shared: SharedState, folders_changed: Notifier) -> None:
    """Run the passes until cancelled; where the index can only be read, wait until it can be written.

    Begins with what changed while nobody was looking: folders that are no longer kept go, all others are walked.
    """
    if components.slot is None or components.text_pass is None or components.embedding_pass is None:
        if components.refused is None:
            await anyio.sleep_forever()
        await _until_writable(components.store)
        return
    await _forget(components, shared)
    for folder in shared.folders:
        components.queue.add(folder.path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(record_slot, shared.recorder, components.slot, shared.shown)
        tending = partial(maintain, components.store, shared.counters, shared.notifier, lambda: _idle(components))
        passes = (components.text_pass.run, components.embedding_pass.run, tending)
        common = (
            components.store,
            components.manifest,
            components.queue,
            shared.folders,
            shared.counters,
            shared.notifier,
        )
        known = partial(_restore, config, shared.folders)
        tasks.start_soon(supervise, *common, passes, known)
        tasks.start_soon(rescan_now_and_then, shared.folders, components.queue, config.index.rescan_minutes * 60)
        if config.index.watch:
            tasks.start_soon(keep_watching, shared.folders, components.queue, folders_changed, shared.notifier)


def _restore(config: Config, folders: Folders) -> None:
    restore_folders(config.data_dir, [folder.known for folder in folders])


async def _until_writable(store: Store) -> None:
    """Look now and then: nobody tells that a disk has room again, or that its other writer has ended."""
    while not await anyio.to_thread.run_sync(store.could_write):  # noqa: ASYNC110
        await anyio.sleep(timing.INDEX_RETRY_S)


async def _forget(components: Components, shared: SharedState) -> None:
    """Take folders out of the index that are no longer kept."""
    for path in set(components.manifest.folders()) - {folder.path for folder in shared.folders}:
        try:
            await components.store.remove_folder(path)
        except StoreError as error:  # a full disk: at the next start
            shared.counters.last_error = str(error)
            log.error("%s is not taken out of the index: %s", path, error)
            return
        components.manifest.drop_folder(path)


def slot_settings(config: Config, on_wedged: Callable[[str], None] | None = None) -> SlotSettings:
    """What the user set of the slot; the rest is as specified."""
    slot = config.slot
    settings = SlotSettings(
        keep_warm=slot.keep_warm, starvation_cap=slot.starvation_cap, allow_cpu_fallback=slot.allow_cpu_fallback
    )
    return settings if on_wedged is None else replace(settings, on_wedged=on_wedged)


def gpu_status() -> GpuStatus:
    """The accelerator, asked of the operating system: a few milliseconds, no torch."""
    found = detect_accelerator()
    kind = "" if found.device == "cpu" else found.device
    return GpuStatus(bool(kind), kind, found.name, found.total, None, found.why_not)


def _idle(components: Components) -> bool:
    """Whether no pass is working: the time for maintenance."""
    reading = components.text_pass is not None and bool(components.text_pass.active)
    embedding = components.embedding_pass is not None and bool(components.embedding_pass.active)
    return not reading and not embedding
