"""What a check gets and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.config import Config
from mcp_server.clients.machine import Machine

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
