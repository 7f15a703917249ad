"""Checks of what is on disk: the index, its languages, model files, and the parser of documents.

The index is opened only where there is one: that imports the storage library, which takes a second.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO, cast

from indexer.documents import worker_protocol
from indexer.documents.worker_process import Launch, NoInterpreter, find_interpreter, launch
from indexer.errors import ConfigError, SlotUnavailable, StoreError
from indexer.folders.model_availability import Models
from indexer.folders.registry import list_folders
from indexer.models.catalogue import languages_of
from indexer.models.locate import Located, Missing, find
from indexer.models.prepared import verify
from indexer.status_types import ModelAvailability
from mcp_server.doctor.check_types import CheckInputs, Finding
from mcp_server.processes import timing


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index holds.

    Attributes:
        files: Files it knows.
        chunks: Chunks of text.
        failed: Files that could not be read.
        disk_bytes: Its size, None when unknown.
        languages: Chunks by folder and language.
    """

    files: int
    chunks: int
    failed: int
    disk_bytes: int | None
    languages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def check_index(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether the index opens beside the process that writes it, and what it holds."""
    return index(inputs.settings.config.data_dir, read_index)


def index(data_dir: Path, read: Callable[[Path], Contents]) -> Iterator[Finding]:
    """Open the index read-only, which changes nothing in it.

    Args:
        data_dir: The data directory.
        read: Opens and reads the index; raises ``StoreError`` or ``ImportError``.
    """
    name, directory = "index", data_dir / "index"
    try:
        if not (directory / "tables").is_dir():
            yield Finding(name, "ok", "there is none yet; it is made with the first folder")
            return
        found = read(directory)
    except ImportError as error:
        yield Finding(name, "failure", f"the storage library cannot be loaded: {error}", "run: pip install lancedb")
        return
    except StoreError as error:
        yield Finding(name, "failure", str(error), _REMEDIES.get(error.code, "see the log in the data directory"))
        return
    except OSError as error:
        yield Finding(name, "failure", f"{directory} cannot be read ({error.strerror})", _REMEDIES["permission"])
        return
    amount = f", {found.disk_bytes / 1e6:.0f} MB" if found.disk_bytes else ""
    yield Finding(name, "ok", f"opens; {found.files:,} files, {found.chunks:,} chunks{amount}")
    damaged = (
        sorted(each.name for each in (directory / "damaged").glob("*")) if (directory / "damaged").is_dir() else []
    )
    if damaged:
        detail = f"damaged parts were set aside: {', '.join(damaged[:3])} in {directory / 'damaged'}"
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


def read_index(directory: Path) -> Contents:
    """Read what an index holds.

    Raises:
        StoreError: It cannot be opened or read.
        ImportError: The storage library is not installed.
    """
    import anyio  # noqa: PLC0415 - may be missing

    return anyio.run(_read_index, directory)


async def _read_index(directory: Path) -> Contents:
    from indexer.store.store import open_store  # noqa: PLC0415 - may be missing

    languages: dict[str, Counter[str]] = {}
    async with open_store(directory, read_only=True) as store:
        rows = await store.files()
        for row in rows:
            if row.language is not None:
                languages.setdefault(row.folder, Counter())[row.language] += row.chunks
        return Contents(
            files=len(rows),
            chunks=sum(store.chunk_count(folder) for folder in {row.folder for row in rows}),
            failed=sum(row.outcome == "failed" for row in rows),
            disk_bytes=store.disk_bytes,
            languages=languages,
        )


# Languages ----------------------------------------------------------------------------------------------------------


def check_languages(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether each folder's model supports the languages that the folder is written in."""
    config = inputs.settings.config
    resolver = Models(config)
    try:
        models = {folder.path: resolver.name(folder.model) for folder in list_folders(config).known}
    except ConfigError:  # the check of the folders reports it
        return iter(())
    supported = supported_languages(models.values(), config.hub_cache, config.data_dir)
    return languages(models, supported, lambda: read_index(config.data_dir / "index").languages)


def languages(
    models: Mapping[str, str],
    supported: Mapping[str, frozenset[str] | None],
    read: Callable[[], Mapping[str, Mapping[str, int]]],
) -> Iterator[Finding]:
    """Compare folders and models; nothing is reported before anything is indexed.

    Args:
        models: Model by folder.
        supported: The languages each model was made for, None when many or unknown.
        read: Returns chunks by folder and language; raises ``StoreError`` or ``ImportError``, which the check of the
            index reports.
    """
    if all(supported.get(model) is None for model in models.values()):
        return
    try:
        written = read()
    except (StoreError, ImportError, OSError):
        return
    from indexer.status_report import advise  # noqa: PLC0415 - needs anyio, which may be missing

    unfit = False
    for root, model in models.items():
        advice = advise(root, model, supported.get(model), written.get(root, {}), 0.0)
        if advice is not None:
            unfit = True
            yield Finding(f"model of {root}", "warning", advice.fault, advice.remedy)
    if not unfit and any(written.values()):
        yield Finding("languages", "ok", "each folder's model reads what the folder is written in")


def supported_languages(models: Iterable[str], hub_cache: Path, data_dir: Path) -> dict[str, frozenset[str] | None]:
    """Return the languages each model was made for, by its name; None when many or unknown."""
    found = {}
    for name in models:
        located = find(name, hub_cache=hub_cache, data_dir=data_dir)
        found[name] = languages_of(name, Path(located.directory) if isinstance(located, Located) else None)
    return found


# Model files --------------------------------------------------------------------------------------------------------


def check_models(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the models that the configuration and the folders name."""
    config = inputs.settings.config
    resolver, users = Models(config), dict[str, list[str]]()
    users[resolver.name(None)] = []
    if config.search.rerank:
        users[config.search.rerank] = []
    try:
        for folder in list_folders(config).known:
            users.setdefault(resolver.name(folder.model), []).append(folder.path)
    except ConfigError:  # the check of the folders reports it
        pass
    locate = partial(find, hub_cache=config.hub_cache, data_dir=config.data_dir)
    return models(resolver.available(users), users, locate, verify)


def models(
    found: Iterable[ModelAvailability],
    users: dict[str, list[str]],
    locate: Callable[[str], Located | Missing],
    verify: Callable[[Path, tuple[tuple[str, str], ...]], None],
) -> Iterator[Finding]:
    """Check that each model is on this machine; weights whose SHA-256 is known are compared with it.

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
            consequence = f" {_counted(folders)} searched by word only." if folders else ""
            yield Finding(name, "failure" if folders else "warning", model.reason + consequence, model.remedy)
            continue
        located = locate(model.name)
        checks = located.checks if isinstance(located, Located) else ()
        try:
            if isinstance(located, Located) and checks:
                verify(Path(located.directory), checks)
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


def check_parser(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the process that parses documents: its interpreter, and whether it starts with all its libraries."""
    return parser(inputs.settings.config.parser_python, greeting_of)


def parser(setting: str | None, greet: Callable[[Launch], tuple[dict[str, Any] | None, str]]) -> Iterator[Finding]:
    """Start one parser process as indexing does, and read which libraries it lacks.

    Args:
        setting: Interpreter from the environment (``PYTHON_PATH``), None for this one.
        greet: Starts a process; returns its greeting or None, and what it wrote to stderr.
    """
    name = "parser"
    try:
        interpreter = find_interpreter(setting)
        started = launch(setting, 0, once=True)
    except NoInterpreter as error:
        yield Finding(name, "failure", str(error), "set PYTHON_PATH to a Python with folder-mcp's packages")
        return
    try:
        greeting, errors = greet(started)
    except OSError as error:
        remedy = "set PYTHON_PATH to a Python that can be started"
        yield Finding(name, "failure", f"{interpreter} does not start: {error.strerror or error}", remedy)
        return
    if greeting is None:
        lines = errors.strip().splitlines()
        why = lines[-1] if lines else f"it said nothing within {timing.CHECK_PARSER_S:g} s"
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
            greeting = worker_protocol.read(cast("BinaryIO", process.stdout))
        except ValueError:  # some other program's output
            greeting = None
        _, errors = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return greeting, errors.decode("utf-8", "replace")
