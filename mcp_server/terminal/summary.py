"""The status in one line, for pipes and terminals that cannot move their cursor."""

from __future__ import annotations

from indexer.status import Status
from mcp_server.terminal.words import about, number, percent
from mcp_server.untrusted import one_line


def summary(status: Status) -> str:
    """What matters, in one line that changes only when something did."""
    parts = [status.owner.state.replace("_", " ")]
    slot = status.slot
    model = slot.model.name if slot.model else slot.requested
    stage = f" {slot.stage} {percent(slot.progress)}" if slot.stage and slot.state == "loading" else ""
    parts.append(f"slot {slot.state}" + (f" {model}" if model else "") + stage)
    for folder in status.folders:
        files = folder.files
        text = f"{folder.path} {folder.state}: {number(files.indexed, 'file')}"
        text += f", {files.pending:,} to read" if files.pending else ""
        text += f", {files.failed:,} failed" if files.failed else ""
        text += f", {percent(folder.coverage)} by meaning"
        text += f", {about(folder.eta_s)} left" if folder.eta_s else ""
        parts.append(text)
    if not status.folders:
        parts.append("no folders")
    return one_line("; ".join(parts))
