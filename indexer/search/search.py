"""A query to an answer: keyword and semantic search together, fusion, reranking, freshness, what is missing.

Keyword search never waits for the model slot. What semantic search has not found when its time is over is missing
from the answer, which then says why and when to ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio
from anyio import from_thread
from anyio.to_thread import run_sync

from indexer.config import SearchSettings
from indexer.documents.secret_policy import BLANK_ALL, SecretPolicy
from indexer.errors import QueryError, SlotUnavailable, StoreError, unwrap_group
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue
from indexer.models.spec import RerankModel
from indexer.search.fusion import (
    ParsedQuery,
    RankedChunk,
    SemanticRanking,
    drop_context_only_matches,
    fold,
    fuse,
    parse_query,
)
from indexer.search.hits import CheckedHit, check_files, make_hits, passages
from indexer.search.reranking import rerank
from indexer.search.scope import no_file_notice, scope_below_folders
from indexer.slot.embedder import ModelSpec
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.text.tokens import has_phrase
from indexer.types import (
    MAX_CHARS,
    MAX_CONTEXT,
    MAX_OFFSET,
    MAX_QUERY,
    MAX_TOP_K,
    MIN_CHARS,
    Answer,
    FolderCoverage,
    Query,
    Reranking,
    Scored,
    Semantic,
    StoredChunk,
)

if TYPE_CHECKING:
    from indexer.store.store import Store

CANDIDATES_PER_HIT = 5
"""Each search brings this many chunks for each hit wanted: fusing and folding need the ranks below the cut."""
RETRY_INDEXING_S = 30.0
"""When to ask again for results that wait for indexing or repair."""


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What searches run over.

    Attributes:
        slot: None in a process that holds no model.
        reranker: Finds the reranker that is configured; it may read files, so call it in a worker thread. None when
            none is configured.
        secrets: Which secrets of a passage are shown.
    """

    store: Store
    slot: ModelSlot | None
    manifest: Manifest
    queue: WorkQueue
    folders: Folders
    settings: SearchSettings
    reranker: Callable[[], RerankModel] | None = None
    secrets: SecretPolicy = BLANK_ALL


async def answer_query(query: Query, context: SearchContext) -> Answer:
    """Answer within ``search.wait`` seconds, whatever state the slot is in.

    Raises:
        QueryError: Empty or overlong text, ``top_k`` or ``offset`` out of range, a folder that is not indexed.
        StoreError: The index cannot be read.
    """
    started, version = anyio.current_time(), context.manifest.version
    check_query(query)
    asked_glob, folders = query.scope.path_glob, _folders_in_scope(query, context.folders)
    query = replace(query, scope=scope_below_folders(query.scope, [folder.path for folder in folders]))
    folders = [folder for folder in folders if folder.path in (query.scope.folders or ())]  # a glob may name one
    parsed = await run_sync(parse_query, query.text)

    keyword, semantic = await _retrieve_with_repair(query, parsed, folders, context)
    ranking = await run_sync(_rank, keyword, semantic, parsed)
    ranking, reranking = await _rerank(ranking, query, parsed, context, started + context.settings.wait)
    page, more = await run_sync(_check_files, ranking, query, context, version)
    texts = await passages(context.store, page, query.context)
    hits = await run_sync(make_hits, page, texts, parsed.tokens, query, context.secrets)

    coverage = tuple(_coverage(folder, context) for folder in folders)
    notices = _notices(folders, coverage, context.store.health.rebuilding)
    if not hits and asked_glob is not None and not await context.store.has_files(query.scope):
        notices.append(no_file_notice(asked_glob))
    return Answer(
        hits=tuple(hits),
        mode_used="keyword" if query.mode == "hybrid" and not semantic.rankings else query.mode,
        semantic=semantic_report(query, folders, context.store, semantic),
        folders=coverage,
        next_offset=query.offset + len(hits) if more or len(hits) < len(page) else None,
        notices=tuple(notices),
        elapsed_ms=(anyio.current_time() - started) * 1000,
        reranking=reranking,
    )


# The query ----------------------------------------------------------------------------------------------------------


def check_query(query: Query) -> None:
    """Refuse what cannot be answered.

    Raises:
        QueryError: Says which argument and what would do.
    """
    if not query.text.strip():
        raise QueryError("query is empty; give words or a question to search for")
    if len(query.text) > MAX_QUERY:
        raise QueryError(
            f"query has {len(query.text):,} characters; give at most {MAX_QUERY:,}: the question, not the document"
        )
    if not 1 <= query.top_k <= MAX_TOP_K:
        raise QueryError(f"top_k is {query.top_k}; it must be between 1 and {MAX_TOP_K} (offset gives more)")
    if not 0 <= query.context <= MAX_CONTEXT:
        raise QueryError(f"context is {query.context}; it must be between 0 and {MAX_CONTEXT} (read gives more)")
    if query.max_chars is not None and not MIN_CHARS <= query.max_chars <= MAX_CHARS:
        raise QueryError(f"max_chars is {query.max_chars}; it must be between {MIN_CHARS} and {MAX_CHARS:,}")
    if not 0 <= query.offset <= MAX_OFFSET:
        raise QueryError(f"offset is {query.offset}; it must be between 0 and {MAX_OFFSET}: narrow the query instead")


def _folders_in_scope(query: Query, folders: Folders) -> list[LiveFolder]:
    """The folders to search; a path inside an indexed folder stands for that folder."""
    if query.scope.folders is None:
        return list(folders)
    chosen: dict[str, LiveFolder] = {}
    for path in query.scope.folders:
        folder = folders.get(path) or folders.containing(path)
        if folder is None:
            known = ", ".join(f.path for f in folders) or "none yet"
            raise QueryError(f"folder {path} is not indexed; indexed folders: {known}")
        chosen[folder.path] = folder
    return list(chosen.values())


# Retrieval ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SemanticResults:
    """What semantic search has found, and why it has not found more.

    Attributes:
        rankings: One for each model that answered.
        served: Folders whose vectors were compared.
        refusals: Why the others were not.
    """

    rankings: list[SemanticRanking] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    refusals: list[SlotUnavailable] = field(default_factory=list)


async def _retrieve_with_repair(
    query: Query, parsed: ParsedQuery, folders: Sequence[LiveFolder], context: SearchContext
) -> tuple[list[Scored], SemanticResults]:
    """Run both searches; if the index is damaged, wait for its repair within ``search.wait`` and run them again."""
    health = context.store.health
    try:
        return await _retrieve(query, parsed, folders, context)
    except StoreError:
        if context.store.read_only or not health.damage_suspected.is_set():
            raise
        with anyio.move_on_after(context.settings.wait) as limit:
            await health.wait_until_repaired()
        if limit.cancelled_caught:
            raise
    return await _retrieve(query, parsed, folders, context)


async def _retrieve(
    query: Query, parsed: ParsedQuery, folders: Sequence[LiveFolder], context: SearchContext
) -> tuple[list[Scored], SemanticResults]:
    """Run keyword and semantic search at once."""
    limit = (query.offset + query.top_k) * CANDIDATES_PER_HIT
    if context.reranker is not None:
        limit = max(limit, context.settings.rerank_top * 2)  # folding must leave enough to rerank
    keyword: list[Scored] = []
    semantic = SemanticResults()

    async def run_keyword() -> None:
        keyword.extend(await search_keyword(query, parsed, limit, context.store))

    async def run_semantic() -> None:
        await search_semantic(query, parsed, folders, limit, context, semantic)

    with unwrap_group():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_keyword)
            tasks.start_soon(run_semantic)
    return keyword, semantic


async def search_keyword(query: Query, parsed: ParsedQuery, limit: int, store: Store) -> list[Scored]:
    """The chunks with the query's words, best first by BM25; those with its quoted phrases only, if there are any."""
    if query.mode == "semantic" or not parsed.tokens:
        return []
    found: list[Scored] = []
    if parsed.phrases:  # a chunk with the phrase need not be among the best for its words
        has_all = partial(_has_phrases, phrases=parsed.phrases)
        found = await store.search_text(parsed.tokens, query.scope, limit, has_all)
    return found or await store.search_text(parsed.tokens, query.scope, limit)


async def search_semantic(
    query: Query,
    parsed: ParsedQuery,
    folders: Sequence[LiveFolder],
    limit: int,
    context: SearchContext,
    results: SemanticResults,
) -> None:
    """Embed the query with each model in use and add its nearest chunks to ``results``.

    Takes ``search.wait`` seconds at most, over all models. A model that is ready, or only busy with a micro-batch,
    is waited for; one that has to be loaded first is waited for ``search.load_wait`` seconds, unless only semantic
    search was asked for. The load goes on by itself, and the next search finds the model loaded.
    """
    if query.mode == "keyword":
        return
    slot, settings = context.slot, context.settings
    if slot is None:
        results.refusals.append(
            SlotUnavailable("not_owner", "Another process holds the model.", "Search through the running server.")
        )
        return
    # In hybrid mode keyword search finds the quoted phrases, however low they rank.
    phrases = parsed.phrases if query.mode == "semantic" else ()
    loaded = slot.loaded_key
    deadline = anyio.current_time() + settings.wait
    for spec, languages, paths in _folders_by_model(folders, context.store, results, loaded):
        longest = settings.wait if query.mode == "semantic" or spec.key == loaded else settings.load_wait
        wait = max(0.0, min(deadline - anyio.current_time(), longest))
        try:
            async with slot.use(spec, Priority.TOOL, wait=wait) as lease:
                vector, dim = await lease.embed_query(query.text), lease.spec.dim
        except SlotUnavailable as refusal:
            results.refusals.append(refusal)
            continue
        nearest = partial(context.store.search_vectors, spec.key, dim, vector, replace(query.scope, folders=paths))
        try:
            found = await nearest(limit, partial(_has_phrases, phrases=phrases)) if phrases else []
            found = found or await nearest(limit)
        except StoreError as error:  # keyword results are still good
            hint = "Keyword results cover the text; ask again in a minute."
            message = f"Searching by meaning failed: {error}."
            results.refusals.append(SlotUnavailable("index_damaged", message, hint, RETRY_INDEXING_S))
            continue
        results.rankings.append(SemanticRanking(found, languages, frozenset(paths)))
        results.served.update(paths)


def _folders_by_model(
    folders: Sequence[LiveFolder], store: Store, results: SemanticResults, loaded: str
) -> list[tuple[ModelSpec, frozenset[str] | None, tuple[str, ...]]]:
    """Folders that have vectors, grouped by model, the loaded model's first."""
    groups: dict[tuple[str, str, str, str], tuple[ModelSpec, frozenset[str] | None, tuple[str, ...]]] = {}
    for folder in folders:
        spec = folder.model.spec
        if spec is None:
            if folder.model.problem is not None:
                results.refusals.append(folder.model.problem)
        elif store.embedded_count(spec.key, folder.path):
            first, languages, paths = groups.get(spec.load_key, (spec, folder.model.languages, ()))
            groups[spec.load_key] = (first, languages, (*paths, folder.path))
    return sorted(groups.values(), key=lambda group: group[0].key != loaded)


def _has_phrases(chunk: StoredChunk, phrases: Sequence[str]) -> bool:
    return all(has_phrase(chunk.passage, phrase) for phrase in phrases)


# Ranking ------------------------------------------------------------------------------------------------------------


def _rank(keyword: Sequence[Scored], semantic: SemanticResults, parsed: ParsedQuery) -> list[RankedChunk]:
    """One ranking of both searches, similar chunks folded."""
    ranking = fuse(drop_context_only_matches(keyword, parsed), semantic.rankings, parsed)
    if parsed.phrases:  # a hit must have what is quoted; if none has, the ranking is left as it is
        ranking = [hit for hit in ranking if _has_phrases(hit.chunk, parsed.phrases)] or ranking
    return fold(ranking)


async def _rerank(
    ranking: list[RankedChunk], query: Query, parsed: ParsedQuery, context: SearchContext, deadline: float
) -> tuple[list[RankedChunk], Reranking | None]:
    if context.reranker is None:
        return ranking, None
    model = await run_sync(context.reranker)
    top = context.settings.rerank_top
    return await rerank(ranking, query, parsed, model, context.slot, top=top, deadline=deadline)


# Freshness ----------------------------------------------------------------------------------------------------------


def _check_files(
    ranking: Sequence[RankedChunk], query: Query, context: SearchContext, version: int
) -> tuple[list[CheckedHit], bool]:
    """``check_files`` from a worker thread; the queue belongs to the event loop."""

    def rescan(folder: str, path: str) -> None:
        from_thread.run_sync(partial(context.queue.add, folder, path, urgent=True))

    return check_files(ranking, query, context.manifest, context.folders, rescan, version, context.secrets)


# What is missing ----------------------------------------------------------------------------------------------------


def semantic_report(query: Query, folders: Sequence[LiveFolder], store: Store, results: SemanticResults) -> Semantic:
    """How much of the text semantic search compared, and the first reason why it was not all of it."""
    if query.mode == "keyword":
        return Semantic("off", 0.0)
    chunks = sum(store.chunk_count(folder.path) for folder in folders)
    embedded = sum(
        store.embedded_count(folder.model.spec.key, folder.path)
        for folder in folders
        if folder.model.spec is not None and folder.path in results.served
    )
    coverage = min(1.0, embedded / chunks) if chunks else 0.0
    status: Literal["partial", "unavailable"] = "partial" if results.rankings else "unavailable"
    if results.refusals:
        first = results.refusals[0]
        return Semantic(status, coverage, first.code, str(first), first.hint, first.retry_after)
    if not chunks:
        return Semantic("unavailable", 0.0, "nothing_indexed", "Nothing is indexed here yet.", "", None)
    if coverage < 1.0:
        reason = f"{coverage:.0%} of the text has been embedded so far."
        hint = "Keyword results cover the rest; ask again later for more by meaning."
        return Semantic(status, coverage, "indexing", reason, hint, RETRY_INDEXING_S)
    return Semantic("served", coverage)


def _coverage(folder: LiveFolder, context: SearchContext) -> FolderCoverage:
    chunks = context.store.chunk_count(folder.path)
    spec = folder.model.spec
    embedded = context.store.embedded_count(spec.key, folder.path) if spec else 0
    return FolderCoverage(
        path=folder.path,
        model=folder.model.name,
        files_indexed=context.manifest.count(folder.path, "indexed"),
        files_pending=folder.to_read,
        coverage=min(1.0, embedded / chunks) if chunks else float(folder.scanned),
    )


def _notices(folders: Sequence[LiveFolder], coverage: Sequence[FolderCoverage], rebuilding: str) -> list[str]:
    notices = [f"The index is being rebuilt: {rebuilding}."] if rebuilding else []
    if not folders:
        notices.append("No folder is indexed yet; add one: folder-mcp folders add FOLDER")
    for folder, covered in zip(folders, coverage, strict=True):
        if not folder.available:
            notices.append(f"{folder.path} cannot be reached now; its hits are from the last indexing.")
        elif not folder.scanned:
            notices.append(f"{folder.path} is still being read ({covered.files_indexed} files so far).")
    return notices
