"""The configuration: where it is looked for, whether it is right, and what to go by when it is not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.config import Config, load_config
from indexer.errors import ConfigError
from mcp_server.doctor.finding import Finding
from mcp_server.processes.location import locate


@dataclass(frozen=True, slots=True)
class Settings:
    """What the other checks go by.

    Attributes:
        config: The configuration; where it is wrong, the defaults with the flags and the environment.
        problem: What is wrong with it, empty when nothing.
        place: The file that is read, or would be.
    """

    config: Config
    problem: str
    place: str


def read(config_file: str | None, data_dir: str | None, environ: Mapping[str, str], place: str) -> Settings:
    """Read the configuration, or what can be had without it.

    Args:
        config_file: From ``--config``.
        data_dir: From ``--data-dir``.
        environ: The environment.
        place: The user's own configuration file.
    """
    shown = config_file or environ.get("FOLDER_MCP_CONFIG") or place
    named, chosen = Path(config_file) if config_file else None, Path(data_dir) if data_dir else None
    try:
        return Settings(load_config(named, data_dir=chosen, environ=environ), "", shown)
    except ConfigError as error:
        problem = str(error)
    try:
        return Settings(load_config(Path(os.devnull), data_dir=chosen, environ=environ), problem, shown)
    except ConfigError:  # the data directory itself is wrong
        where = locate(os.devnull, data_dir, environ).data_dir
        return Settings(Config(data_dir=Path(where)), problem, shown)


def configuration(settings: Settings) -> Iterator[Finding]:
    """Say whether the configuration is right, and where it is."""
    if settings.problem:
        remedy = "correct it as the message says; until then the other checks go by the defaults"
        yield Finding("configuration", "failure", settings.problem, remedy)
    elif settings.config.config_file is None:
        yield Finding("configuration", "ok", f"defaults; there is no file {settings.place}")
    else:
        yield Finding("configuration", "ok", f"{settings.config.config_file} is right")
