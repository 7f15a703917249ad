"""The semantic leg of a search: the query embedded with each model in use, the loaded one first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import anyio

from indexer.answer import Query, Semantic
from indexer.errors import SlotUnavailable, StoreError
from indexer.folder import LiveFolder
from indexer.fusion import SemanticList
from indexer.settings import SearchSettings
from indexer.slot.embedder import ModelSpec
from indexer.slot.priority_lock import Priority
from indexer.slot.slot import ModelSlot
from indexer.store.store import Store
from indexer.types import Scope, StoredChunk


@dataclass(slots=True)
class SemanticLeg:
    """What the leg has brought, and why it has not brought more.

    Attributes:
        lists: One ranking a model that answered.
        served: Folders whose vectors were compared.
        refused: Why the others were not.
    """

    lists: list[SemanticList] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    refused: list[SlotUnavailable] = field(default_factory=list)


async def search_by_meaning(
    query: Query,
    scope: Scope,
    folders: Sequence[LiveFolder],
    limit: int,
    slot: ModelSlot | None,
    store: Store,
    settings: SearchSettings,
    passes: Callable[[StoredChunk], bool] | None = None,
) -> SemanticLeg:
    """Ask each model in use, within ``settings.wait`` seconds over all.

    A model that is ready, or only busy with a micro-batch, is waited for; one that has to be loaded first is waited
    for ``settings.load_wait`` seconds unless the caller asked for meaning alone. The load goes on by itself and
    the next search finds the model warm. With ``passes`` the chunks it takes are looked for beyond the nearest;
    where there are none, the nearest answer.
    """
    leg = SemanticLeg()
    if slot is None:
        leg.refused.append(
            SlotUnavailable("not_owner", "Another process holds the model.", "Search through the running server.")
        )
        return leg
    status = slot.status()
    loaded = status.model.key if status.model is not None and status.state == "ready" else ""
    until = anyio.current_time() + settings.wait
    for spec, languages, paths in _by_model(folders, store, leg, loaded):
        patience = settings.wait if query.mode == "semantic" or spec.key == loaded else settings.load_wait
        wait = max(0.0, min(until - anyio.current_time(), patience))
        try:
            async with slot.use(spec, Priority.TOOL, wait=wait) as lent:
                vector, dim = await lent.embed_query(query.text), lent.spec.dim
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
    folders: Sequence[LiveFolder], store: Store, leg: SemanticLeg, loaded: str
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


def contribution(query: Query, folders: Sequence[LiveFolder], store: Store, leg: SemanticLeg) -> Semantic:
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
