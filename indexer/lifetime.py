"""The engine's components: how they are opened, and the tasks that run while they are open."""

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

from indexer import waits
from indexer.broadcast import Notifier
from indexer.config import Config
from indexer.documents.pool import Parsers, open_parsers
from indexer.documents.secret_policy import SecretPolicy
from indexer.errors import StoreBusy, StoreError
from indexer.files.mounts import warnings
from indexer.folders.model_availability import ModelResolver
from indexer.folders.registry import rewrite_missing_folders_file
from indexer.folders.state import Folders
from indexer.history import HistoryRecorder, follow_slot
from indexer.indexing.embedding_pass import EmbeddingPass
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue, rescan_periodically, watch_folders
from indexer.indexing.repair import maintain, supervise
from indexer.indexing.text_pass import TextPass
from indexer.models.loader import detect_accelerator
from indexer.search.search import SearchContext
from indexer.slot.embedder import Loader
from indexer.slot.slot import ModelSlot, open_slot
from indexer.slot.slot_types import GpuStatus, SlotSettings
from indexer.status_types import WorkCounters
from indexer.store.private_directory import make_private
from indexer.store.resources import prepare_process

if TYPE_CHECKING:
    from indexer.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Components:
    """What is open while the engine runs.

    The passes are None where the index is only read; the slot is None beside another writer.

    Attributes:
        refused: Why the index cannot be written although it should be; None when it can, or need not be.
        warnings: What is or was wrong with the data directory, one sentence each.
    """

    store: Store
    manifest: Manifest
    parsers: Parsers
    queue: WorkQueue
    search: SearchContext
    slot: ModelSlot | None
    text_pass: TextPass | None
    embedding_pass: EmbeddingPass | None
    refused: StoreError | None = None
    warnings: tuple[str, ...] = ()


TEMPORARY_CODES = ("busy", "disk_full", "read_only", "permission", "io_error")
"""Codes of ``StoreError`` with which an index may be readable but not writable for now."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """What the engine and its components share; it exists before they are open.

    Attributes:
        notifier: Notified of every change that a task may wait for.
        watchers: Notified when there is something new to show.
    """

    folders: Folders
    counters: WorkCounters
    notifier: Notifier
    models: ModelResolver
    recorder: HistoryRecorder
    watchers: Notifier


async def open_components(
    stack: AsyncExitStack,
    config: Config,
    shared: SharedState,
    loader: Loader,
    *,
    read_only: bool,
    on_wedged: Callable[[str], None] | None,
) -> tuple[Components, str]:
    """Open the components, to be closed with ``stack``; beside another writer without slot and passes.

    Returns:
        The components, and a sentence about them for status, empty when there is nothing to say.

    Raises:
        StoreError: The index cannot be opened.
    """
    store, refused, closed = await _open_store(stack, config.data_dir, read_only=read_only)
    detail = " ".join((str(refused or ""), *store.damage)).strip()
    manifest, queue = Manifest(await store.files()), WorkQueue()
    secrets = SecretPolicy(config.secrets.allow, config.secrets.allow_files)
    parsers = await stack.enter_async_context(
        open_parsers(workers=config.index.parser_workers, interpreter=config.parser_python, secrets=secrets)
    )
    slot, text_pass, embedding_pass = None, None, None
    if not isinstance(refused, StoreBusy) and not read_only:
        slot = await stack.enter_async_context(open_slot(loader, slot_settings(config, on_wedged), gpu=gpu_status()))
    if slot is not None and not store.read_only:
        arguments = (manifest, queue, shared.folders, shared.counters, shared.notifier)
        text_pass = TextPass(store, parsers, *arguments)
        embedding_pass = EmbeddingPass(store, slot, *arguments)
    reranker = partial(shared.models.reranker, config.search.rerank) if config.search.rerank else None
    search = SearchContext(store, slot, manifest, queue, shared.folders, config.search, reranker, secrets)
    about_disk = await anyio.to_thread.run_sync(warnings, config.data_dir)
    passes = (text_pass, embedding_pass)
    about = (closed, *about_disk) if closed else about_disk
    return Components(store, manifest, parsers, queue, search, slot, *passes, refused, about), detail


async def _open_store(
    stack: AsyncExitStack, data_dir: Path, *, read_only: bool
) -> tuple[Store, StoreError | None, str]:
    """The store, only for reading when it cannot be written now, and why; whether its directory was closed to others.

    Raises:
        StoreError: It cannot be read either.
    """
    open_store = await anyio.to_thread.run_sync(_load_store)
    directory, closed = data_dir / "index", ""
    try:
        if not read_only:
            closed = await anyio.to_thread.run_sync(make_private, data_dir)
        return await stack.enter_async_context(open_store(directory, read_only=read_only)), None, closed
    except StoreError as error:
        if error.code not in TEMPORARY_CODES:
            raise
        refused = error
    try:
        return await stack.enter_async_context(open_store(directory, read_only=True)), refused, closed
    except StoreError as worse:
        raise refused from worse


def _load_store() -> Callable[..., AbstractAsyncContextManager[Store]]:
    """Import the store: 2.4 s of CPU the first time, so not on the event loop and not before it is needed."""
    prepare_process()
    from indexer.store.store import open_store  # noqa: PLC0415

    return open_store


async def run_passes(components: Components, config: Config, shared: SharedState, folders_changed: Notifier) -> None:
    """Run the passes until cancelled; where the index should be written but cannot, wait until it can be.

    First what changed while the engine was not running: folders no longer listed are removed, all others are scanned.
    """
    if components.slot is None or components.text_pass is None or components.embedding_pass is None:
        if components.refused is None:
            await anyio.sleep_forever()
        await _wait_until_writable(components.store, config.data_dir)
        return
    await _remove_unlisted(components, shared)
    for folder in shared.folders:
        components.queue.add(folder.path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow_slot, shared.recorder, components.slot, shared.watchers)
        maintenance = partial(maintain, components.store, shared.counters, shared.notifier, lambda: _idle(components))
        tasks.start_soon(
            supervise,
            components.store,
            components.manifest,
            components.queue,
            shared.folders,
            shared.counters,
            shared.notifier,
            (components.text_pass.run, components.embedding_pass.run, maintenance),
            lambda: rewrite_missing_folders_file(config.data_dir, [folder.known for folder in shared.folders]),
        )
        tasks.start_soon(rescan_periodically, shared.folders, components.queue, config.index.rescan_minutes * 60)
        if config.index.watch:
            tasks.start_soon(watch_folders, shared.folders, components.queue, folders_changed, shared.notifier)


async def _wait_until_writable(store: Store, data_dir: Path) -> None:
    """Try now and then: nothing reports that a disk has space again, or that the other writer has ended."""
    while not await anyio.to_thread.run_sync(_could_write, store, data_dir):  # noqa: ASYNC110
        await anyio.sleep(waits.INDEX_RETRY_S)


def _could_write(store: Store, data_dir: Path) -> bool:
    try:
        make_private(data_dir)
    except StoreError:
        return False
    return store.could_write()


async def _remove_unlisted(components: Components, shared: SharedState) -> None:
    """Remove folders from the index that are no longer listed."""
    for path in set(components.manifest.folders()) - {folder.path for folder in shared.folders}:
        try:
            await components.store.remove_folder(path)
        except StoreError as error:  # a full disk, for example; the next start tries again
            shared.counters.last_error = str(error)
            log.error("%s is not taken out of the index: %s", path, error)
            return
        components.manifest.drop_folder(path)


def slot_settings(config: Config, on_wedged: Callable[[str], None] | None = None) -> SlotSettings:
    """The slot's settings: those of the configuration, the defaults for the rest."""
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
    """Whether no pass is working, so that maintenance may run."""
    reading = components.text_pass is not None and bool(components.text_pass.active)
    embedding = components.embedding_pass is not None and bool(components.embedding_pass.active)
    return not reading and not embedding
