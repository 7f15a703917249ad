"""Results as text for a terminal: the same facts that MCP clients get, without what is meant for a model."""

from __future__ import annotations

from indexer.status_types import IndexReport, Status
from mcp_server.protocol.render import (
    condition_lines,
    duration,
    folder_line,
    format_line,
    model_line,
    pool_line,
    size,
    slot_line,
)
from mcp_server.protocol.results import ReadResult, SearchResult, sanitize

SNIPPET_LINES = 8


def search_text(result: SearchResult, *, whole: bool = False) -> str:
    """Return the hits, each with its locator and passage, then what the answer could not cover.

    Args:
        result: The hits.
        whole: Show passages whole instead of their first ``SNIPPET_LINES`` lines.
    """
    lines: list[str] = []
    for hit in result.hits:
        stale = "  (changed since it was indexed)" if hit.stale else ""
        lines.append(f"{hit.path}  {hit.locator}  {hit.score:.2f} {'+'.join(hit.matched)}{stale}")
        if hit.heading:
            lines.append(f"    # {hit.heading}")
        shown = [line for line in hit.snippet.split("\n") if line.strip()]
        limit = len(shown) if whole else SNIPPET_LINES
        lines += [f"    {line}" for line in shown[:limit]]
        if len(shown) > limit:
            lines.append("    …")
        lines.append("")
    count = len(result.hits)
    lines.append(f"{count or 'no'} {'hit' if count == 1 else 'hits'}, {result.mode_used}, {result.elapsed_ms:.0f} ms")
    lines += _limits(result)
    if result.next_offset is not None:
        lines.append(f"more: --offset {result.next_offset}")
    return "\n".join(lines)


def _limits(result: SearchResult) -> list[str]:
    """Return what the answer could not cover, one sentence each."""
    lines = list(result.notices)
    semantic = result.semantic
    if semantic.status in ("partial", "unavailable"):
        lines.append(
            f"by meaning: {semantic.status} ({semantic.coverage:.0%} covered). {semantic.reason} {semantic.hint}"
        )
    for folder in result.folders:
        if folder.files_pending or folder.coverage < 1:
            lines.append(
                f"{folder.path}: {folder.files_indexed:,} files indexed, {folder.files_pending:,} still to be read, "
                f"{folder.coverage:.0%} searchable by meaning"
            )
    return [line.strip() for line in lines]


def read_text(result: ReadResult) -> str:
    """Return the text with numbered lines, and how to read on."""
    shown = result.text.removesuffix("\n").split("\n") if result.text else []
    width = len(str(result.first_line + len(shown)))
    lines = [f"{number:>{width}}  {line}" for number, line in enumerate(shown, result.first_line)]
    if result.stale:
        lines.append("(the file has changed since it was indexed)")
    if result.next:
        lines.append(f"(goes on: --at '{result.next}')")
    if result.units:
        lines.append("places: " + "; ".join(result.units))
    lines += [f"({notice})" for notice in result.notices]
    return "\n".join(lines)


def status_text(status: Status, *, verbose: bool = False) -> str:
    """Return the status, one fact a line; ``verbose`` adds every format of every folder."""
    status = sanitize(status)
    owner, index = status.owner, status.index
    lines = [
        f"folder-mcp {owner.version}, {owner.state}" + (f": {owner.detail}" if owner.detail else ""),
        f"data: {owner.data_dir}" + (f", {size(index.disk_bytes)}" if index.disk_bytes is not None else ""),
        f"keyword search: {status.services.keyword}; search by meaning: {status.services.semantic}",
        f"index: {index.chunks:,} chunks, {index.embedded:,} embedded"
        + (f", {index.rate_chunks_per_s:.1f} a second" if index.rate_chunks_per_s else ""),
        slot_line(status.slot).rstrip("."),
    ]
    for model in status.models:
        lines.append(model_line(model, f", {size(model.size)}" if model.size else ""))
    for relay in owner.relays:
        named = ", ".join(relay.folders) or "all folders"
        other = "" if relay.same_config else "; read another configuration, which is not in use"
        lines.append(f"client {relay.pid}: searches {named}{other}")
    if index.last_error:
        lines.append(f"index error: {index.last_error}")
    lines += condition_lines(index)
    if index.pool and (index.pool.detail or index.pool.workers):
        lines.append(pool_line(index.pool).rstrip("."))
    if not status.folders and index.state == "ready":
        lines.append("no folders yet: folder-mcp folders add FOLDER")
    for folder in status.folders:
        lines.append(folder_line(folder))
        lines += [f"    {format_line(count)}" for count in folder.formats if verbose or count.failed]
        lines += [f"    advice: {advice}" for advice in folder.advice]
        lines += [f"    {reason.files:,} × {reason.reason}" for reason in folder.reasons]
        lines += [f"    {item.outcome}  {item.path}: {item.reason}" for item in folder.problems]
    return "\n".join(lines + list(status.notices))


def index_text(report: IndexReport) -> str:
    """Return what ``folder-mcp index`` did."""
    report = sanitize(report)
    work = report.work
    lines = [
        f"{report.indexed:,} files indexed, {report.skipped:,} skipped, {report.failed:,} failed; "
        f"{report.chunks:,} chunks, {report.embedded:,} searchable by meaning",
        f"this time: {work.files_read:,} files read, {work.chunks_embedded:,} chunks embedded, "
        f"{work.vectors_reused:,} vectors reused, {duration(report.seconds)}",
    ]
    lines += [f"{item.outcome}  {item.path}: {item.reason}" for item in report.problems if item.outcome == "failed"]
    lines += [f"not complete: {reason}" for reason in report.incomplete_because]
    return "\n".join(lines)
