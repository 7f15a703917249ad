"""Checks of what indexing needs: model files, models for the languages of the folders, the parser of documents."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO, cast

from indexer.documents import worker_protocol
from indexer.documents.confinement import LEFT_OUT, NOT_HERE, REFUSALS, REFUSED_BY
from indexer.documents.worker_process import LESS, Launch, NoInterpreter, find_interpreter, launch
from indexer.errors import ConfigError, SlotUnavailable, StoreError
from indexer.folders.model_availability import ModelResolver
from indexer.folders.registry import list_folders
from indexer.models.catalogue import languages_of
from indexer.models.locate import Located, Missing, find
from indexer.models.prepared import verify
from indexer.status_report import advise
from indexer.status_types import ModelAvailability
from mcp_server.doctor.checks import CheckInputs, Finding
from mcp_server.doctor.machine import read_index
from mcp_server.processes import timing

# Model files --------------------------------------------------------------------------------------------------------


def check_models(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the models that the configuration and the folders name."""
    config = inputs.settings.config
    resolver, users = ModelResolver(config), dict[str, list[str]]()
    users[resolver.name_or_default(None)] = []
    if config.search.rerank:
        users[config.search.rerank] = []
    try:
        for folder in list_folders(config).known:
            users.setdefault(resolver.name_or_default(folder.model), []).append(folder.path)
    except ConfigError:  # the check of the folders reports it
        pass
    locate = partial(find, hub_cache=config.hub_cache, data_dir=config.data_dir)
    return model_findings(resolver.available(users), users, locate, verify)


def model_findings(
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


# Languages ----------------------------------------------------------------------------------------------------------


def check_languages(inputs: CheckInputs) -> Iterator[Finding]:
    """Check whether each folder's model supports the languages that the folder is written in."""
    config = inputs.settings.config
    resolver = ModelResolver(config)
    try:
        models = {folder.path: resolver.name_or_default(folder.model) for folder in list_folders(config).known}
    except ConfigError:  # the check of the folders reports it
        return iter(())
    supported = supported_languages(models.values(), config.hub_cache, config.data_dir)
    return language_findings(models, supported, lambda: read_index(config.data_dir / "index").languages)


def language_findings(
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


# Parsers ------------------------------------------------------------------------------------------------------------


def check_parser(inputs: CheckInputs) -> Iterator[Finding]:
    """Check the process that parses documents: its interpreter, and whether it starts with all its libraries."""
    return parser_findings(inputs.settings.config.parser_python, greeting_of)


def parser_findings(
    setting: str | None, greet: Callable[[Launch], tuple[dict[str, Any] | None, str]]
) -> Iterator[Finding]:
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
        greeting, errors = _greeting_with_most_limits(setting, started, greet)
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
    failing = ", ".join(greeting.get("failing", ()))
    if failing:
        remedy = f"run: {interpreter} -m pip install --force-reinstall {failing.replace(',', '')}"
        yield Finding(name, "failure", f"{failing} does not read its sample with {interpreter}", remedy)
    else:
        yield Finding(name, "ok", f"{interpreter} starts with all its libraries, and each reads its sample")
    yield from confinement_findings(greeting)


def _greeting_with_most_limits(
    setting: str | None, started: Launch, greet: Callable[[Launch], tuple[dict[str, Any] | None, str]]
) -> tuple[dict[str, Any] | None, str]:
    """What a process says that has every limit or, if its libraries fail then, the most that they bear."""
    first = greet(started)
    greeting, _ = first
    if greeting is None or not greeting.get("failing"):
        return first
    for left_out in LESS:
        other = greet(launch(setting, 0, once=True, without=left_out))
        if other[0] is not None and len(other[0]["failing"]) < len(greeting["failing"]):
            return other
    return first


def confinement_findings(greeting: Mapping[str, Any]) -> Iterator[Finding]:
    """What the native code of a parser cannot do here, a finding for each; told by a process that has tried.

    Args:
        greeting: What it said when it was ready.
    """
    refused, unavailable = greeting.get("refused", ()), greeting.get("unavailable", {})
    if not refused and set(unavailable.values()) == {NOT_HERE}:
        detail = "a parser's Python code cannot connect or start a program; its native code can: nothing here binds it"
        yield Finding("parser limits", "ok", detail)
        return
    for name, what in REFUSALS.items():
        if name in refused:
            yield Finding(f"parser limit, {name}", "ok", f"native code of a parser cannot {what}")
        else:
            reasons = {step: unavailable[step] for step in REFUSED_BY[name] if step in unavailable}
            why = "; ".join(f"{step}: {reason}" for step, reason in reasons.items())
            detail = f"native code of a parser can {what}" + (f" ({why})" if why else "")
            yield Finding(f"parser limit, {name}", "warning", detail, _remedy_for(reasons))


def _remedy_for(reasons: Mapping[str, str]) -> str:
    """What to do to have a limit, by the steps that would set it and why they are not in force."""
    if LEFT_OUT in reasons.values():
        return "update the packages that read documents, then run folder-mcp doctor again"
    if reasons.keys() & {"reading", "changes"}:
        return "use a Linux kernel 5.13 or newer that starts with Landlock (lsm=...,landlock)"
    return "nothing: this system offers no more"


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
            greeting = worker_protocol.read_frame(cast("BinaryIO", process.stdout))
        except ValueError:  # some other program's output
            greeting = None
        _, errors = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    return greeting, errors.decode("utf-8", "replace")
