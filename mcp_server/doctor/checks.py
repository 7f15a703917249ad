"""All checks with their real inputs, cheap ones first, the index last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.doctor.finding import Check, Finding

if TYPE_CHECKING:
    from indexer.folders.registry import KnownFolders
    from mcp_server.clients.machine import Machine
    from mcp_server.doctor.setup import Settings

Mounts = Sequence[tuple[str, str]]


def checks(settings: Settings, machine: Machine, work: Path) -> list[tuple[str, Check]]:
    """Return every check by name.

    Each imports what it needs when it runs: a package that is missing costs its own check only.

    Args:
        settings: The configuration, or what can be had of it.
        machine: Where clients keep their configurations.
        work: The working directory.
    """
    return [
        ("python", _python),
        ("packages", _packages),
        ("configuration", lambda: _configuration(settings)),
        ("torch", lambda: _torch(settings)),
        ("memory", _memory),
        ("data directory", lambda: _data_directory(settings)),
        ("folders", lambda: _folders(settings)),
        ("file watches", lambda: _watches(settings)),
        ("models", lambda: _models(settings)),
        ("background process", lambda: _owner(settings)),
        ("clients", lambda: _clients(machine, work)),
        ("parser", lambda: _parser(settings)),
        ("index", lambda: _index(settings)),
        ("languages", lambda: _languages(settings)),
    ]


def _project() -> Path:
    return Path(__file__).resolve().parents[2] / "pyproject.toml"


def _python() -> Iterator[Finding]:
    import platform  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from mcp_server.doctor.machine import interpreter, wanted  # noqa: PLC0415

    return interpreter(platform.python_version(), sys.executable, wanted(_project()).python)


def _packages() -> Iterator[Finding]:
    from mcp_server.doctor.machine import installed, packages, wanted  # noqa: PLC0415

    return packages(wanted(_project()).packages, installed)


def _configuration(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.setup import configuration  # noqa: PLC0415

    return configuration(settings)


def _torch(settings: Settings) -> Iterator[Finding]:
    from indexer.models.loader import detect, torch_build  # noqa: PLC0415
    from mcp_server.doctor.machine import nvidia_cards, torch  # noqa: PLC0415

    return torch(torch_build(), detect(), nvidia_cards(), settings.config.model.device)


def _memory() -> Iterator[Finding]:
    from indexer.models.loader import detect  # noqa: PLC0415
    from mcp_server.doctor.machine import memory, system_memory  # noqa: PLC0415

    return memory(detect(), *system_memory())


def _data_directory(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.machine import data_directory  # noqa: PLC0415

    return data_directory(settings.config.data_dir, _mounts())


def _mounts() -> Mounts | None:
    """The mount table; None without psutil, which the check of the packages names."""
    from indexer.files.mounts import mount_table  # noqa: PLC0415

    try:
        return mount_table()
    except (ImportError, OSError):
        return None


def _known(settings: Settings) -> KnownFolders:
    """The folders; those of the configuration file alone when the list of added ones is damaged."""
    from indexer.folders.registry import list_folders  # noqa: PLC0415

    return list_folders(settings.config)


def _folders(settings: Settings) -> Iterator[Finding]:
    from indexer.errors import ConfigError  # noqa: PLC0415
    from indexer.folders.registry import folders_damage  # noqa: PLC0415
    from mcp_server.doctor.setup import folders  # noqa: PLC0415

    try:
        known = _known(settings)
    except ConfigError as error:
        return iter([Finding("folders", "failure", str(error), "correct or delete that file")])
    damage = folders_damage(settings.config.data_dir)
    remedy = "start a client or run folder-mcp index: the copy is put in its place"
    told = [Finding("folders", "warning", damage, remedy)] if damage else []
    return iter([*told, *folders(known.paths, known.refused, _mounts())])


def _watches(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.machine import limits, watches  # noqa: PLC0415

    return watches(limits(), _paths(settings), watch=settings.config.index.watch)


def _paths(settings: Settings) -> tuple[str, ...]:
    """Roots of the folders; none when their list is damaged, which the check of the folders says."""
    from indexer.errors import ConfigError  # noqa: PLC0415

    try:
        return _known(settings).paths
    except ConfigError:
        return ()


def _models(settings: Settings) -> Iterator[Finding]:
    from functools import partial  # noqa: PLC0415

    from indexer.errors import ConfigError  # noqa: PLC0415
    from indexer.folders.model_availability import Models  # noqa: PLC0415
    from indexer.models.locate import find  # noqa: PLC0415
    from indexer.models.prepared import verify  # noqa: PLC0415
    from mcp_server.doctor.contents import models  # noqa: PLC0415

    resolver, users = Models(settings.config), dict[str, list[str]]()
    users[resolver.name(None)] = []
    if settings.config.search.rerank:
        users[settings.config.search.rerank] = []
    try:
        for folder in _known(settings).known:
            users.setdefault(resolver.name(folder.model), []).append(folder.path)
    except ConfigError:  # said by the check of the folders
        pass
    locate = partial(find, hub_cache=settings.config.hub_cache, data_dir=settings.config.data_dir)
    return models(resolver.available(users), users, locate, verify)


def _owner(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.setup import owner  # noqa: PLC0415
    from mcp_server.processes.owner_lock import owner_files_for  # noqa: PLC0415
    from mcp_server.version import release  # noqa: PLC0415

    return owner(lambda: owner_files_for(str(settings.config.data_dir)), release())


def _clients(machine: Machine, work: Path) -> Iterator[Finding]:
    from mcp_server.doctor.setup import clients, places  # noqa: PLC0415

    return clients(places(machine, work))


def _parser(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.contents import greeting_of, parser  # noqa: PLC0415

    return parser(settings.config.parser_python, greeting_of)


def _index(settings: Settings) -> Iterator[Finding]:
    from mcp_server.doctor.contents import contents, index  # noqa: PLC0415

    return index(settings.config.data_dir, contents)


def _languages(settings: Settings) -> Iterator[Finding]:
    from indexer.errors import ConfigError  # noqa: PLC0415
    from indexer.folders.model_availability import Models  # noqa: PLC0415
    from mcp_server.doctor.contents import fits, languages, written_in  # noqa: PLC0415

    resolver = Models(settings.config)
    try:
        kept = {folder.path: resolver.name(folder.model) for folder in _known(settings).known}
    except ConfigError:  # said by the check of the folders
        return iter(())
    reads = fits(kept.values(), settings.config.hub_cache, settings.config.data_dir)
    return languages(kept, reads, lambda: written_in(settings.config.data_dir / "index"))
