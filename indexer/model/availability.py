"""Which models are on this machine, told without torch and without network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from indexer.model.catalogue import Entry, entries, lookup
from indexer.model.local import Located, Source, find


@dataclass(frozen=True, slots=True)
class Availability:
    """One model, here or not.

    Attributes:
        name: As it was asked for.
        entry: What the catalogue knows of it, None when nothing.
        local: Whether it can be loaded from this machine.
        source: What kind of place it is in, empty when it is not here.
        directory: Where, empty when it is not here.
        code: Why not: ``model_not_found``, ``offline_missing``, ``unprepared``, ``incompatible`` or
            ``corrupt_files``; empty when it is here.
        reason: The same for people.
        remedy: What to do, one sentence.
    """

    name: str
    entry: Entry | None
    local: bool
    source: Source | str = ""
    directory: str = ""
    code: str = ""
    reason: str = ""
    remedy: str = ""


def availability(
    names: Iterable[str] | None = None, *, hub_cache: Path | None = None, data_dir: Path | None = None
) -> tuple[Availability, ...]:
    """Look for each model; a damaged one is reported, never raised.

    Args:
        names: Models to look for; None asks for the whole catalogue.
        hub_cache: The hub's cache directory.
        data_dir: Where prepared models are kept.
    """
    wanted = [e.name for e in entries()] if names is None else list(names)
    return tuple(_one(name, hub_cache, data_dir) for name in wanted)


def _one(name: str, hub_cache: Path | None, data_dir: Path | None) -> Availability:
    entry = lookup(name)
    try:
        found = find(name, hub_cache=hub_cache, data_dir=data_dir)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        # modules.json or a weight index that cannot be read, or is not what it should be
        reason = f"The files of {name} are damaged: {e}"
        return Availability(name, entry, False, code="corrupt_files", reason=reason, remedy=_again(name))
    if isinstance(found, Located):
        return Availability(name, entry, True, found.source, found.directory)
    return Availability(name, entry, False, code=found.code, reason=found.reason, remedy=found.remedy)


def _again(name: str) -> str:
    return f"Delete them and run: folder-mcp models pull {name}"
