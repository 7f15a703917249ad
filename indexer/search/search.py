"""Query to answer, as a recipe: both legs at once, fuse, fold, check freshness, say what is missing.

The keyword leg never touches the slot; whatever the semantic leg has brought when its patience ends is fused with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import anyio

from indexer.config import SearchSettings
from indexer.errors import QueryError, SlotUnavailable, StoreError, unwrap_group
from indexer.folders.state import Folders, LiveFolder
from indexer.indexing.manifest import Manifest
from indexer.indexing.queue import WorkQueue
from indexer.models.spec import RerankModel
from indexer.search.fusion import Fused, Question, SemanticList, fold, fuse, read_question, with_own_words
from indexer.search.hits import Seen, fresh, hits_of, passages
from indexer.search.reranking import rerank
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
    Mode,
    Query,
    Reranking,
    Scope,
    Scored,
    Semantic,
    StoredChunk,
)

if TYPE_CHECKING:
    from indexer.store.store import Store

LEG_FACTOR = 5
"""Each leg brings this many times the wanted hits: fusing and folding need the ranks below the cut."""


class Search:
    """Answers queries over one index.

    ``slot`` is None in a process that holds no model; ``reranker`` finds the one that is configured, if any (in a
    worker thread: it may read files).
    """

    def __init__(
        self,
        store: Store,
        slot: ModelSlot | None,
        manifest: Manifest,
        queue: WorkQueue,
        folders: Folders,
        settings: SearchSettings,
        reranker: Callable[[], RerankModel] | None = None,
    ) -> None:
        self._store = store
        self._slot = slot
        self._manifest = manifest
        self._queue = queue
        self._folders = folders
        self._settings = settings
        self._reranker = reranker

    async def answer(self, query: Query) -> Answer:
        """Answer within ``search.wait`` seconds, whatever state the slot is in.

        Raises:
            QueryError: Empty or endless text, ``top_k`` or ``offset`` out of range, a folder that is not indexed.
        """
        started, turns = anyio.current_time(), self._manifest.turns
        check(query)
        folders = self._in_scope(query)
        scope = replace(query.scope, folders=tuple(f.path for f in folders))
        question = await anyio.to_thread.run_sync(read_question, query.text)
        keyword, leg = await self._found(query, question, scope, folders)
        ranking = await anyio.to_thread.run_sync(_ranking, keyword, leg, question)
        ranking, reranking = await self._reranked(ranking, query, question, started + self._settings.wait)
        page, more = await anyio.to_thread.run_sync(self._page, ranking, query, turns)
        texts = await passages(self._store, page, query.context)
        hits = await anyio.to_thread.run_sync(hits_of, page, texts, question.tokens, query)
        coverage = tuple(self._coverage(folder) for folder in folders)
        return Answer(
            hits=tuple(hits),
            mode_used=_mode_used(query.mode, leg),
            semantic=contribution(query, folders, self._store, leg),
            folders=coverage,
            next_offset=query.offset + len(hits) if more or len(hits) < len(page) else None,
            notices=tuple(_notices(folders, coverage, self._store.health.rebuilding)),
            elapsed_ms=(anyio.current_time() - started) * 1000,
            reranking=reranking,
        )

    def _in_scope(self, query: Query) -> list[LiveFolder]:
        if query.scope.folders is None:
            return list(self._folders)
        found: dict[str, LiveFolder] = {}
        for path in query.scope.folders:
            folder = self._folders.get(path) or self._folders.holding(path)
            if folder is None:
                known = ", ".join(f.path for f in self._folders) or "none yet"
                raise QueryError(f"folder {path} is not indexed; indexed folders: {known}")
            found[folder.path] = folder
        return list(found.values())

    async def _found(
        self, query: Query, question: Question, scope: Scope, folders: Sequence[LiveFolder]
    ) -> tuple[list[Scored], SemanticSide]:
        """Both legs; when damage is met its repair is waited for, within ``search.wait``, and they are asked again."""
        try:
            return await self._legs(query, question, scope, folders)
        except StoreError:
            if self._store.read_only or not self._store.health.damage_suspected.is_set():
                raise
            with anyio.move_on_after(self._settings.wait) as patience:
                await self._store.health.wait_until_repaired()
            if patience.cancelled_caught:
                raise
        return await self._legs(query, question, scope, folders)

    async def _legs(
        self, query: Query, question: Question, scope: Scope, folders: Sequence[LiveFolder]
    ) -> tuple[list[Scored], SemanticSide]:
        limit = (query.offset + query.top_k) * LEG_FACTOR
        if self._reranker is not None:
            limit = max(limit, self._settings.rerank_top * 2)  # folding leaves enough to read
        keyword: list[Scored] = []
        leg = SemanticSide()
        quoted = functools.partial(_holds, phrases=question.phrases)

        async def by_word() -> None:
            if query.mode == "semantic" or not question.tokens:
                return
            if question.phrases:  # they need not be among the best for their words
                keyword.extend(await self._store.search_text(question.tokens, scope, limit, quoted))
            if not keyword:
                keyword.extend(await self._store.search_text(question.tokens, scope, limit))

        async def by_meaning() -> None:
            nonlocal leg
            if query.mode != "keyword":
                # In hybrid mode the other leg finds what is quoted, however far down it stands.
                passes = quoted if question.phrases and query.mode == "semantic" else None
                ask = functools.partial(semantic_search, query, scope, folders, limit)
                leg = await ask(self._slot, self._store, self._settings, passes)

        with unwrap_group():
            async with anyio.create_task_group() as legs:
                legs.start_soon(by_word)
                legs.start_soon(by_meaning)
        return keyword, leg

    async def _reranked(
        self, ranking: list[Fused], query: Query, question: Question, until: float
    ) -> tuple[list[Fused], Reranking | None]:
        if self._reranker is None:
            return ranking, None
        model = await anyio.to_thread.run_sync(self._reranker)
        top = self._settings.rerank_top
        return await rerank(ranking, query, question, model, self._slot, top=top, until=until)

    def _page(self, ranking: Sequence[Fused], query: Query, turns: int) -> tuple[list[Seen], bool]:
        """Check the files; runs in a thread and tells the queue through the loop."""

        def look_again(folder: str, path: str) -> None:
            anyio.from_thread.run_sync(lambda: self._queue.add(folder, path, urgent=True))

        return fresh(ranking, query, self._manifest, self._folders, look_again, turns)

    def _coverage(self, folder: LiveFolder) -> FolderCoverage:
        chunks = self._store.chunk_count(folder.path)
        spec = folder.model.spec
        embedded = self._store.embedded_count(spec.key, folder.path) if spec else 0
        return FolderCoverage(
            path=folder.path,
            model=folder.model.name,
            files_indexed=self._manifest.count(folder.path, "indexed"),
            files_pending=folder.to_read,
            coverage=min(1.0, embedded / chunks) if chunks else float(folder.scanned),
        )


def check(query: Query) -> None:
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


def _ranking(keyword: Sequence[Scored], leg: SemanticSide, question: Question) -> list[Fused]:
    return fold(_with_phrases(fuse(with_own_words(keyword, question), leg.lists, question), question))


def _with_phrases(ranking: list[Fused], question: Question) -> list[Fused]:
    """What stands in quotes must stand in a hit; if it stands in none, the ranking is left as it is."""
    if not question.phrases:
        return ranking
    return [hit for hit in ranking if _holds(hit.chunk, question.phrases)] or ranking


def _holds(chunk: StoredChunk, phrases: Sequence[str]) -> bool:
    return all(has_phrase(chunk.passage, phrase) for phrase in phrases)


def _mode_used(asked: Mode, leg: SemanticSide) -> Mode:
    return "keyword" if asked == "hybrid" and not leg.lists else asked


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


# Semantic search ----------------------------------------------------------------------------------------------------
# The semantic leg of a search: the query embedded with each model in use, the loaded one first.


@dataclass(slots=True)
class SemanticSide:
    """What the leg has brought, and why it has not brought more.

    Attributes:
        lists: One ranking a model that answered.
        served: Folders whose vectors were compared.
        refused: Why the others were not.
    """

    lists: list[SemanticList] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    refused: list[SlotUnavailable] = field(default_factory=list)


async def semantic_search(
    query: Query,
    scope: Scope,
    folders: Sequence[LiveFolder],
    limit: int,
    slot: ModelSlot | None,
    store: Store,
    settings: SearchSettings,
    passes: Callable[[StoredChunk], bool] | None = None,
) -> SemanticSide:
    """Ask each model in use, within ``settings.wait`` seconds over all.

    A model that is ready, or only busy with a micro-batch, is waited for; one that has to be loaded first is waited
    for ``settings.load_wait`` seconds unless the caller asked for meaning alone. The load goes on by itself and
    the next search finds the model warm. With ``passes`` the chunks it takes are looked for beyond the nearest;
    where there are none, the nearest answer.
    """
    leg = SemanticSide()
    if slot is None:
        leg.refused.append(
            SlotUnavailable("not_owner", "Another process holds the model.", "Search through the running server.")
        )
        return leg
    loaded = slot.loaded_key
    until = anyio.current_time() + settings.wait
    for spec, languages, paths in _by_model(folders, store, leg, loaded):
        patience = settings.wait if query.mode == "semantic" or spec.key == loaded else settings.load_wait
        wait = max(0.0, min(until - anyio.current_time(), patience))
        try:
            async with slot.use(spec, Priority.TOOL, wait=wait) as lease:
                vector, dim = await lease.embed_query(query.text), lease.spec.dim
        except SlotUnavailable as refusal:
            leg.refused.append(refusal)
            continue
        inside = replace(scope, folders=tuple(paths))
        try:
            found = await store.search_vectors(spec.key, dim, vector, inside, limit, passes) if passes else []
            found = found or await store.search_vectors(spec.key, dim, vector, inside, limit)
        except StoreError as error:  # words are searched all the same
            hint = "Keyword results cover the text; ask again in a minute."
            leg.refused.append(SlotUnavailable("index_damaged", f"Searching by meaning failed: {error}.", hint, 30.0))
            continue
        leg.lists.append(SemanticList(found, languages, frozenset(paths)))
        leg.served.update(paths)
    return leg


def _by_model(
    folders: Sequence[LiveFolder], store: Store, leg: SemanticSide, loaded: str
) -> list[tuple[ModelSpec, frozenset[str] | None, list[str]]]:
    """Folders that have vectors, grouped by model, the loaded model's first."""
    groups: dict[tuple[str, str, str, str], tuple[ModelSpec, frozenset[str] | None, list[str]]] = {}
    for folder in folders:
        spec = folder.model.spec
        if spec is None:
            if folder.model.problem is not None:
                leg.refused.append(folder.model.problem)
        elif store.embedded_count(spec.key, folder.path):
            groups.setdefault(spec.load_key, (spec, folder.model.languages, []))[2].append(folder.path)
    return sorted(groups.values(), key=lambda group: group[0].key != loaded)


def contribution(query: Query, folders: Sequence[LiveFolder], store: Store, leg: SemanticSide) -> Semantic:
    """What the leg contributed to an answer, in the answer's words."""
    if query.mode == "keyword":
        return Semantic("off", 0.0)
    chunks = sum(store.chunk_count(folder.path) for folder in folders)
    embedded = sum(
        store.embedded_count(folder.model.spec.key, folder.path)
        for folder in folders
        if folder.model.spec is not None and folder.path in leg.served
    )
    coverage = min(1.0, embedded / chunks) if chunks else 0.0
    status: Literal["partial", "unavailable"] = "partial" if leg.lists else "unavailable"
    if leg.refused:
        first = leg.refused[0]
        return Semantic(status, coverage, first.code, str(first), first.hint, first.retry_after)
    if not chunks:
        return Semantic("unavailable", 0.0, "nothing_indexed", "Nothing is indexed here yet.", "", None)
    if coverage < 1.0:
        reason = f"{coverage:.0%} of the text has been embedded so far."
        hint = "Keyword results cover the rest; ask again later for more by meaning."
        return Semantic(status, coverage, "indexing", reason, hint, 30.0)
    return Semantic("served", coverage)
