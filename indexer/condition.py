"""The index's state in status: what is wrong with it now, what to do, and what has been done."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.errors import StoreError
from indexer.parts import Parts
from indexer.store.health import REMEDIES


@dataclass(frozen=True, slots=True)
class Condition:
    """As in ``IndexStatus``: one word, what happened, what to do, and what should be known besides."""

    state: str
    error: str = ""
    remedy: str = ""
    notices: tuple[str, ...] = ()


def condition(parts: Parts | None, failure: StoreError | None) -> Condition:
    """The state of the index.

    Args:
        parts: What is open, None when nothing is.
        failure: Why it could not be opened the last time, None when it could.
    """
    if parts is None:
        if failure is None:
            return Condition("opening")
        if failure.code == "missing":
            return Condition("missing", "", "it is made when a folder is indexed: folder-mcp index FOLDER")
        return Condition(failure.code, str(failure), REMEDIES.get(failure.code, ""))
    health, notices = parts.store.health, (*parts.store.damage, *_aside(parts), *parts.warnings)
    if health.doubted.is_set() and not parts.store.read_only:
        return Condition("repairing", "", "nothing: it is being repaired, and searches go on", notices)
    if parts.refused is not None:
        refused = parts.refused
        return Condition(refused.code, str(refused), REMEDIES.get(refused.code, ""), notices)
    if health.trouble is not None:
        return Condition(health.trouble.code, health.trouble.detail, health.trouble.remedy, notices)
    if health.rebuilding:
        return Condition("rebuilding", health.rebuilding, "nothing: it goes on by itself", notices)
    return Condition("ready", "", "", notices)


def _aside(parts: Parts) -> tuple[str, ...]:
    names = parts.store.aside
    place = parts.store.directory / "damaged"
    return (f"damaged parts are kept in {place}: {', '.join(names)}; delete them when you like",) if names else ()
