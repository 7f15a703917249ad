"""Starts a server as its client would, and asks it for a word that stands in the user's files."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from indexer.errors import first_error
from mcp_server.clients.entry import Launch

if TYPE_CHECKING:
    from mcp import Client

    from indexer.config import Config


STARTS = 60.0
"""Seconds a server has for its first answer; clients give it 30 to 60."""
FINDS = 90.0
"""Seconds in which a new folder's first files should be searchable by word."""
PAUSE = 0.5
PASSED_ON = (
    *("HOME", "LOGNAME", "USER", "SHELL", "TERM", "LANG"),
    *("APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE"),
    *("SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE"),
)
"""What every client passes on: the list of the protocol's own SDKs. Not PATH, which programs started from a desktop
do not share with a shell."""
SHORT_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of starting the server as the client would."""

    # no hit: it serves, but found nothing; nothing to search: it serves, and has no file with text; failed: it does
    # not serve
    verdict: Literal["hit", "no hit", "nothing to search", "failed"]
    detail: str
    remedy: Annotated[str, "What to do; empty when nothing."] = ""
    query: Annotated[str, "The word that was searched."] = ""
    path: Annotated[str, "The file that was found; empty without a hit."] = ""
    locator: Annotated[str, "The place in it, for read."] = ""
    seconds: Annotated[float, "Until the server answered first."] = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is to be done."""
        return self.verdict == "hit"


async def verify_client(launch: Launch, wanted: Sequence[Sample], environ: Mapping[str, str]) -> Verification:
    """Start the server, list its tools, search.

    Args:
        launch: What the client's configuration says, as it was read from there.
        wanted: Files and words to search for, one after the other.
        environ: The environment, of which the server gets what clients pass on.
    """
    import anyio  # noqa: PLC0415 - not for --help

    if os.path.isabs(launch.command) and not await anyio.Path(launch.command).is_file():
        return Verification(
            "failed", f"{launch.command} is not there", "install folder-mcp again, then run this again"
        )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        return await _tried(launch, wanted, surroundings(environ), said)


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that a desktop's client starts."""
    passed = {name: environ[name] for name in PASSED_ON if name in environ}
    path = environ.get("PATH", "") if os.name == "nt" else SHORT_PATH
    return {**passed, "PATH": path}


async def _tried(launch: Launch, wanted: Sequence[Sample], env: dict[str, str], said: IO[str]) -> Verification:
    import anyio  # noqa: PLC0415
    from mcp import Client, MCPError, StdioServerParameters  # noqa: PLC0415
    from mcp.client.stdio import stdio_client  # noqa: PLC0415

    cwd = launch.cwd or Path(launch.command).anchor or None
    start = StdioServerParameters(
        command=launch.command, args=list(launch.args), env={**env, **dict(launch.env)}, cwd=cwd, encoding="utf-8"
    )
    begun = time.monotonic()
    try:
        with anyio.fail_after(STARTS + FINDS):
            async with Client(stdio_client(start, errlog=said), mode="legacy") as client:  # type: ignore[arg-type]
                with anyio.fail_after(STARTS):
                    tools = [tool.name for tool in (await client.list_tools()).tools]
                seconds = time.monotonic() - begun
                if "search" not in tools:
                    return Verification(
                        "failed", f"it offers no search, but {', '.join(tools) or 'nothing'}", _look(launch)
                    )
                return await _searched(client, wanted, seconds)
    except TimeoutError:
        return Verification("failed", f"no answer within {time.monotonic() - begun:.0f} s{_last(said)}", _look(launch))
    except (OSError, MCPError, ExceptionGroup) as error:
        found = first_error(error)
        why = str(found) or type(found).__name__
        return Verification("failed", f"it does not serve: {why}{_last(said)}", _look(launch))


async def _searched(client: Client, wanted: Sequence[Sample], seconds: float) -> Verification:
    if not wanted:
        return Verification(
            "nothing to search",
            f"it serves ({seconds:.1f} s), but there is no text file to try a search on",
            "name a folder with text in it: folder-mcp install CLIENT FOLDER, or folder-mcp folders add FOLDER",
            seconds=seconds,
        )
    import anyio  # noqa: PLC0415

    with anyio.move_on_after(FINDS):
        while True:
            done = await _indexed(client)
            for sample in wanted:
                hit = await _hit(client, sample)
                if hit:
                    where = f"{hit['path']}, {hit['locator']}"
                    told = f'it serves ({seconds:.1f} s); "{sample.word}" is found in {where}'
                    return Verification("hit", told, "", sample.word, hit["path"], hit["locator"], seconds)
            if done:
                break
            await anyio.sleep(PAUSE)  # an outsider of any version: all it can do is ask again
    words = ", ".join(f'"{sample.word}" of {sample.path}' for sample in wanted)
    return Verification(
        "no hit",
        f"it serves ({seconds:.1f} s), but did not find {words}",
        "folder-mcp status -v says what is indexed and what is not; indexing may only need more time",
        wanted[0].word,
        seconds=seconds,
    )


async def _hit(client: Client, sample: Sample) -> dict[str, Any] | None:
    """Return the hit in the sample's file, or the first there is."""
    result = await client.call_tool("search", {"query": sample.word})
    hits: list[dict[str, Any]] = (result.structured_content or {}).get("hits", [])
    return next((hit for hit in hits if hit["path"] == sample.path), hits[0] if hits else None)


async def _indexed(client: Client) -> bool:
    """Whether nothing is waiting to be read."""
    result = await client.call_tool("status", {})
    folders: list[dict[str, Any]] = (result.structured_content or {}).get("folders", [])
    return bool(folders) and all(each["state"] == "ready" and not each["files"]["pending"] for each in folders)


def _look(launch: Launch) -> str:
    words = " ".join(f'"{word}"' if " " in word else word for word in (launch.command, *launch.args))
    return f"run it in a terminal to see more: {words}; then folder-mcp doctor"


def _last(said: IO[str]) -> str:
    """Return the last line the server wrote to stderr, as the end of a sentence."""
    said.seek(0)
    lines = [line.strip() for line in said.read().splitlines() if line.strip()]
    return f"; it said: {lines[-1][:300]}" if lines else ""


# The question asked -------------------------------------------------------------------------------------------------
# A word that certainly stands in one of the user's files: what to search for to see that searching works.

FILES = 400
"""Files to look at before giving up: only their names are read, but for a few."""
HEAD = 20_000
"""Bytes of a file from which its word is taken."""
_WORD = re.compile(r"[^\W\d_]{5,18}")


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and a word in it.

    Attributes:
        path: The file, absolute.
        word: The longest of its words.
    """

    path: str
    word: str


def samples(folders: Sequence[str], config: Config, count: int = 3) -> list[Sample]:
    """Return a few files with text, in the order in which folders are walked, those of different folders first.

    Args:
        folders: Absolute, links resolved.
        config: Whose rules say what is indexed.
        count: How many at most.
    """
    found = [list(islice(_of(folder, config), count)) for folder in folders]
    by_turns = [each[turn] for turn in range(count) for each in found if turn < len(each)]
    return by_turns[:count]


def _of(folder: str, config: Config) -> Iterator[Sample]:
    from indexer.documents.formats import by_name  # noqa: PLC0415
    from indexer.files.walk import walk  # noqa: PLC0415 - not for --help
    from indexer.folders.registry import KnownFolder, list_folders  # noqa: PLC0415
    from indexer.indexing.queue import ignore_rules  # noqa: PLC0415
    from indexer.types import File  # noqa: PLC0415

    known = next((each for each in list_folders(config).known if each.path == folder), KnownFolder(folder))
    if not os.path.isdir(folder):  # a disk that is away: it has no words, and the trial says so
        return
    entries = (entry for entry in walk(folder, ignore_rules(known, config)) if isinstance(entry, File))
    for entry in islice(entries, FILES):
        form = by_name(entry.path)
        if form is None or form.family not in ("plain", "table"):
            continue
        word = _word(Path(entry.path))
        if word:
            yield Sample(entry.path, word)


def _word(path: Path) -> str:
    """Return the longest word of a UTF-8 file's beginning; empty when it has none, or cannot be read."""
    try:
        with path.open("rb") as stream:
            text = stream.read(HEAD).decode(errors="ignore")
    except OSError:  # unreadable here: the index will say so
        return ""
    return max(_WORD.findall(text), key=len, default="")
