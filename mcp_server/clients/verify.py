"""Verifies an installation: starts the server as its client would, and searches a word of one of the user's files."""

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

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from indexer.documents.formats import by_name
from indexer.errors import first_error
from indexer.files.open_inside import open_file
from indexer.files.walk import walk
from indexer.folders.registry import KnownFolder, list_folders
from indexer.indexing.queue import ignore_rules
from indexer.types import File
from mcp_server.clients.entry import Launch

if TYPE_CHECKING:
    from indexer.config import Config


START_LIMIT = 60.0
"""Seconds until a server's first answer; clients wait 30 to 60."""
SEARCH_LIMIT = 90.0
"""Seconds until a new folder's first files should be found by keyword search."""
RETRY_PAUSE = 0.5
"""Seconds between two searches."""
INHERITED_VARIABLES = (
    *("HOME", "LOGNAME", "USER", "SHELL", "TERM", "LANG"),
    *("APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE"),
    *("SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE"),
)
"""Variables that every client passes on: the list of the protocol's own SDKs. Not PATH: programs started from a
desktop have another one than a shell."""
SHORT_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of starting the server as the client would."""

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
        """Whether the installation works and nothing is to be done."""
        return self.verdict == "hit"


async def verify_client(launch: Launch, samples: Sequence[Sample], environ: Mapping[str, str]) -> Verification:
    """Start the server, list its tools, search.

    Args:
        launch: The command, as it was read from the client's configuration.
        samples: Files and their words to search for.
        environ: The environment; the server gets the part that clients pass on.
    """
    if os.path.isabs(launch.command) and not await anyio.Path(launch.command).is_file():
        return Verification(
            "failed", f"{launch.command} is not there", "install folder-mcp again, then run this again"
        )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        return await _verify(launch, samples, client_environment(environ), stderr)


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a client of the desktop starts a program."""
    passed = {name: environ[name] for name in INHERITED_VARIABLES if name in environ}
    path = environ.get("PATH", "") if os.name == "nt" else SHORT_PATH
    return {**passed, "PATH": path}


async def _verify(launch: Launch, samples: Sequence[Sample], env: dict[str, str], stderr: IO[str]) -> Verification:
    cwd = launch.cwd or Path(launch.command).anchor or None
    start = StdioServerParameters(
        command=launch.command, args=list(launch.args), env={**env, **dict(launch.env)}, cwd=cwd, encoding="utf-8"
    )
    begun = time.monotonic()
    try:
        with anyio.fail_after(START_LIMIT + SEARCH_LIMIT):
            async with Client(stdio_client(start, errlog=stderr), mode="legacy") as client:  # type: ignore[arg-type]
                with anyio.fail_after(START_LIMIT):
                    tools = [tool.name for tool in (await client.list_tools()).tools]
                seconds = time.monotonic() - begun
                if "search" not in tools:
                    return Verification(
                        "failed", f"it offers no search, but {', '.join(tools) or 'nothing'}", _look_remedy(launch)
                    )
                return await _search_samples(client, samples, seconds)
    except TimeoutError:
        return Verification(
            "failed", f"no answer within {time.monotonic() - begun:.0f} s{_last_line(stderr)}", _look_remedy(launch)
        )
    except (OSError, MCPError, ExceptionGroup) as error:
        found = first_error(error)
        why = str(found) or type(found).__name__
        return Verification("failed", f"it does not serve: {why}{_last_line(stderr)}", _look_remedy(launch))


async def _search_samples(client: Client, samples: Sequence[Sample], seconds: float) -> Verification:
    if not samples:
        return Verification(
            "nothing to search",
            f"it serves ({seconds:.1f} s), but there is no text file to try a search on",
            "name a folder with text in it: folder-mcp install CLIENT FOLDER, or folder-mcp folders add FOLDER",
            seconds=seconds,
        )
    with anyio.move_on_after(SEARCH_LIMIT):
        while True:
            done = await _is_indexed(client)
            for sample in samples:
                hit = await _hit(client, sample)
                if hit:
                    where = f"{hit['path']}, {hit['locator']}"
                    detail = f'it serves ({seconds:.1f} s); "{sample.word}" is found in {where}'
                    return Verification("hit", detail, "", sample.word, hit["path"], hit["locator"], seconds)
            if done:
                break
            await anyio.sleep(RETRY_PAUSE)  # the server may be of any version: nothing notifies us
    words = ", ".join(f'"{sample.word}" of {sample.path}' for sample in samples)
    return Verification(
        "no hit",
        f"it serves ({seconds:.1f} s), but did not find {words}",
        "folder-mcp status -v says what is indexed and what is not; indexing may only need more time",
        samples[0].word,
        seconds=seconds,
    )


async def _hit(client: Client, sample: Sample) -> dict[str, Any] | None:
    """Return the hit in the sample's file, or the first there is."""
    result = await client.call_tool("search", {"query": sample.word})
    hits: list[dict[str, Any]] = (result.structured_content or {}).get("hits", [])
    return next((hit for hit in hits if hit["path"] == sample.path), hits[0] if hits else None)


async def _is_indexed(client: Client) -> bool:
    """Whether every file has been read."""
    result = await client.call_tool("status", {})
    folders: list[dict[str, Any]] = (result.structured_content or {}).get("folders", [])
    return bool(folders) and all(each["state"] == "ready" and not each["files"]["pending"] for each in folders)


def _look_remedy(launch: Launch) -> str:
    words = " ".join(f'"{word}"' if " " in word else word for word in (launch.command, *launch.args))
    return f"run it in a terminal to see more: {words}; then folder-mcp doctor"


def _last_line(stderr: IO[str]) -> str:
    """Return the last line the server wrote to stderr, as the end of a sentence."""
    stderr.seek(0)
    lines = [line.strip() for line in stderr.read().splitlines() if line.strip()]
    return f"; it said: {lines[-1][:300]}" if lines else ""


# Samples ------------------------------------------------------------------------------------------------------------
# Words that are certainly in the user's files, to verify that search finds them.

MAX_FILES = 400
"""Files to examine before giving up; most by their name only."""
HEAD_BYTES = 20_000
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


def find_samples(folders: Sequence[str], config: Config, count: int = 3) -> list[Sample]:
    """Return a few files with text, the first of each folder before the second ones.

    Args:
        folders: Absolute, links resolved.
        config: Its rules decide what is indexed.
        count: How many at most.
    """
    found = [list(islice(_samples_in(folder, config), count)) for folder in folders]
    interleaved = [each[index] for index in range(count) for each in found if index < len(each)]
    return interleaved[:count]


def _samples_in(folder: str, config: Config) -> Iterator[Sample]:
    known = next((each for each in list_folders(config).known if each.path == folder), KnownFolder(folder))
    if not os.path.isdir(folder):  # an unmounted disk: no samples, and the verification says so
        return
    entries = (entry for entry in walk(folder, ignore_rules(known, config)) if isinstance(entry, File))
    for entry in islice(entries, MAX_FILES):
        file_format = by_name(entry.path)
        if file_format is None or file_format.family not in ("plain", "table"):
            continue
        word = _longest_word(entry)
        if word:
            yield Sample(entry.path, word)


def _longest_word(file: File) -> str:
    """Return the longest word of a UTF-8 file's beginning; empty when it has none, or is unreadable."""
    try:
        with open_file(file.path, file.folder) as stream:
            text = stream.read(HEAD_BYTES).decode(errors="ignore")
    except OSError:  # the status reports unreadable files
        return ""
    return max(_WORD.findall(text), key=len, default="")
