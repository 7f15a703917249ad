"""Logging: warnings to stderr, everything to a rotating file. Never to stdout: that belongs to the protocol.

Secrets are blanked in every line: messages and tracebacks quote names of files and what libraries say of their text.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE_NAME = "folder-mcp.log"
MAX_BYTES = 2_000_000
KEPT_FILES = 3
"""Older files kept beside the current one."""

# Libraries whose INFO messages are of no use to our users.
_QUIET_LIBRARIES = ("httpx", "httpx2", "httpcore", "mcp", "watchfiles", "urllib3", "filelock", "huggingface_hub")


class BlankingFormatter(logging.Formatter):
    """As its base class, with every secret blanked, in the traceback too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines with a traceback."""
        from indexer.text.secrets import blank  # noqa: PLC0415 - a relay that logs nothing does not need it

        return blank(self.text_of(record)).text

    def text_of(self, record: logging.LogRecord) -> str:
        """Return what would be written without blanking."""
        return super().format(record)


class OneLineFormatter(BlankingFormatter):
    """One line for people; the log file has the traceback."""

    def text_of(self, record: logging.LogRecord) -> str:
        """Return the message alone."""
        return "folder-mcp: " + " ".join(record.getMessage().split())


def folder_for(data_dir: Path | None) -> Path:
    """Return the folder of logs: below the data directory, or the platform's log directory when there is none."""
    if data_dir is not None:
        return data_dir / "logs"
    import platformdirs  # noqa: PLC0415 - only without a data directory

    return Path(platformdirs.user_log_dir("folder-mcp", appauthor=False))


def configure(folder: Path | None, *, verbose: bool = False) -> Path | None:
    """Set up the root logger; call before an ``MCPServer`` is built, which would set up its own.

    Args:
        folder: Where the log file goes; created if needed. None writes no file.
        verbose: Also show information and details on stderr.

    Returns:
        The log file, or None if there is none; the reason is then logged.
    """
    logging.raiseExceptions = False  # with a full disk every message would print the same error
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(logging.DEBUG if verbose else logging.WARNING)
    stderr.setFormatter(BlankingFormatter("folder-mcp: %(levelname)s: %(message)s") if verbose else OneLineFormatter())
    root.addHandler(stderr)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return _to_file(root, folder) if folder is not None else None


def _to_file(root: logging.Logger, folder: Path) -> Path | None:
    path = folder / FILE_NAME
    try:
        for each in (folder.parent, folder):  # ``parents`` would make the data directory readable for others
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = RotatingFileHandler(
            path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        root.warning("no log file: %s", error)
        return None
    file.setFormatter(BlankingFormatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    root.addHandler(file)
    return path
