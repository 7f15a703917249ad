"""What a check is, the list of them, and how they are run.

The list names functions of the other modules, cheap ones first and the index last. Each is imported when it is run,
so that a missing package fails only the checks that need it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from mcp_server.clients.machine import Machine
from mcp_server.processes.owner_lock import locate

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was checked.
        verdict: ``warning``: it works, but not as well as it could; ``failure``: something does not work.
        detail: What was found, one sentence.
        remedy: What to do, one sentence; empty when nothing.
    """

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration that the other checks use.

    Attributes:
        config: The configuration; where it is wrong, the defaults with the flags and the environment.
        problem: What is wrong with it; empty when it is right.
        file: The file that is read, or would be if it existed.
    """

    config: Config
    problem: str
    file: str


@dataclass(frozen=True, slots=True)
class CheckInputs:
    """What every check is given.

    Attributes:
        settings: The configuration, or what can be had of it.
        machine: Where clients keep their configurations.
        directory: The working directory, for configurations of a project.
    """

    settings: Settings
    machine: Machine
    directory: Path


Check = Callable[[], Iterable[Finding]]
"""A check with its inputs filled in."""

CHECKS = {
    "python": "machine:check_python",
    "packages": "machine:check_packages",
    "configuration": "setup:check_configuration",
    "torch": "machine:check_torch",
    "memory": "machine:check_memory",
    "data directory": "machine:check_data_directory",
    "folders": "setup:check_folders",
    "file watches": "setup:check_watches",
    "models": "indexing:check_models",
    "background process": "setup:check_owner",
    "clients": "setup:check_clients",
    "access": "setup:check_access",
    "parser": "indexing:check_parser",
    "index": "machine:check_index",
    "languages": "indexing:check_languages",
}
"""Name of each check, and ``module:function`` in this package: it takes ``CheckInputs`` and yields findings."""


def run_checks(inputs: CheckInputs) -> Iterable[Finding]:
    """Run every check and yield what they find."""
    return examine([(name, _check(target, inputs)) for name, target in CHECKS.items()])


def _check(target: str, inputs: CheckInputs) -> Check:
    module, _, function = target.partition(":")

    def check() -> Iterable[Finding]:
        found: Iterable[Finding] = getattr(importlib.import_module(f"mcp_server.doctor.{module}"), function)(inputs)
        return found

    return check


def examine(checks: Sequence[tuple[str, Check]]) -> Iterable[Finding]:
    """Run checks one after the other and yield what they find.

    This is the third place that catches every exception, beside the boundaries of a file and of a tool call: anything
    may be broken in an installation, and a check that raises must not keep the others from running. The exception
    becomes a failure of its own, so nothing is hidden.

    Args:
        checks: Names, used when a check raises, and the checks.
    """
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            kind = type(error).__name__
            yield Finding(name, "failure", f"could not be looked at: {kind}: {error}", _remedy(error))


def _remedy(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install folder-mcp again, with all its dependencies"
    return "this is a bug in folder-mcp or a very broken machine; report it with the output of folder-mcp doctor -v"


def read_settings(
    config_file: str | None, data_dir: str | None, environ: Mapping[str, str], user_file: str
) -> Settings:
    """Read the configuration; where it is wrong, use the defaults with the flags and the environment.

    Args:
        config_file: From ``--config``.
        data_dir: From ``--data-dir``.
        environ: The environment.
        user_file: Path of the user's own configuration file, which need not exist.
    """
    shown = config_file or environ.get("FOLDER_MCP_CONFIG") or user_file
    file, chosen = Path(config_file) if config_file else None, Path(data_dir) if data_dir else None
    try:
        return Settings(load_config(file, data_dir=chosen, environ=environ), "", shown)
    except ConfigError as error:
        problem = str(error)
    try:
        return Settings(load_config(Path(os.devnull), data_dir=chosen, environ=environ), problem, shown)
    except ConfigError:  # the data directory itself is wrong
        where = locate(os.devnull, data_dir, environ).data_dir
        return Settings(Config(data_dir=Path(where)), problem, shown)
