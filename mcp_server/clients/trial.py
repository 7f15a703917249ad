"""Starts a server as its client would, and asks it for a word that stands in the user's files."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from indexer.errors import first_error
from mcp_server.clients.entry import Launch
from mcp_server.clients.sample import Sample

if TYPE_CHECKING:
    from mcp import Client

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
class Trial:
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


async def trial(launch: Launch, wanted: Sequence[Sample], environ: Mapping[str, str]) -> Trial:
    """Start the server, list its tools, search.

    Args:
        launch: What the client's configuration says, as it was read from there.
        wanted: Files and words to search for, one after the other.
        environ: The environment, of which the server gets what clients pass on.
    """
    import anyio  # noqa: PLC0415 - not for --help

    if os.path.isabs(launch.command) and not await anyio.Path(launch.command).is_file():
        return Trial("failed", f"{launch.command} is not there", "install folder-mcp again, then run this again")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        return await _tried(launch, wanted, surroundings(environ), said)


def surroundings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that a desktop's client starts."""
    passed = {name: environ[name] for name in PASSED_ON if name in environ}
    path = environ.get("PATH", "") if os.name == "nt" else SHORT_PATH
    return {**passed, "PATH": path}


async def _tried(launch: Launch, wanted: Sequence[Sample], env: dict[str, str], said: IO[str]) -> Trial:
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
                    return Trial("failed", f"it offers no search, but {', '.join(tools) or 'nothing'}", _look(launch))
                return await _searched(client, wanted, seconds)
    except TimeoutError:
        return Trial("failed", f"no answer within {time.monotonic() - begun:.0f} s{_last(said)}", _look(launch))
    except (OSError, MCPError, ExceptionGroup) as error:
        found = first_error(error)
        why = str(found) or type(found).__name__
        return Trial("failed", f"it does not serve: {why}{_last(said)}", _look(launch))


async def _searched(client: Client, wanted: Sequence[Sample], seconds: float) -> Trial:
    if not wanted:
        return Trial(
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
                    return Trial("hit", told, "", sample.word, hit["path"], hit["locator"], seconds)
            if done:
                break
            await anyio.sleep(PAUSE)  # an outsider of any version: all it can do is ask again
    words = ", ".join(f'"{sample.word}" of {sample.path}' for sample in wanted)
    return Trial(
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
