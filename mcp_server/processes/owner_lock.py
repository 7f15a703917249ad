"""Who owns a data directory: the runtime directory, a lock the kernel drops, and the note that says where to dial.

Standard library only. The directory is found without the environment: clients start servers with a handful of
variables, and two processes that look in different places would elect two owners.
"""

from __future__ import annotations

import contextlib
import hashlib
import ntpath
import os
import stat
import sys
import time

TYPE_CHECKING = False  # by hand: a relay does without the module ``typing``

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


PROTOCOL = 1
"""Major version of what relays and owners say to each other."""
MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path that fit everywhere (macOS has 104 with the closing zero)."""
_LONGEST = "/0123456789abcdef/owner-01234567.sock"


class Place:
    """The files of one data directory's owner, in the user's runtime directory.

    Attributes:
        directory: Readable by the user alone (0700).
        lock: Held by the owner for as long as it lives; never unlinked.
        note: What the owner says of itself (JSON); written when its endpoint answers.
        token: Secret of the owner where there is no unix socket (0600).
        heir: Left by an owner that stands down: the version that asked for it.
        log: What the owner writes before and beside its own log.
    """

    __slots__ = ("directory", "heir", "lock", "log", "note", "token")

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.lock = os.path.join(directory, "owner.lock")
        self.note = os.path.join(directory, "owner.json")
        self.token = os.path.join(directory, "token")
        self.heir = os.path.join(directory, "heir.json")
        self.log = os.path.join(directory, "owner.log")


def place_of(data_dir: str, base: str | None = None) -> Place:
    """Return the place of a data directory's owner, created if needed.

    Args:
        data_dir: The data directory; need not exist.
        base: The user's runtime directory, None for the platform's.

    Raises:
        OSError: No private directory can be had; says why.
    """
    real = os.path.normcase(os.path.realpath(data_dir))
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    directory = os.path.join(base or _runtime_directory(), name)
    _private(directory)
    return Place(directory)


def _runtime_directory() -> str:
    """Return the user's own directory for what lives as long as processes do."""
    refused = "no candidate"
    for base in _candidates():
        if len(os.fsencode(base + _LONGEST)) > MAX_SOCKET_PATH:
            refused = f"{base}: too long for a socket's path"
            continue
        try:
            _private(base)
        except OSError as error:
            refused = str(error)
        else:
            return base
    raise OSError(f"no private runtime directory: {refused}")


def _candidates() -> list[str]:
    if sys.platform == "win32":
        return [os.path.join(os.path.expanduser("~"), "AppData", "Local", "folder-mcp", "run")]
    found = []
    if sys.platform == "linux" and os.path.isdir(f"/run/user/{os.getuid()}"):
        found.append(f"/run/user/{os.getuid()}/folder-mcp")
    if sys.platform == "darwin":
        temporary = os.confstr(65537)  # _CS_DARWIN_USER_TEMP_DIR: what TMPDIR holds in a login session
        found += [os.path.join(temporary, "folder-mcp")] if temporary else []
    return [*found, f"/tmp/folder-mcp-{os.getuid()}"]  # noqa: S108 - checked to be ours, 0700 and no link


def _private(directory: str) -> None:
    """Create a directory for the user alone, or check that it is one."""
    with contextlib.suppress(FileExistsError):
        os.makedirs(directory, mode=0o700)
    if sys.platform == "win32":
        return
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} is not a directory of this user")
    if found.st_mode & 0o077:
        os.chmod(directory, 0o700)


class OwnerLock:
    """The right to be the owner, held until ``release`` or the end of the process, however it ends."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._fd = -1

    def take(self) -> bool:
        """Take the lock without waiting; False when somebody else has it."""
        for _ in range(100):
            fd = os.open(self.place.lock, os.O_RDWR | os.O_CREAT, 0o600)
            if not _lock(fd, shared=False):
                os.close(fd)
                return False
            self._fd = fd
            if self.holds():  # else the file was replaced between opening and locking: lock the new one
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=self.release)  # a fork must not go on holding it
                return True
            self.release()
        raise OSError(f"{self.place.lock} is being replaced all the time")

    def holds(self) -> bool:
        """Whether the locked file is still the one that others would open."""
        try:
            there, here = os.stat(self.place.lock), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def release(self) -> None:
        """Close the lock; closing, not unlocking, so that copies of it in other processes do not lose it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> OwnerLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def held(place: Place) -> bool:
    """Whether somebody is the owner, answering or not."""
    try:
        fd = os.open(place.lock, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(fd, shared=True)
    finally:
        os.close(fd)


def wait_until_free(place: Place) -> None:
    """Return when nobody is the owner any more. Blocks in the kernel; call it in a thread."""
    if sys.platform == "win32":
        while held(place):
            time.sleep(0.5)
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    fd = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# Where the data directory is ----------------------------------------------------------------------------------------
# Which data directory a command line means, found without the libraries that reading the whole configuration takes.
#
# Standard library only. The rules are those of ``indexer.config.load_config``; a test holds the two together.

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
