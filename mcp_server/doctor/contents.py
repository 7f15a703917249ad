"""The index on disk: does it open beside whoever writes it, of which format, with what in it."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from indexer.documents.worker_process import Launch, NoInterpreter, find_interpreter, launch
from indexer.errors import SlotUnavailable, StoreError
from indexer.models.catalogue import languages_of
from indexer.models.locate import Located, Missing, find
from indexer.status_report import advise
from indexer.status_types import ModelAvailability
from indexer.store.resources import prepare_process
from mcp_server.doctor.finding import Finding
from mcp_server.processes import timing

if TYPE_CHECKING:
    from indexer.store.store import Store


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index holds.

    Attributes:
        files: Files it knows.
        chunks: Chunks of text.
        failed: Files that could not be read.
        disk_bytes: Its size, None when unknown.
    """

    files: int
    chunks: int
    failed: int
    disk_bytes: int | None


def index(data_dir: Path, look: Callable[[Path], Contents]) -> Iterator[Finding]:
    """Open the index read-only, which changes nothing in it.

    Args:
        data_dir: The data directory.
        look: Opens and reads the index; raises ``StoreError`` or ``ImportError``.
    """
    name, place = "index", data_dir / "index"
    try:
        if not (place / "tables").is_dir():
            yield Finding(name, "ok", "there is none yet; it is made with the first folder")
            return
        found = look(place)
    except ImportError as error:
        yield Finding(name, "failure", f"the storage library cannot be loaded: {error}", "run: pip install lancedb")
        return
    except StoreError as error:
        yield Finding(name, "failure", str(error), _REMEDIES.get(error.code, "see the log in the data directory"))
        return
    except OSError as error:
        yield Finding(name, "failure", f"{place} cannot be read ({error.strerror})", _REMEDIES["permission"])
        return
    amount = f", {found.disk_bytes / 1e6:.0f} MB" if found.disk_bytes else ""
    yield Finding(name, "ok", f"opens; {found.files:,} files, {found.chunks:,} chunks{amount}")
    damaged = sorted(each.name for each in (place / "damaged").glob("*")) if (place / "damaged").is_dir() else []
    if damaged:
        detail = f"damaged parts were set aside: {', '.join(damaged[:3])} in {place / 'damaged'}"
        yield Finding("index damage", "warning", detail, "look at the disk's health; delete that directory when done")
    if found.failed:
        detail = f"{found.failed:,} files could not be read"
        yield Finding("files", "warning", detail, "run: folder-mcp status -v, which names them and the reasons")


_REMEDIES = {
    "damaged": "start a client or run folder-mcp index: it sets damaged parts aside and rebuilds them",
    "newer_version": "upgrade folder-mcp, or use another --data-dir",
    "permission": "give this user read and write access to the data directory",
    "disk_full": "free space on the disk of the data directory",
    "unsupported": "choose a data directory on a local disk, with --data-dir",
}


def contents(place: Path) -> Contents:
    """Read what an index holds; imports the storage library, which takes a second.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not there.
    """
    import anyio  # noqa: PLC0415

    return anyio.run(_contents, place)


@asynccontextmanager
async def _open_index(place: Path) -> AsyncIterator[Store]:
    prepare_process()
    from indexer.store.store import open_store  # noqa: PLC0415  # imports the storage library

    async with open_store(place, read_only=True) as store:
        yield store


async def _contents(place: Path) -> Contents:
    async with _open_index(place) as store:
        rows = await store.files()
        folders = {row.folder for row in rows}
        return Contents(
            files=len(rows),
            chunks=sum(store.chunk_count(folder) for folder in folders),
            failed=sum(row.outcome == "failed" for row in rows),
            disk_bytes=store.disk_bytes,
        )


# Languages ----------------------------------------------------------------------------------------------------------
# Whether each folder's model reads the languages that the folder is written in.

Written = Mapping[str, Mapping[str, int]]
"""Chunks by folder and language."""


def languages(
    folders: Mapping[str, str], reads: Mapping[str, frozenset[str] | None], look: Callable[[], Written]
) -> Iterator[Finding]:
    """Compare folders and models; nothing is said before anything is indexed.

    Args:
        folders: Model by root.
        reads: What each model was made for, None when many languages or unknown.
        look: Reads the index; raises ``StoreError`` or ``ImportError``, which the check of the index says.
    """
    if all(reads.get(model) is None for model in folders.values()):
        return
    try:
        written = look()
    except (StoreError, ImportError, OSError):
        return
    unfit = False
    for root, model in folders.items():
        found = advise(root, model, reads.get(model), written.get(root, {}), 0.0)
        if found is not None:
            unfit = True
            yield Finding(f"model of {root}", "warning", found.fault, found.remedy)
    if not unfit and any(written.values()):
        yield Finding("languages", "ok", "each folder's model reads what the folder is written in")


def fits(models: Iterable[str], hub_cache: Path, data_dir: Path) -> dict[str, frozenset[str] | None]:
    """The languages each model was made for, by name."""
    found = {}
    for name in models:
        located = find(name, hub_cache=hub_cache, data_dir=data_dir)
        found[name] = languages_of(name, Path(located.directory) if isinstance(located, Located) else None)
    return found


def written_in(place: Path) -> dict[str, Counter[str]]:
    """Read the languages of what is indexed; imports the storage library.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not there.
    """
    import anyio  # noqa: PLC0415

    return anyio.run(_written_in, place)


async def _written_in(place: Path) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    async with _open_index(place) as store:
        for row in await store.files():
            if row.language is not None:
                found.setdefault(row.folder, Counter())[row.language] += row.chunks
    return found


# Model files --------------------------------------------------------------------------------------------------------
# Whether the models that the configuration and the folders name are here and whole.


def models(
    found: Iterable[ModelAvailability],
    users: dict[str, list[str]],
    locate: Callable[[str], Located | Missing],
    verify: Callable[[Path, tuple[tuple[str, str], ...]], None],
) -> Iterator[Finding]:
    """Look at each named model; weights whose SHA-256 is known are compared with it.

    Args:
        found: The models, as found on this machine.
        users: Folders by the model they use.
        locate: Finds a model's files.
        verify: Compares files with their SHA-256; raises ``SlotUnavailable`` when one differs.
    """
    for model in found:
        folders = users.get(model.name, [])
        name = f"model {model.name}"
        if not model.local:
            meaning = f" {_counted(folders)} searched by word only." if folders else ""
            yield Finding(name, "failure" if folders else "warning", model.reason + meaning, model.remedy)
            continue
        place = locate(model.name)
        checks = place.checks if isinstance(place, Located) else ()
        try:
            if isinstance(place, Located) and checks:
                verify(Path(place.directory), checks)
        except SlotUnavailable as damaged:
            yield Finding(name, "failure", str(damaged), damaged.hint)
            continue
        amount = f", {model.size / 1e6:.0f} MB" if model.size else ""
        proof = "SHA-256 verified" if checks else "files present"
        gain = f". {model.reason} {model.remedy}".rstrip() if model.reason else ""
        yield Finding(name, "ok", f"here{amount}, {proof}, runs on {model.runtime}{gain}")


def _counted(folders: list[str]) -> str:
    return f"{folders[0]} is" if len(folders) == 1 else f"{len(folders)} folders are"


# Parsers ------------------------------------------------------------------------------------------------------------
# The parser process: its interpreter, and whether it starts with all its libraries.


def parser(setting: str | None, greet: Callable[[Launch], tuple[dict[str, Any] | None, str]]) -> Iterator[Finding]:
    """Start one parser process as indexing would, and ask what it lacks.

    Args:
        setting: Interpreter from the environment (``PYTHON_PATH``), None for this one.
        greet: Starts a process; returns its greeting, None without one, and what it wrote to stderr.
    """
    name = "parser"
    try:
        interpreter = find_interpreter(setting)
        started = launch(setting, 0, once=True)
    except NoInterpreter as error:
        yield Finding(name, "failure", str(error), "set PYTHON_PATH to a Python with folder-mcp's packages")
        return
    try:
        greeting, complaint = greet(started)
    except OSError as error:
        remedy = "set PYTHON_PATH to a Python that can be started"
        yield Finding(name, "failure", f"{interpreter} does not start: {error.strerror or error}", remedy)
        return
    if greeting is None:
        said = complaint.strip().splitlines()
        why = said[-1] if said else f"it said nothing within {timing.CHECK_PARSER_S:g} s"
        remedy = "documents are not read; set PYTHON_PATH to a Python 3.11 or newer with folder-mcp's packages"
        yield Finding(name, "failure", f"{interpreter} does not become a parser: {why}", remedy)
        return
    missing = [str(each) for each in greeting.get("missing", ())]
    if missing:
        remedy = f"run: {interpreter} -m pip install {' '.join(missing)}"
        yield Finding(name, "failure", f"{interpreter} lacks {', '.join(missing)}", remedy)
        return
    network = {"namespace": "no network exists for it", "blocked": "its Python code cannot connect"}
    kept = network.get(str(greeting.get("network")), "")
    yield Finding(name, "ok", f"{interpreter} starts with all its libraries" + (f"; {kept}" if kept else ""))


def greeting_of(started: Launch) -> tuple[dict[str, Any] | None, str]:
    """Start a parser, read its greeting, and end it.

    Raises:
        OSError: It cannot be started.
    """
    from indexer.documents import worker_protocol  # noqa: PLC0415

    process = subprocess.Popen(
        started.command,
        cwd=started.directory,
        env=started.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = Timer(timing.CHECK_PARSER_S, process.kill)
    watchdog.start()
    try:
        try:
            greeting = worker_protocol.read_frame(cast("BinaryIO", process.stdout))
        except ValueError:  # some other program's output
            greeting = None
        _, complaint = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return greeting, complaint.decode("utf-8", "replace")
