"""config.toml, flags and environment become one frozen ``Config``. The only reader of all three.

Order: flag, then environment variable, then the file, then the default of ``settings``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from indexer.errors import ConfigError
from indexer.settings import (
    LOCAL,
    TABLES,
    Config,
    FolderSettings,
    IndexSettings,
    ModelSettings,
    OwnerSettings,
    SearchSettings,
    SlotSettings,
    folder_path,
    keys,
    model_name,
    model_names,
)

__all__ = [
    "ENVIRONMENT",
    "Config",
    "FolderSettings",
    "IndexSettings",
    "ModelSettings",
    "OwnerSettings",
    "SearchSettings",
    "SlotSettings",
    "load_config",
]

ENVIRONMENT = {
    "FOLDER_MCP_CONFIG": "The configuration file, when --config is not given.",
    "FOLDER_MCP_DATA_DIR": "The data directory, when --data-dir is not given.",
    "PYTHON_PATH": "The Python interpreter that runs the document parsers.",
    "HF_HUB_CACHE": "Where downloaded models are kept.",
    "HF_HOME": "Parent of that directory, when HF_HUB_CACHE is not set.",
    "HF_HUB_OFFLINE": "1, true, yes or on: never download a model, as offline = true does.",
}
"""Every environment variable this program reads, and what for."""

_NAME = "folder-mcp"
_TRUE = {"1", "true", "yes", "on"}


def load_config(config_file: Path | None, *, data_dir: Path | None, environ: Mapping[str, str]) -> Config:
    """Read and check the configuration.

    Args:
        config_file: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        environ: The environment, as ``os.environ``.

    Raises:
        ConfigError: A file that was named does not exist, or anything in it is wrong.
    """
    file, named = _config_file(config_file, environ)
    table = _read(file, named=named)
    config = _from_table(table or {}, file, data_dir or _path(environ.get("FOLDER_MCP_DATA_DIR")))
    if config.data_dir.exists() and not config.data_dir.is_dir():
        raise ConfigError(f"the data directory {config.data_dir} is a file; name a directory with --data-dir")
    offline = config.model.offline or environ.get("HF_HUB_OFFLINE", "").strip().lower() in _TRUE
    return replace(
        config,
        config_file=file if table is not None else None,
        model=replace(config.model, offline=offline),
        parser_python=environ.get("PYTHON_PATH") or None,
        hub_cache=_hub_cache(environ),
    )


def _config_file(flag: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The file to read, and whether somebody named it."""
    named = flag or _path(environ.get("FOLDER_MCP_CONFIG"))
    if named is not None:
        return _absolute(named, Path.cwd()), True
    import platformdirs  # noqa: PLC0415  # 22 ms that a named file does not need

    return Path(platformdirs.user_config_dir(_NAME, appauthor=False)) / "config.toml", False


def _default_data_dir() -> Path:
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_data_dir(_NAME, appauthor=False))


def _hub_cache(environ: Mapping[str, str]) -> Path:
    """Where the hub's own library looks: HF_HUB_CACHE, else HF_HOME/hub, else the user's cache directory."""
    if environ.get("HF_HUB_CACHE"):
        return _absolute(Path(environ["HF_HUB_CACHE"]), Path.cwd())
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return _absolute(Path(home), Path.cwd()) / "hub"


def _read(file: Path, *, named: bool) -> dict[str, Any] | None:
    """The file's tables, None when a file that nobody named is missing."""
    import tomllib  # noqa: PLC0415  # 33 ms that a start without a file does not need

    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        if named:
            raise ConfigError(f"{file}: no such configuration file; correct --config or FOLDER_MCP_CONFIG") from None
        return None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); it must be a readable file") from error
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{file}: line {line}, column {column} is not UTF-8; save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}; correct that place") from error


def _from_table(table: dict[str, Any], file: Path, chosen: Path | None) -> Config:
    """Check every table and key of the file; ``chosen`` is the data directory of flag or environment."""
    _known(table, ["data_dir", "folders", *TABLES], "at the top level", file)
    tables = {name: _section(kind, table.get(name, {}), f"[{name}]", file) for name, kind in TABLES.items()}
    folders = _folders(table.get("folders", []), file)
    written = _value(folder_path, table["data_dir"], "data_dir", file) if "data_dir" in table else None
    if chosen is not None:
        data_dir = _absolute(chosen, Path.cwd())
    else:
        data_dir = _absolute(Path(written), file.parent) if written else _default_data_dir()
    return Config(data_dir=data_dir, folders=folders, **tables)


def _folders(tables: object, file: Path) -> tuple[FolderSettings, ...]:
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f'{file}: "folders" must be written as [[folders]] tables, each with a path')
    found: list[FolderSettings] = []
    for position, each in enumerate(tables, 1):
        where = f"[[folders]] number {position}"
        folder = _section(FolderSettings, each, where, file)
        if not folder.path:
            raise ConfigError(f'{file}: {where} has no "path"; add path = "/the/folder"')
        found.append(replace(folder, path=str(_absolute(Path(folder.path), file.parent))))
    return tuple(found)


def _section(kind: type[Any], table: object, where: str, file: Path) -> Any:
    """One table as its dataclass."""
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {where.strip('[]')} must be a table, written as {where} with its keys below")
    checks = keys(kind)
    _known(table, checks, f"in {where}", file)
    return kind(**{key: _value(checks[key], value, f"{where} {key}", file) for key, value in table.items()})


def _value(check: Any, value: object, key: str, file: Path) -> Any:
    try:
        checked = check(value)
    except ValueError as error:
        shown = repr(value)
        raise ConfigError(f"{file}: {key} {error}, not {shown if len(shown) < 80 else shown[:77] + '...'}") from error
    if check is model_name:
        return _located(checked, file)
    return tuple(_located(name, file) for name in checked) if check is model_names else checked


def _located(model: str, file: Path) -> str:
    """A local model directory as an absolute path, a hub name as it is."""
    return str(_absolute(Path(model), file.parent)) if model.startswith(LOCAL) else model


def _known(table: Mapping[str, Any], allowed: Iterable[str], where: str, file: Path) -> None:
    """Refuse the first key that does not exist, with the nearest that does."""
    known = list(allowed)
    for key in table:
        if key in known:
            continue
        home = [name for name, kind in TABLES.items() if key in keys(kind)]
        near = get_close_matches(key, known, n=1, cutoff=0.5)
        if home:
            advice = f"it belongs in [{home[0]}]"
        elif near:
            advice = f'did you mean "{near[0]}"?'
        else:
            advice = "allowed are " + ", ".join(known)
        what = "table" if isinstance(table[key], dict) else "key"
        raise ConfigError(f'{file}: unknown {what} "{key}" {where}; {advice}')


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _absolute(path: Path, base: Path) -> Path:
    """Absolute, ``~`` expanded, ``..`` folded; links stay, and nothing need exist."""
    try:
        return Path(os.path.normpath(base / path.expanduser()))
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such user's home directory; write the path in full") from error
