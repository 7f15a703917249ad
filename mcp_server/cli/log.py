"""``log``: the record of answers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from indexer.errors import ConfigError
from mcp_server.cli import console
from mcp_server.cli.call import Call
from mcp_server.protocol.untrusted import clean
from mcp_server.record.reading import RecordReading, at_of
from mcp_server.record.record import DIRECTORY, remove_old

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def run_log(call: Call) -> int:
    """``folder-mcp log``: print the record, the oldest answer first."""
    args, settings = call.args, call.config.record
    since = _since(args.since, time.time()) if args.since else 0.0
    if settings.days:
        remove_old(call.config.data_dir / DIRECTORY, settings.days, time.time())
    reading = RecordReading(call.config.data_dir)
    shown = 0
    for line in reading.lines():
        if at_of(line) < since or not _fits(line, "client", args.client) or not _fits(line, "user", args.user):
            continue
        shown += 1
        if args.json:
            console.json_object(line)
        else:
            console.say(_text(line))
    if reading.unreadable:
        console.note(f"{reading.unreadable:,} lines of the record cannot be read and are left out")
    if not shown and not args.json:
        kept = f"it is kept for {settings.days} days" if settings.days else "none is written: record.days is 0"
        console.note(f"the record has no such answer; {kept}")
    return 0


def _fits(line: Mapping[str, Any], key: str, wanted: str | None) -> bool:
    return wanted is None or str(line.get(key, "")) == wanted


def _since(text: str, now: float) -> float:
    """Return the moment of ``--since``: so long ago, or a day or time, local where it has no zone."""
    span = _SPAN.fullmatch(text.strip())
    if span:
        return now - int(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f"--since {text}: write 30m, 12h, 7d, 2w, or a date such as 2026-11-01") from None


def _text(line: Mapping[str, Any]) -> str:
    """Return an answer as one line, then what it showed, or what was refused, one a line."""
    when = datetime.fromtimestamp(at_of(dict(line))).strftime("%Y-%m-%d %H:%M:%S")
    client = " ".join(filter(None, (str(line.get("client", "")), str(line.get("version", ""))))) or "(unnamed)"
    user = f"  {line['user']}" if line.get("user") else ""
    hits = f", {line['hits']} hits" if isinstance(line.get("hits"), int) else ""
    first = f"{when}  {client}{user}  {line.get('tool', '')}: {line.get('outcome', '')}{hits}, {line.get('ms', 0)} ms"
    if "query" in line:
        first += f"  {str(line['query'])!r}"
    listed = [str(one) for one in _list(line.get("files"))] + [f"asked for {one}" for one in _list(line.get("asked"))]
    if line.get("files_left_out"):
        listed.append(f"and {line['files_left_out']} more")
    return "\n".join([_unbroken(first), *(f"    {_unbroken(one)}" for one in listed)])


def _unbroken(text: str) -> str:
    """Return text without line breaks: a client or a file whose name has some must not look like another answer."""
    return clean(text).replace("\n", " ")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
