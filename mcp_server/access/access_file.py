"""``access.toml`` in the data directory: whose tokens may see which folders, and which folders a group may see.

People edit it, so everything in it is checked. A file that is wrong in one place grants nobody anything.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from indexer.errors import ConfigError

log = logging.getLogger(__name__)

ACCESS_FILE = "access.toml"
MAX_BYTES = 1024 * 1024
"""Size of the file at most: tens of thousands of users."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names of tokens: keys of TOML without quotes, nothing that a terminal or a path would take for more."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_USER_KEYS = ("token_sha256", "folders", "groups", "expires", "created")
NOBODY = "nobody gets in by it until that is corrected"


class AccessFileError(ConfigError):
    """``access.toml`` is wrong: names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One token.

    Attributes:
        name: Whose it is.
        token_sha256: SHA-256 of the token, 64 hexadecimal digits.
        folders: Absolute paths, links resolved, those of its groups included; never empty.
        groups: Names of its groups.
        expires: When it stops to count, seconds since the epoch; None never.
        created: When it was made, as it was written; may be empty.
    """

    name: str
    token_sha256: str
    folders: tuple[str, ...]
    groups: tuple[str, ...] = ()
    expires: float | None = None
    created: str = ""


@dataclass(frozen=True, slots=True)
class Grants:
    """What the file says; nothing when there is none.

    Attributes:
        users: Tokens by name.
        groups: Folders by the group's name.
    """

    users: Mapping[str, Grant] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def folders_of(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Return the folders that any of the groups may see; groups that the file does not name have none."""
        return _unique(folder for group in groups for folder in self.groups.get(group, ()))


def parse(text: str, file: Path) -> Grants:
    """Check the whole text and return what it grants.

    Args:
        text: Of the file.
        file: Its name, for errors.

    Raises:
        AccessFileError: Anything in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AccessFileError(f"{file}: not valid TOML: {error}; {NOBODY}") from None
    except RecursionError:
        raise AccessFileError(f"{file}: nested too deep; {NOBODY}") from None
    reader = _Reader(text, file)
    for key in document:
        if key not in ("users", "groups"):
            raise reader.error((key,), f'unknown "{key}"; there are [users.NAME] and [groups.NAME]')
    groups = {name: reader.group(name, each) for name, each in reader.tables(document, "groups").items()}
    users: dict[str, Grant] = {}
    digests: dict[str, str] = {}
    for name, each in reader.tables(document, "users").items():
        grant = users[name] = reader.user(name, each, groups)
        other = digests.setdefault(grant.token_sha256, name)
        if other != name:
            raise reader.error(("users", name, "token_sha256"), f"{name} has the token of {other}; each needs its own")
    return Grants(users, groups)


class _Reader:
    """Checks the tables of one file and says where something is wrong."""

    def __init__(self, text: str, file: Path) -> None:
        self._lines = text.splitlines()
        self._file = file

    def error(self, path: tuple[str, ...], what: str) -> AccessFileError:
        return AccessFileError(f"{self._file}: line {self._line_of(path)}: {what}; {NOBODY}")

    def tables(self, document: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        found = document.get(kind, {})
        if not isinstance(found, dict):
            raise self.error((kind,), f"{kind} must be tables, each written as [{kind}.NAME] with its keys below")
        for name, table in found.items():
            if not isinstance(table, dict):
                raise self.error((kind, name), f"{name} must be a table, written as [{kind}.{name}]")
        return found

    def group(self, name: str, table: Mapping[str, Any]) -> tuple[str, ...]:
        if not name or len(name) > 256 or not name.isprintable():
            raise self.error(("groups", name), f"{name[:80]!r} is no name of a group")
        self._known_keys(("groups", name), table, ("folders",))
        return self._folders(("groups", name, "folders"), table.get("folders", []))

    def user(self, name: str, table: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> Grant:
        path = ("users", name)
        if not NAME.fullmatch(name):
            raise self.error(path, f"{name[:80]!r} is no name; take letters, digits, - and _, 64 at most")
        self._known_keys(path, table, _USER_KEYS)
        digest = table.get("token_sha256")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise self.error(
                (*path, "token_sha256"), f"{name} needs token_sha256, 64 hexadecimal digits; `access add` writes it"
            )
        names = table.get("groups", [])
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise self.error((*path, "groups"), f'groups of {name} must be a list of names, such as ["team"]')
        for one in names:
            if one not in groups:
                raise self.error(
                    (*path, "groups"), f"{name} is in group {one!r}, which is missing; add [groups.{one}]"
                )
        folders = self._folders((*path, "folders"), table.get("folders", []))
        folders = _unique([*folders, *(folder for one in names for folder in groups[one])])
        return Grant(name, digest, folders, tuple(names), self._expires(path, table), str(table.get("created", "")))

    def _folders(self, path: tuple[str, ...], value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(path, 'folders must be a list of paths, such as ["/srv/notes"]')
        found = []
        for one in value:
            folder = os.path.expanduser(one)
            if not os.path.isabs(folder) or "\0" in folder:
                raise self.error(path, f"the folder {one!r} must be an absolute path")
            found.append(os.path.realpath(folder))
        return _unique(found)

    def _expires(self, path: tuple[str, ...], table: Mapping[str, Any]) -> float | None:
        if "expires" not in table:
            return None
        try:
            return moment(table["expires"])
        except ValueError:
            raise self.error(
                (*path, "expires"), 'expires must be a date or a time, such as "2026-12-31" or "2026-12-31T18:00:00Z"'
            ) from None

    def _known_keys(self, path: tuple[str, ...], table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                raise self.error((*path, key), f'unknown key "{key}" of {path[1]}; allowed are {", ".join(known)}')

    def _line_of(self, path: tuple[str, ...]) -> int:
        """Return the line, from 1, of a key, else of its table, else 1: tables may be written in many ways."""
        plain = [re.sub(r"""["'\s]""", "", line) for line in self._lines]
        header = "[" + ".".join(path[:2]) + "]"
        top = next((number for number, line in enumerate(plain) if line.startswith(header)), -1)
        for number in range(top + 1, len(plain)):
            if plain[number].startswith("["):
                break
            if plain[number].startswith(path[-1] + "="):
                return number + 1
        if top >= 0:
            return top + 1
        return next((number + 1 for number, line in enumerate(plain) if path[-1] in line), 1)


def moment(value: object) -> float:
    """Return the seconds since the epoch of a date or time; a day counts to its end, a time without zone is UTC.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, str):
        value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return (datetime.combine(value, time(), UTC) + timedelta(days=1)).timestamp()
    raise ValueError("neither date nor time")


def _unique(folders: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(folders))


# The file as it changes ---------------------------------------------------------------------------------------------


def read_text(file: Path) -> str:
    """Return the file's text, empty when there is no file.

    Raises:
        AccessFileError: It cannot be read, is too large, or others can write it.
    """
    try:
        with file.open("rb") as stream:
            about = os.fstat(stream.fileno())
            if os.name == "posix" and (about.st_uid != os.getuid() or about.st_mode & 0o022):
                raise AccessFileError(f"{file}: other users can change it, so {NOBODY}: chmod 600 {file}")
            if about.st_size > MAX_BYTES or not stat.S_ISREG(about.st_mode):
                raise AccessFileError(f"{file}: no file of {MAX_BYTES:,} bytes at most; nobody gets in by it")
            return stream.read().decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise AccessFileError(f"{file}: cannot be read ({error.strerror}); {NOBODY}") from error
    except ValueError as error:
        raise AccessFileError(f"{file}: cannot be read ({error}); {NOBODY}") from None


class AccessFile:
    """The file, read again whenever it has changed. May be used by several threads; every use looks at the disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._seen: object = ()
        self._grants = Grants()
        self._problem = ""

    def grants(self) -> Grants:
        """Return what the file grants now; nothing, and one line in the log, when it is wrong."""
        with self._lock:
            identity = self._identity()
            if identity != self._seen:
                try:
                    self._grants = parse(read_text(self.file), self.file)
                except AccessFileError as error:
                    if str(error) != self._problem:
                        log.error("%s", error)
                    self._grants, self._problem = Grants(), str(error)
                    if isinstance(error.__cause__, OSError):
                        return self._grants  # descriptors may be there again the next time, with the file as it is
                else:
                    self._problem = ""
                self._seen = identity
            return self._grants

    def _identity(self) -> object:
        """What differs after every change: a replaced file has another number, an edited one another time or size."""
        try:
            about = os.stat(self.file)
        except OSError as error:
            return error.errno
        return about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_mode, about.st_uid
