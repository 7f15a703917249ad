"""Which data directory a command line means, found without the libraries that reading the whole configuration takes.

Standard library only. The rules are those of ``indexer.config.load_config``; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import ntpath
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "folder-mcp"


class Location:
    """Where one command line points.

    Attributes:
        config: The configuration file somebody named, absolute; empty for the user's own.
        data_dir: The data directory, absolute.
        fingerprint: Digest of the configuration file's text, to see whether two processes read the same.
    """

    __slots__ = ("config", "data_dir", "fingerprint")

    def __init__(self, config: str, data_dir: str, fingerprint: str) -> None:
        self.config = config
        self.data_dir = data_dir
        self.fingerprint = fingerprint


def user_config() -> str:
    """Return where the user's own configuration file is, or would be."""
    return _default("config", "config.toml")


def locate(config: str | None, data_dir: str | None, environ: Mapping[str, str]) -> Location:
    """Find the data directory of a command line.

    Args:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        environ: The environment.

    Raises:
        ValueError: The configuration cannot be read; whoever reads it in full explains it.
    """
    named = config or environ.get("FOLDER_MCP_CONFIG")
    file = _absolute(named, os.getcwd()) if named else _default("config", "config.toml")
    text = _text(file, must=bool(named))
    chosen = data_dir or environ.get("FOLDER_MCP_DATA_DIR")
    if chosen:
        found = _absolute(chosen, os.getcwd())
    else:
        written = _written(text)
        found = _absolute(written, os.path.dirname(file)) if written else _default("data", "")
    return Location(file if named else "", found, hashlib.sha256(text).hexdigest()[:16])


def _text(file: str, *, must: bool) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        if not must:
            return b""
        raise ValueError(file) from None
    except OSError as error:
        raise ValueError(file) from error


def _written(text: bytes) -> str:
    """Return the file's ``data_dir``, or nothing."""
    if b"data_dir" not in text:
        return ""
    import tomllib  # noqa: PLC0415 - 30 ms that hardly any start needs

    value = tomllib.loads(text.decode("utf-8-sig")).get("data_dir", "")
    if not isinstance(value, str):
        raise ValueError("data_dir must be a path")
    return value


def _absolute(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def _default(kind: str, name: str) -> str:
    """Return the platform's place, as platformdirs has it: XDG_* count on a Mac too."""
    # house: the platform's own variables decide a path only here, as platformdirs lets them
    windows, mac = sys.platform == "win32", sys.platform == "darwin"
    variable = "LOCALAPPDATA" if windows else f"XDG_{kind.upper()}_HOME"
    named = os.environ.get(variable, "").strip()  # house: the platform's own variable
    below = {"config": ".config", "data": ".local/share"}[kind]
    usual = "~/AppData/Local" if windows else "~/Library/Application Support" if mac else f"~/{below}"
    base = named if (ntpath.isabs(named) and windows) or os.path.isabs(named) else os.path.expanduser(usual)
    found = os.path.join(base, NAME)
    return os.path.join(found, name) if name else found
