"""A status as it is shown to a request that may not see everything; the table is in ``docs/decisions/0017-fences.md``.

What another client does, what other folders hold, and where files of the program lie is left out; where a field must
have a value, it has that of a process which has done nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from indexer.slot.slot_types import ErrorStatus, SlotStatus
from indexer.status_types import (
    FolderStatus,
    Halves,
    IndexStatus,
    ModelAvailability,
    OwnerStatus,
    Serving,
    Status,
    Work,
)
from mcp_server.access.access import VisibleFolder

_ABSOLUTE = re.compile(r"(?<![\w./~-])/(?=[\w.~-])|\b[A-Za-z]:\\|file:/")
"""The beginning of an absolute path or of the address of a file."""
BY_WORD_ONLY = "searchable by word only"


def fenced_status(status: Status, visible: Sequence[VisibleFolder]) -> Status:
    """Return a status in which only the visible folders are.

    Args:
        status: Of everything, with the visible parts of folders.
        visible: What may be seen.
    """
    paths = {each.path for each in visible}
    shown = [folder for folder in status.folders if folder.path in paths]
    own, foreign = {folder.model for folder in shown}, foreign_models(status, visible)
    folders = tuple(
        _shown_folder(folder, foreign, paths, position)
        for folder, position in zip(shown, _positions(shown), strict=True)
    )
    return Status(
        at=status.at,
        services=_services(status, shown),
        folders=folders,
        slot=_shown_slot(status.slot, own, paths),
        index=_shown_index(status.index, folders, paths),
        owner=_shown_owner(status.owner),
        work=Work(),
        models=tuple(_shown_model(model, paths) for model in status.models if model.name in own),
    )


def foreign_models(status: Status, visible: Sequence[VisibleFolder]) -> frozenset[str]:
    """Return the names of models that no visible folder uses."""
    paths = {each.known.path for each in visible}
    own = {folder.model for folder in status.folders if folder.path in paths}
    slot = status.slot
    named = {model.name for model in status.models} | {folder.model for folder in status.folders}
    named |= {slot.requested, slot.model.name if slot.model else ""} | {error.name for error in slot.errors}
    return frozenset(named - own - {""})


def shown_model_name(name: str) -> str:
    """Return the name of a model; of a directory of the user's own, its last part."""
    return os.path.basename(name.rstrip(os.sep)) if os.path.isabs(name) else name


def quotes_path(text: str, visible: Iterable[str]) -> bool:
    """Whether a text has an absolute path that is not within one of the visible ones."""
    for path in sorted(visible, key=len, reverse=True):
        text = re.sub(re.escape(path) + r"(?:/|(?=[\s'\",;:.)\]]|$))", "", text)
    return bool(_ABSOLUTE.search(text))


def _shown_folder(
    folder: FolderStatus, foreign: frozenset[str], visible: set[str], position: int | None
) -> FolderStatus:
    detail = folder.detail
    if detail.startswith(BY_WORD_ONLY) and quotes_path(detail, visible):
        detail = f"{BY_WORD_ONLY}: its model cannot be loaded"
    elif any(name in detail for name in foreign):
        detail = "waits for the model, which is busy"
    elif quotes_path(detail, visible):
        detail = ""
    advice = tuple(each for each in folder.advice if not quotes_path(each, visible))
    return replace(folder, model=shown_model_name(folder.model), detail=detail, advice=advice, position=position)


def _positions(folders: Sequence[FolderStatus]) -> list[int | None]:
    """Return the places in the queue among these folders alone."""
    waiting = sorted(folder.position for folder in folders if folder.position)
    return [folder.position and 1 + waiting.index(folder.position) for folder in folders]


def _services(status: Status, shown: Sequence[FolderStatus]) -> Halves:
    """Return the state of both halves of search, by the models of the visible folders."""
    keyword, semantic = status.services.keyword, status.services.semantic
    if semantic == "serving" or keyword == "unavailable" or status.owner.state != "serving":
        return status.services
    absent = {model.name for model in status.models if not model.local}
    missing = [folder.model in absent for folder in shown]
    names = {folder.model for folder in shown}
    failed = (
        status.slot.state == "error" and status.slot.last_error is not None and status.slot.last_error.name in names
    )
    result: Serving = "serving"
    if failed or (missing and all(missing)):
        result = "unavailable"
    elif any(missing) or status.slot.orphan is not None:
        result = "degraded"
    return Halves(keyword, result)


def _shown_slot(slot: SlotStatus, own: set[str], visible: set[str]) -> SlotStatus:
    """Return whether one of these models is loaded or being loaded, and what went wrong with them; nothing else."""
    errors = tuple(_shown_failure(error, visible) for error in slot.errors if error.name in own)
    last = slot.last_error if slot.last_error is not None and slot.last_error.name in own else None
    name = slot.model.name if slot.model else slot.requested
    if name not in own:
        return SlotStatus(last_error=last and _shown_failure(last, visible), errors=errors)
    return SlotStatus(
        state=slot.state,
        model=slot.model and replace(slot.model, name=shown_model_name(slot.model.name)),
        requested=shown_model_name(slot.requested) if slot.requested in own else "",
        stage=slot.stage,
        progress=slot.progress,
        last_error=last and _shown_failure(last, visible),
        errors=errors,
    )


def _shown_failure(error: ErrorStatus, visible: set[str]) -> ErrorStatus:
    name = shown_model_name(error.name)
    if quotes_path(error.message + error.hint, visible):
        return replace(error, name=name, message=f"{name} cannot be loaded.", hint="")
    return replace(error, name=name)


def _shown_index(index: IndexStatus, folders: Sequence[FolderStatus], visible: set[str]) -> IndexStatus:
    return IndexStatus(
        chunks=sum(folder.chunks for folder in folders),
        embedded=sum(folder.embedded for folder in folders),
        disk_bytes=None,
        rate_chunks_per_s=0.0,
        last_maintenance=None,
        last_error="",
        parser=index.parser,
        state=index.state,
        remedy="" if quotes_path(index.remedy, visible) else index.remedy,
    )


def _shown_owner(owner: OwnerStatus) -> OwnerStatus:
    return replace(owner, detail="", clients=1, data_dir="", relays=())


def _shown_model(model: ModelAvailability, visible: set[str]) -> ModelAvailability:
    model = replace(model, name=shown_model_name(model.name))
    if quotes_path(model.reason + model.remedy, visible):
        return replace(model, reason="" if model.local else "It cannot be loaded.", remedy="")
    return model
