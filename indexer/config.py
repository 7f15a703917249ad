"""The configuration: ``config.toml``, environment and flags as one frozen ``Config``. The only reader of all three.

A flag goes before an environment variable, that before the file, and that before the default of the setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from indexer.errors import ConfigError

# Settings -----------------------------------------------------------------------------------------------------------
# Every key of ``config.toml`` with its default, its check and its explanation. The dataclasses below are the only list
# of keys: files are checked against them; tests check ``config.example.toml`` and ``docs/configuration.md``.

# ``setting`` makes dataclass fields:
# ruff: noqa: RUF009

Device = Literal["auto", "cpu", "cuda", "mps"]
Runtime = Literal["auto", "torch", "onnx"]

Check = Callable[[object], object]
"""Takes a value from TOML and returns the value of the setting.

Raises:
    ValueError: The value does not fit; the message says what would, as in ``must be true or false``.
"""

T = TypeVar("T")

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_PROVIDER = re.compile(r"(https://[^\s/?#@]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?)(/[^\s?#]*)?")
SIGNATURES = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Algorithms by which an identity provider may sign, all with a public key; not ``none``, no shared secret."""
LOCAL_PREFIXES = ("/", "~", "./", "../")
"""How the name of a model starts that is a local directory."""


def setting(default: T, check: Check, explanation: str) -> T:
    """A dataclass field that knows how to check a value and what it is for (one line, with its unit)."""
    each: T = field(default=default, metadata={"check": check, "explanation": explanation})
    return each


def number(low: float, high: float) -> Check:
    """Check for a number from ``low`` to ``high``, both included; an integer becomes a float."""

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return check


def whole_number(low: int, high: int) -> Check:
    """Check for a whole number from ``low`` to ``high``, both included."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def choice(*allowed: str) -> Check:
    """Check for one of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError("must be one of " + ", ".join(f'"{word}"' for word in allowed))
        return value

    return check


def boolean(value: object) -> bool:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def model_name(value: object) -> str:
    """Check for a model: a hub name (``all-MiniLM-L6-v2``, ``BAAI/bge-m3``) or a local directory."""
    if isinstance(value, str) and value.startswith(LOCAL_PREFIXES) and "\0" not in value:
        return value
    if not isinstance(value, str) or not _MODEL_NAME.fullmatch(value):
        raise ValueError(
            'must be a model name such as "all-MiniLM-L6-v2" or "BAAI/bge-m3", '
            'or a local directory that starts with "/", "~" or "./"'
        )
    return value


def model_name_or_none(value: object) -> str:
    """Check for a model, or an empty text for none."""
    return "" if value == "" else model_name(value)


def model_names(value: object) -> tuple[str, ...]:
    """Check for a list of models."""
    if not isinstance(value, list):
        raise ValueError('must be a list of model names, such as ["BAAI/bge-m3"]')
    return tuple(model_name(item) for item in value)


def patterns(value: object) -> tuple[str, ...]:
    """Check for a list of patterns in gitignore syntax, one pattern an item."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list of patterns in gitignore syntax, such as ["drafts/", "*.log"]')
    for item in value:
        if not item.strip() or item.startswith("!") or "\n" in item or "\0" in item:
            raise ValueError(
                f'has {item!r}; a pattern is one line, not empty, and without a leading "!" '
                "(what exclude leaves out, include takes back in)"
            )
    return tuple(value)


def secret_patterns(value: object) -> tuple[str, ...]:
    """Check for a list of regular expressions in the syntax of RE2, each for a whole secret."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of regular expressions, such as ["ghp_EXAMPLE.*"]')
    if value:
        import re2  # noqa: PLC0415  # 12 ms that a configuration without such patterns does not need

        options = re2.Options()
        options.log_errors = False
        for item in value:
            try:
                re2.compile(item, options)
            except re2.error as error:
                why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
                raise ValueError(f"has {item!r}, which is no regular expression of RE2 ({why}); correct it") from None
    return tuple(value)


def folder_path(value: object) -> str:
    """Check for a path: text, not empty, no NUL."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError('must be a path, such as "~/Documents"')
    return value


def text_or_none(value: object) -> str:
    """Check for one line of text without spaces around it; may be empty."""
    if not isinstance(value, str) or value != value.strip() or not value.isprintable() or len(value) > 1000:
        raise ValueError("must be one line of text, without spaces around it")
    return value


def issuer_or_none(value: object) -> str:
    """Check for the address of an identity provider (https, or http on this machine), or an empty text for none."""
    if value == "":
        return ""
    if not isinstance(value, str) or not _PROVIDER.fullmatch(value):
        raise ValueError(
            'must be the address of an identity provider, such as "https://login.example/realms/team"; http is '
            "taken on 127.0.0.1, [::1] and localhost alone"
        )
    return value


def address_or_none(value: object) -> str:
    """Check for the address of a server, or an empty text for none."""
    if not isinstance(value, str) or not (value == "" or re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value)):
        raise ValueError('must be the address under which clients reach this server: "https://HOST/mcp"')
    return value


def algorithms(value: object) -> tuple[str, ...]:
    """Check for a list of signature algorithms with a public key (RFC 7518, RFC 8037)."""
    if not isinstance(value, list) or not all(item in SIGNATURES for item in value):
        raise ValueError("must be a list of " + ", ".join(SIGNATURES))
    return tuple(value)


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """One ``[[folders]]`` table."""

    path: str = setting("", folder_path, "The folder to index; relative paths count from the configuration file.")
    model: str | None = setting(None, model_name, "Embedding model of this folder; unset: the default model.")
    include: tuple[str, ...] = setting((), patterns, "Patterns to index although a rule leaves them out.")
    exclude: tuple[str, ...] = setting((), patterns, "Patterns to leave out, relative to this folder.")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The ``[model]`` table."""

    default: str = setting(
        "all-MiniLM-L6-v2", model_name, "Embedding model of folders that name none: a hub name or a local directory."
    )
    device: Device = setting("auto", choice("auto", "cpu", "cuda", "mps"), "Where models run: auto, cpu, cuda or mps.")
    runtime: Runtime = setting(
        "auto",
        choice("auto", "torch", "onnx"),
        "What runs models: auto, torch or onnx; auto is onnx on the CPU and torch on a GPU.",
    )
    allow_remote_code: tuple[str, ...] = setting(
        (), model_names, "Models whose own Python code may run; only for sources you trust."
    )
    offline: bool = setting(False, boolean, "Never download a model, use only what is on this machine.")


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """The ``[slot]`` table: the one place in memory where a model lives."""

    keep_warm: float = setting(
        300.0, number(0, 86_400), "Seconds a model stays loaded for the next search after the last one."
    )
    starvation_cap: float = setting(
        600.0, number(0, 86_400), "Seconds a folder waits for another model's warm time at most; 0: no limit."
    )
    allow_cpu_fallback: bool = setting(True, boolean, "Load on the CPU when the GPU cannot take the model.")


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The ``[search]`` table."""

    wait: float = setting(20.0, number(0.1, 600), "Seconds after which a search answers with what it has.")
    load_wait: float = setting(
        2.0, number(0, 600), "Seconds a search waits for a model that is being loaded, before it answers by word."
    )
    rerank: str = setting(
        "", model_name_or_none, "Reranker that reads the best hits again and orders them anew; empty: none."
    )
    rerank_top: int = setting(20, whole_number(2, 100), "How many of the best hits the reranker reads.")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The ``[index]`` table."""

    max_file_mb: float = setting(50.0, number(0.001, 4096), "Largest file to index, in MiB (1,048,576 bytes).")
    exclude: tuple[str, ...] = setting((), patterns, "Patterns to leave out of every folder, in gitignore syntax.")
    include: tuple[str, ...] = setting(
        (), patterns, "Patterns to index although a rule leaves them out (hidden, built-in, secret, .gitignore)."
    )
    hidden: bool = setting(False, boolean, "Index files and directories whose name starts with a dot.")
    watch: bool = setting(True, boolean, "Notice changes as they happen; false: only by the rescan.")
    rescan_minutes: float = setting(
        20.0, number(0, 10_080), "Minutes between full comparisons of folder and index; 0: only at start."
    )
    parser_workers: int = setting(1, whole_number(1, 64), "Processes that read and cut files.")


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """The ``[secrets]`` table: which keys, tokens and passwords are not blanked. A change reads every file again."""

    allow: tuple[str, ...] = setting(
        (), secret_patterns, "Secrets to show: regular expressions (RE2), each for a whole token."
    )
    allow_files: tuple[str, ...] = setting(
        (), patterns, "Files in which nothing is blanked, in gitignore syntax, relative to each folder."
    )


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """The ``[owner]`` table: the background process that all clients share."""

    linger: float = setting(
        7200.0, number(0, 604_800), "Seconds it goes on with unfinished indexing after the last client left."
    )
    idle_exit: float = setting(600.0, number(0, 604_800), "Seconds without client and work after which it ends.")


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The ``[oidc]`` table: the identity provider whose tokens ``serve --http`` takes."""

    issuer: str = setting("", issuer_or_none, "Identity provider (OpenID Connect) whose tokens are taken, or empty.")
    audience: str = setting("", text_or_none, "What a token must be made for (aud); required with issuer.")
    resource: str = setting("", address_or_none, "Address clients use for this server, to tell them the provider.")
    groups_claim: str = setting("groups", text_or_none, "Claim that names the user's groups; dots lead into objects.")
    subject_claim: str = setting("sub", text_or_none, "Claim that names the user.")
    algorithms: tuple[str, ...] = setting((), algorithms, "Signature algorithms taken; empty: all with a public key.")
    leeway: float = setting(30.0, number(0, 300), "Seconds that the provider's clock may differ.")


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """The ``[record]`` table: who was shown what."""

    days: int = setting(30, whole_number(0, 3650), "Days that the record of answers is kept; 0: none is written.")
    queries: bool = setting(False, boolean, "Write what was asked into the record too.")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was set, checked; nothing else reads the configuration file or the environment.

    Attributes:
        data_dir: Where index, logs and locks are; absolute, need not exist yet.
        config_file: The file that was read, None when there was none.
        folders: The folders of the file, in its order; paths absolute, links not resolved, perhaps missing.
        parser_python: Interpreter for the parser processes (``PYTHON_PATH``), None for the running one.
        hub_cache: Where downloaded models are kept.
    """

    data_dir: Path
    config_file: Path | None = None
    folders: tuple[FolderSettings, ...] = ()
    model: ModelSettings = ModelSettings()
    slot: SlotSettings = SlotSettings()
    search: SearchSettings = SearchSettings()
    index: IndexSettings = IndexSettings()
    secrets: SecretSettings = SecretSettings()
    owner: OwnerSettings = OwnerSettings()
    oidc: OidcSettings = OidcSettings()
    record: RecordSettings = RecordSettings()
    parser_python: str | None = None
    hub_cache: Path = Path("~/.cache/huggingface/hub")


TABLES: Mapping[str, type[Any]] = MappingProxyType(
    {
        "model": ModelSettings,
        "slot": SlotSettings,
        "search": SearchSettings,
        "index": IndexSettings,
        "secrets": SecretSettings,
        "owner": OwnerSettings,
        "oidc": OidcSettings,
        "record": RecordSettings,
    }
)
"""The tables of the file by name, beside ``[[folders]]`` (``FolderSettings``) and ``data_dir``."""


def checks_of(table: type[Any]) -> Mapping[str, Check]:
    """The keys of a table and the check of each."""
    return {each.name: each.metadata["check"] for each in fields(table)}


# Reading the configuration ------------------------------------------------------------------------------------------

__all__ = [
    "ENVIRONMENT",
    "Config",
    "FolderSettings",
    "IndexSettings",
    "ModelSettings",
    "OidcSettings",
    "OwnerSettings",
    "RecordSettings",
    "SearchSettings",
    "SecretSettings",
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
    table = _read_toml(file, named=named)
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
    """The file to read, and whether it was named by flag or environment variable."""
    named = flag or _path(environ.get("FOLDER_MCP_CONFIG"))
    if named is not None:
        return _absolute(named), True
    import platformdirs  # noqa: PLC0415  # 22 ms that a named file does not need

    return Path(platformdirs.user_config_dir(_NAME, appauthor=False)) / "config.toml", False


def _default_data_dir() -> Path:
    import platformdirs  # noqa: PLC0415

    return Path(platformdirs.user_data_dir(_NAME, appauthor=False))


def _hub_cache(environ: Mapping[str, str]) -> Path:
    """Where the hub's own library looks: HF_HUB_CACHE, else HF_HOME/hub, else the user's cache directory."""
    if environ.get("HF_HUB_CACHE"):
        return _absolute(Path(environ["HF_HUB_CACHE"]))
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return _absolute(Path(home)) / "hub"


def _read_toml(file: Path, *, named: bool) -> dict[str, Any] | None:
    """The file's tables; None when it is missing and was not named."""
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


def _from_table(table: dict[str, Any], file: Path, data_dir_named: Path | None) -> Config:
    """Check every table and key of the file; ``data_dir_named`` is the data directory of flag or environment."""
    _reject_unknown(table, ["data_dir", "folders", *TABLES], "at the top level", file)
    tables = {name: _table(kind, table.get(name, {}), f"[{name}]", file) for name, kind in TABLES.items()}
    folders = _folders(table.get("folders", []), file)
    in_file = _checked(folder_path, table["data_dir"], "data_dir", file) if "data_dir" in table else None
    if data_dir_named is not None:
        data_dir = _absolute(data_dir_named)
    else:
        data_dir = _absolute(Path(in_file), file.parent) if in_file else _default_data_dir()
    _check_provider(tables["oidc"], file)
    return Config(data_dir=data_dir, folders=folders, **tables)


def _check_provider(oidc: OidcSettings, file: Path) -> None:
    if oidc.issuer and not oidc.audience:
        raise ConfigError(
            f"{file}: [oidc] has an issuer and no audience: tokens made for any other program would be taken; write "
            "what your provider puts into aud for this server"
        )


def _folders(tables: object, file: Path) -> tuple[FolderSettings, ...]:
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f'{file}: "folders" must be written as [[folders]] tables, each with a path')
    found: list[FolderSettings] = []
    for position, each in enumerate(tables, 1):
        where = f"[[folders]] number {position}"
        folder = _table(FolderSettings, each, where, file)
        if not folder.path:
            raise ConfigError(f'{file}: {where} has no "path"; add path = "/the/folder"')
        found.append(replace(folder, path=str(_absolute(Path(folder.path), file.parent))))
    return tuple(found)


def _table(kind: type[Any], table: object, where: str, file: Path) -> Any:
    """Check one table and make its dataclass."""
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {where.strip('[]')} must be a table, written as {where} with its keys below")
    checks = checks_of(kind)
    _reject_unknown(table, checks, f"in {where}", file)
    return kind(**{key: _checked(checks[key], value, f"{where} {key}", file) for key, value in table.items()})


def _checked(check: Any, value: object, key: str, file: Path) -> Any:
    try:
        checked = check(value)
    except ValueError as error:
        shown = repr(value)
        raise ConfigError(f"{file}: {key} {error}, not {shown if len(shown) < 80 else shown[:77] + '...'}") from error
    if check is model_name:
        return _absolute_if_local(checked, file)
    return tuple(_absolute_if_local(name, file) for name in checked) if check is model_names else checked


def _absolute_if_local(model: str, file: Path) -> str:
    """A local model directory as an absolute path, a hub name as it is."""
    return str(_absolute(Path(model), file.parent)) if model.startswith(LOCAL_PREFIXES) else model


def _reject_unknown(table: Mapping[str, Any], allowed: Iterable[str], where: str, file: Path) -> None:
    """Raise ``ConfigError`` for the first key that does not exist, and suggest the nearest that does."""
    known = list(allowed)
    for key in table:
        if key in known:
            continue
        home = [name for name, kind in TABLES.items() if key in checks_of(kind)]
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


def _absolute(path: Path, base: Path | None = None) -> Path:
    """Absolute, ``~`` expanded, ``..`` resolved by name; links are kept, and nothing need exist.

    Args:
        path: Any spelling of it.
        base: Where relative paths begin; None is the working directory, which may be gone, and is asked only for them.
    """
    try:
        expanded = path.expanduser()
        if not expanded.is_absolute():
            expanded = (base or Path.cwd()) / expanded
        return Path(os.path.normpath(expanded))
    except RuntimeError as error:
        raise ConfigError(f"{path}: there is no such user's home directory; write the path in full") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: the working directory does not exist any more; write the path in full") from error
