"""The engine of a request that may not see everything: it answers as if only the allowed folders were indexed.

What is kept, filtered and blanked is listed in ``docs/decisions/0017-fences.md``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from indexer.errors import FolderError, FolderMcpError, QueryError, SpelledAlike, StoreError
from indexer.folders.registry import KnownFolder
from indexer.search.scope import NO_FILE, no_file_notice, scope_below_folders
from indexer.status_types import FolderStatus, IndexReport, Status, Work
from indexer.types import Answer, FolderCoverage, Hit, Query, Reading, Scope, Semantic
from mcp_server.access.access import Access, VisibleFolder, is_within, visible_folders
from mcp_server.access.fenced_status import fenced_status, foreign_models, quotes_path, shown_model_name
from mcp_server.engine_port import EnginePort

if TYPE_CHECKING:
    from indexer.history import History

log = logging.getLogger(__name__)

UNKNOWN_FILE = "that is not an indexed file; give a path exactly as search returned it"
"""Read for every path that may not be seen and for every one that is not there: without the path, which may have
been completed with a home directory."""
NO_CHANGES = "folders cannot be added or removed over this connection; on the machine itself: folder-mcp folders"
NOTHING_VISIBLE = "Nothing is indexed of what this connection may see."
NOT_INDEXED = " is not an indexed file"
"""In every error of the engine about a file that it does not know."""
ABOUT_ARGUMENTS = (
    *("query ", "top_k ", "offset ", "context ", "max_chars ", "path_glob ", "locator "),
    "the index is still being opened",
)
"""How errors begin that say nothing of what is indexed."""
NOT_USABLE = "the index of this server cannot be used now; `folder-mcp status` on its machine says why"
LATER = "this cannot be answered now; ask again in a few seconds"


class FencedEngine:
    """Implements ``EnginePort`` for one request, over the one engine.

    Attributes:
        access: What may be seen; its ``folders`` are not None.
    """

    def __init__(self, engine: EnginePort, access: Access) -> None:
        self._engine = engine
        self.access = access

    # Search and read --------------------------------------------------------------------------------------------

    async def search(self, query: Query) -> Answer:
        """Answer a query from what may be seen; each folder of its scope is one of ``folders()``.

        Raises:
            QueryError: The query is invalid, or names another folder.
            StoreError: The index cannot be read.
        """
        visible = await self._visible_when_open()
        chosen = _chosen(query.scope.folders, visible)
        if not chosen:
            nothing = Semantic("unavailable", 0.0, "nothing_indexed", "Nothing is indexed here yet.")
            mode = "keyword" if query.mode == "hybrid" else query.mode
            return Answer((), mode, nothing, (), None, (NOTHING_VISIBLE,), 0.0)
        try:
            answer = await self._engine.search(replace(query, scope=_scope_of(query.scope, chosen)))
        except FolderMcpError as error:
            raise _shown_error(error, visible) from None
        return self._shown_answer(answer, query.scope.path_glob, chosen, visible)

    async def read(self, path: str, locator: str | None = None, *, max_chars: int = 16_000) -> Reading:
        """Return the text of an indexed file that may be seen, around a locator; relative paths are below each folder.

        Raises:
            QueryError: No such file may be seen, or it has no such locator.
            StoreError: The index cannot be read.
        """
        visible = await self._visible_when_open()
        waiting = _candidates(path, visible)
        while waiting:
            try:
                reading = await self._engine.read(waiting.pop(0), locator, max_chars=max_chars)
            except SpelledAlike as error:
                own = [each for each in error.paths if any(is_within(each, folder.path) for folder in visible)]
                if len(own) > 1:
                    raise SpelledAlike(path, own) from None
                waiting = [*own, *waiting]
                continue
            except FolderMcpError as error:
                if isinstance(error, QueryError) and NOT_INDEXED in str(error):
                    continue
                raise _shown_error(error, visible) from None
            if self._admits(reading.path, visible):
                return reading
        raise QueryError(UNKNOWN_FILE)

    # Status -----------------------------------------------------------------------------------------------------

    def status(self, *, verbose: bool = False, parts: Sequence[str] = ()) -> Status:
        """Return a snapshot as it would be if nothing else were indexed. Never waits."""
        visible = self._visible()
        wanted = [each.path for each in visible if each.is_part]
        return fenced_status(self._engine.status(verbose=verbose, parts=wanted), visible)

    async def watch(self) -> AsyncIterator[Status]:
        """Yield a snapshot now and after every change of anything, rate-limited."""
        async for _ in self._engine.watch():
            yield self.status()

    async def history(self, after: float = 0.0) -> History:
        """Return an empty history: searches and models of all clients are in it together."""
        whole = await self._engine.history(after)
        return type(whole)(at=whole.at, since=whole.since)

    # Folders ----------------------------------------------------------------------------------------------------

    async def index(self, folders: Sequence[str] | None = None) -> IndexReport:
        """Index folders that may be seen as a whole, and report; all of them when None.

        Raises:
            FolderError: A folder may not be seen, or is a part of an indexed one.
        """
        whole = [each.path for each in self._visible() if not each.is_part]
        chosen = whole if folders is None else [folder for folder in folders if folder in whole]
        if (folders is not None and len(chosen) < len(folders)) or not chosen:
            raise FolderError("that is not one of the indexed folders")
        report = await self._engine.index(chosen)
        return replace(
            report,
            folders=tuple(folder for folder in report.folders if folder in whole),
            work=Work(),
            incomplete_because=tuple(
                sentence
                for sentence in report.incomplete_because
                if not _quotes(sentence, foreign_models(self._engine.status(), self._visible()), self._visible())
            ),
            problems=tuple(problem for problem in report.problems if self.access.admits(problem.path)),
        )

    async def add_folder(self, path: str, model: str | None = None) -> KnownFolder:
        """Refuse: which folders are indexed is decided on the machine.

        Raises:
            FolderError: Always.
        """
        raise FolderError(NO_CHANGES)

    async def remove_folder(self, path: str) -> NoReturn:
        """Refuse: which folders are indexed is decided on the machine.

        Raises:
            FolderError: Always.
        """
        raise FolderError(NO_CHANGES)

    def folders(self) -> tuple[KnownFolder, ...]:
        """Return the indexed folders that may be seen; a part of one as a folder of its own, without its settings."""
        return tuple(KnownFolder(e.path, e.known.model) if e.is_part else e.known for e in self._visible())

    def connected(self) -> AbstractContextManager[None]:
        """Count a client for as long as it is connected."""
        return self._engine.connected()

    # What is shown ----------------------------------------------------------------------------------------------

    def _visible(self) -> tuple[VisibleFolder, ...]:
        return visible_folders(self.access, self._engine.folders())

    async def _visible_when_open(self) -> tuple[VisibleFolder, ...]:
        """Return what may be seen; the engine knows its folders once the index is open.

        Raises:
            QueryError: It is not open in time.
            StoreError: It cannot be opened.
        """
        visible = self._visible()
        if not visible:
            try:
                await self._engine.read(os.curdir)  # waits; no folder is a file
            except FolderMcpError as error:
                if not isinstance(error, QueryError) or NOT_INDEXED not in str(error):
                    raise _shown_error(error, ()) from None
            visible = self._visible()
        return visible

    def _admits(self, path: str, visible: Sequence[VisibleFolder]) -> bool:
        """Whether a path that the engine returned may be shown. It always may; a second look costs nothing."""
        admitted = any(is_within(path, each.path) for each in visible)
        if not admitted:
            log.error("a path outside of what %r may see was held back", self.access.user)
        return admitted

    def _shown_answer(
        self, answer: Answer, glob: str | None, chosen: Sequence[VisibleFolder], visible: Sequence[VisibleFolder]
    ) -> Answer:
        speaks = answer.semantic.reason or answer.notices  # else there is nothing to look through
        foreign = foreign_models(self._engine.status(), visible) if speaks else frozenset[str]()
        hits = tuple(_shown_hit(hit, visible) for hit in answer.hits if self._admits(hit.path, chosen))
        coverage = {each.path: each for each in answer.folders}
        counted = self._counted(chosen)
        semantic, reranking = answer.semantic, answer.reranking
        if _quotes(semantic.reason + semantic.hint, foreign, visible):
            semantic = replace(semantic, reason="The model cannot be used now.", hint="")
        if reranking is not None:
            reranking = replace(reranking, model=shown_model_name(reranking.model))
            if quotes_path(reranking.reason + reranking.hint, [each.path for each in visible]):
                reranking = replace(reranking, reason="The reranker cannot be used now.", hint="")
        return replace(
            answer,
            hits=hits,
            semantic=semantic,
            reranking=reranking,
            folders=tuple(
                _shown_coverage(coverage[each.known.path], each, counted.get(each.path))
                for each in chosen
                if each.known.path in coverage
            ),
            notices=tuple(_shown_notices(answer.notices, glob, chosen, foreign, visible)),
        )

    def _counted(self, chosen: Sequence[VisibleFolder]) -> dict[str, FolderStatus]:
        """Return the status of the parts."""
        parts = [each.path for each in chosen if each.is_part]
        return {each.path: each for each in self._engine.status(parts=parts).folders} if parts else {}


def _shown_error(error: FolderMcpError, visible: Sequence[VisibleFolder]) -> FolderMcpError:
    """Return an error of the engine, or one that says less.

    Shown as they are: errors about an argument, which repeat what the caller sent, and those about a visible file that
    quote no other path.
    """
    if isinstance(error, StoreError):
        return StoreError(NOT_USABLE, error.code)
    if not isinstance(error, QueryError):
        return FolderMcpError(NOT_USABLE)
    text, paths = str(error), [each.path for each in visible]
    about_file = any(text.startswith(f"{path}/") for path in paths) and not quotes_path(text, paths)
    return error if about_file or text.startswith(ABOUT_ARGUMENTS) else QueryError(LATER)


def _chosen(folders: Sequence[str] | None, visible: Sequence[VisibleFolder]) -> list[VisibleFolder]:
    """Return what a query searches.

    Raises:
        QueryError: A folder is not one of those that may be seen; lists only these.
    """
    if folders is None:
        return list(visible)
    by_path = {each.path: each for each in visible}
    for path in folders:
        if path not in by_path:
            listed = ", ".join(by_path) or "none yet"
            raise QueryError(f"folder {path[:200]!r} is not indexed; indexed folders: {listed}")
    return [by_path[path] for path in folders]


def _scope_of(scope: Scope, chosen: Sequence[VisibleFolder]) -> Scope:
    """Return the scope of a search in these folders, of which some are parts of indexed ones."""
    roots = tuple(dict.fromkeys(each.known.path for each in chosen))
    if not any(each.is_part for each in chosen):
        return replace(scope, folders=roots)
    below = scope_below_folders(scope, [each.path for each in chosen])  # a glob may begin with the path of a part
    parts = tuple((each.known.path, each.below) for each in chosen if each.path in (below.folders or ()))
    glob = below.path_glob
    if scope_below_folders(Scope(path_glob=glob), roots).path_glob != glob:
        glob = f"/{glob}"  # of the folder around a part nothing is known: it is no path of a folder, matches nothing
    return replace(scope, folders=roots, path_glob=glob, parts=parts)


def _candidates(path: str, visible: Sequence[VisibleFolder]) -> list[str]:
    """Return what a path of a caller may mean, as far as it may be seen."""
    if "\0" in path:
        return []
    expanded = os.path.expanduser(path)
    paths = [expanded] if os.path.isabs(expanded) else [os.path.join(each.path, expanded) for each in visible]
    normal = dict.fromkeys(os.path.normpath(each) for each in paths)
    return [each for each in normal if any(is_within(each, folder.path) for folder in visible)]


def _shown_hit(hit: Hit, visible: Sequence[VisibleFolder]) -> Hit:
    return replace(hit, folder=next(each.path for each in visible if is_within(hit.path, each.path)))


def _shown_coverage(whole: FolderCoverage, folder: VisibleFolder, part: FolderStatus | None) -> FolderCoverage:
    """Return the coverage of a folder; files of a part are counted in the part."""
    whole = replace(whole, model=shown_model_name(whole.model))
    if not folder.is_part:
        return whole
    return replace(whole, path=folder.path, files_indexed=part.files.indexed if part else 0, files_pending=0)


def _shown_notices(
    notices: Sequence[str],
    glob: str | None,
    chosen: Sequence[VisibleFolder],
    foreign: frozenset[str],
    visible: Sequence[VisibleFolder],
) -> list[str]:
    """Return the notices that speak of nothing else; those on an indexed folder are put as about its part.

    The one on a glob quotes it as the caller sent it, not as it is below the folder around a part.
    """
    shown = []
    for notice in notices:
        about = [each for each in chosen if each.is_part and notice.startswith(f"{each.known.path} ")]
        if about:
            shown += [f"{each.path} is still being read, or cannot be reached now." for each in about]
        elif notice.startswith("The index is being rebuilt"):
            shown.append("The index is being rebuilt.")
        elif notice.startswith(NO_FILE) and glob is not None:
            shown.append(no_file_notice(glob))
        elif not _quotes(notice, foreign, visible):
            shown.append(notice)
    return shown


def _quotes(text: str, foreign: frozenset[str], visible: Sequence[VisibleFolder]) -> bool:
    return any(name in text for name in foreign) or quotes_path(text, [each.path for each in visible])
