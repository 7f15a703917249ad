"""Writes the record: a line of JSON for each answer, in one file a day, in ``record/`` of the data directory.

Several processes write at once, each may be killed at any moment: a line is written by one call to the end of a file
that is opened for appending, and begins a line of its own whatever another writer left behind. A file that is full is
renamed; what is too old, or too much, is deleted with the first answer of a day and whenever a file is renamed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from indexer.config import RecordSettings
from indexer.errors import QueryError

log = logging.getLogger(__name__)

DIRECTORY = "record"
SUFFIX = ".jsonl"
MAX_FILE = 4 * 1024 * 1024
"""Bytes of one file; a fuller one is renamed."""
MAX_ALL = 64 * 1024 * 1024
"""Bytes of all files; beyond it the oldest is deleted. About 200,000 answers."""
MAX_LINE = 64 * 1024
"""Bytes of one line; what is too long is left out and counted."""
MAX_ASKED = 2000
"""Characters of what was asked."""
WRITE_S = 2.0
"""Seconds that an answer waits for its line at most: a disk that hangs must not hold it up."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who is shown something.

    Attributes:
        client: The program: what it calls itself, ``page``, or ``command``.
        version: Of the program, as it says; may be empty.
        user: Name of a token, or the identity provider's name; empty for the user at this machine.
    """

    client: str
    version: str = ""
    user: str = ""


@dataclass(slots=True)
class Shown:
    """What an answer shows; filled while it is made.

    Attributes:
        files: Paths, each once, in the order of the answer.
        hits: How many hits; None where the tool has none.
    """

    files: list[str] = field(default_factory=list)
    hits: int | None = None

    def show(self, paths: Iterable[str], hits: int | None = None) -> None:
        """Record the files of an answer."""
        self.files = list(dict.fromkeys(paths))
        self.hits = hits


class Record:
    """The record of one data directory, as one process writes it.

    Attributes:
        problem: Why the last line could not be written; empty when it was.
    """

    def __init__(self, data_dir: Path | None, settings: RecordSettings, now: Callable[[], float] = time.time) -> None:
        """Keep what is needed; writes nothing yet.

        Args:
            data_dir: Its ``record/`` gets the files; None for no record.
            settings: How long it is kept, and whether with queries.
            now: Seconds since the epoch.
        """
        self._directory = data_dir / DIRECTORY if data_dir is not None and settings.days else None
        self._settings = settings
        self._now = now
        self._day = ""
        self._limiter: anyio.CapacityLimiter | None = None
        self._writing: set[object] = set()
        self._late: object = None  # the last write that took too long
        self.problem = ""

    @asynccontextmanager
    async def answer(
        self, asker: Asker, tool: str, *, query: str = "", asked: Sequence[str] = ()
    ) -> AsyncIterator[Shown]:
        """Make an answer in this block; its line is written when it is there, and before it leaves.

        An error is recorded and goes on; an answer that was cancelled reaches nobody and is not recorded.

        Args:
            asker: Who gets it.
            tool: Which kind of answer.
            query: What was searched for; written only where the settings say so.
            asked: Paths or folders that were asked for; written when they are refused.
        """
        shown, started = Shown(), time.perf_counter()

        async def add(outcome: str) -> None:
            line: dict[str, Any] = {
                "at": _timestamp(self._now()),
                "client": asker.client[:200],
                "version": asker.version[:200],
                "user": asker.user[:256],
                "tool": tool,
                "outcome": outcome,
                "ms": round((time.perf_counter() - started) * 1000, 1),
            }
            if outcome == "ok":
                line |= {"files": shown.files} | ({} if shown.hits is None else {"hits": shown.hits})
            elif asked:
                line["asked"] = [one[:MAX_ASKED] for one in asked[:20]]
            if query and self._settings.queries:
                line["query"] = query[:MAX_ASKED]
            await self._add(line)

        try:
            yield shown
        except Exception as error:
            await add("refused" if isinstance(error, QueryError) else type(error).__name__)
            raise
        await add("ok")

    async def _add(self, line: Mapping[str, Any]) -> None:
        if self._directory is None:
            return
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(1)  # one writer; and others wait in the common threads for long
        if self._late in self._writing:
            return  # the disk still hangs: each answer would leave another thread behind
        this = object()

        def write() -> None:
            self._writing.add(this)
            try:
                self.write(line)
            finally:
                self._writing.discard(this)

        with anyio.move_on_after(WRITE_S) as limit:
            await anyio.to_thread.run_sync(write, limiter=self._limiter, abandon_on_cancel=True)
        if limit.cancelled_caught:
            self._late = this
            self._note_problem(f"it took more than {WRITE_S:g} s")

    def write(self, line: Mapping[str, Any]) -> None:
        """Write one line. Never raises: what cannot be written is said in the log once, and in ``problem``."""
        try:
            self._append(_encoded(_without_secrets(line)))
        except OSError as error:
            self._note_problem(error.strerror or type(error).__name__)
        else:
            self.problem = ""

    def _note_problem(self, why: str) -> None:
        problem = f"The record of answers ({self._directory}) cannot be written: {why}."
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _append(self, line: bytes) -> None:
        assert self._directory is not None
        if not self._directory.parent.is_dir():
            return  # nothing is indexed yet: there is nothing to show, and the data directory is not ours to make
        now = self._now()
        day = _timestamp(now)[:10]
        if day != self._day:
            self._directory.mkdir(exist_ok=True, mode=0o700)
            remove_old(self._directory, self._settings.days, now)
            self._day = day
        file = self._directory / (day + SUFFIX)
        try:
            fd = _open(file)
        except FileNotFoundError:  # somebody deleted the directory
            self._directory.mkdir(exist_ok=True, mode=0o700)
            fd = _open(file)
        try:
            about = os.fstat(fd)
            if about.st_size and os.lseek(fd, -1, os.SEEK_END) >= 0 and os.read(fd, 1) != b"\n":
                line = b"\n" + line  # a writer was killed, or the disk was full, within a line
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        if about.st_size + len(line) > MAX_FILE:
            self._rotate(file, about.st_ino)
            remove_old(self._directory, self._settings.days, now)

    def _rotate(self, file: Path, inode: int) -> None:
        """Rename a full file, unless another process has done so; nothing is lost when both do."""
        with suppress(FileNotFoundError):
            if file.stat().st_ino == inode:
                file.rename(file.with_name(f"{file.stem}.{time.time_ns():020}-{os.getpid()}{SUFFIX}"))


NO_RECORD = Record(None, RecordSettings())
"""Records nothing."""


def _open(file: Path) -> int:
    follow = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | follow, 0o600)


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _without_secrets(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line with the secrets of what a client wrote blanked; paths of indexed files hold none."""
    from indexer.text.secrets import blank  # noqa: PLC0415 - the owner starts without it

    changed: dict[str, Any] = {}
    if "asked" in line:
        changed["asked"] = [blank(one).text for one in line["asked"]]
    if "query" in line:
        changed["query"] = blank(line["query"]).text
    return {**line, **changed} if changed else line


def _encoded(line: Mapping[str, Any]) -> bytes:
    """Return a line in ASCII: names of files may hold bytes that are not text."""
    files = list(line.get("files", ()))
    while True:
        left_out = len(line.get("files", ())) - len(files)
        cut = {**line, "files": files, "files_left_out": left_out} if left_out else line
        data = json.dumps(cut, separators=(",", ":")).encode("ascii") + b"\n"
        if len(data) <= MAX_LINE or not files:
            return data
        del files[len(files) // 2 :]


def remove_old(directory: Path, days: int, now: float) -> None:
    """Delete files whose day is more than ``days`` days ago, then the oldest ones beyond ``MAX_ALL`` bytes.

    Args:
        directory: Of the record; may be missing.
        days: How long it is kept.
        now: Seconds since the epoch.

    Raises:
        OSError: One cannot be deleted.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    oldest = (today - timedelta(days=days)).isoformat()
    total = 0
    for file in reversed(files_of(directory)):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
            if file.name[:10] < oldest or (total > MAX_ALL and file.name != today.isoformat() + SUFFIX):
                file.unlink()


def files_of(directory: Path) -> list[Path]:
    """Return the files of the record, the oldest first; none when there is no record."""
    try:
        found = [file for file in directory.iterdir() if file.name.endswith(SUFFIX) and file.name[:4].isdigit()]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda file: file.name)  # a renamed file has a number where the newest has its suffix
