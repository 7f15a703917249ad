"""Who owns a data directory: its runtime directory, a lock that the kernel releases, the owner's files.

Standard library only. The runtime directory is found without the environment: clients start servers with a handful of
variables, and two processes that look in different directories would elect two owners.
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
"""Major version of the protocol between relays and owners."""
MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path that fit everywhere (macOS has 104 with the closing zero)."""
_LONGEST = "/0123456789abcdef/owner-01234567.sock"


class OwnerFiles:
    """The files of one data directory's owner, in the user's runtime directory.

    Attributes:
        directory: Readable by the user alone (0700).
        lock_file: Locked by the owner for as long as it lives; never unlinked.
        state_file: The owner's process, version and endpoint (JSON); written when the endpoint answers.
        token_file: Secret of the owner where there is no unix socket (0600).
        successor_file: Left by an owner that stands down: the version that asked for it.
        log_file: The owner's stderr: what it writes before and beside its own log.
    """

    __slots__ = ("directory", "lock_file", "log_file", "state_file", "successor_file", "token_file")

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.lock_file = os.path.join(directory, "owner.lock")
        self.state_file = os.path.join(directory, "owner.json")
        self.token_file = os.path.join(directory, "token")
        self.successor_file = os.path.join(directory, "heir.json")
        self.log_file = os.path.join(directory, "owner.log")


def owner_files_for(data_dir: str, base: str | None = None) -> OwnerFiles:
    """Return the files of a data directory's owner; their directory is created if needed.

    Args:
        data_dir: The data directory; need not exist.
        base: The user's runtime directory, None for the platform's.

    Raises:
        OSError: There is no private directory for them; says why.
    """
    real = os.path.normcase(os.path.realpath(data_dir))
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    directory = os.path.join(base or _runtime_directory(), name)
    _ensure_private(directory)
    return OwnerFiles(directory)


def _runtime_directory() -> str:
    """Return the user's own directory for files that live as long as processes do."""
    refused = "no candidate"
    for base in _runtime_directory_candidates():
        if len(os.fsencode(base + _LONGEST)) > MAX_SOCKET_PATH:
            refused = f"{base}: too long for a socket's path"
            continue
        try:
            _ensure_private(base)
        except OSError as error:
            refused = str(error)
        else:
            return base
    raise OSError(f"no private runtime directory: {refused}")


def _runtime_directory_candidates() -> list[str]:
    if sys.platform == "win32":
        return [os.path.join(os.path.expanduser("~"), "AppData", "Local", "folder-mcp", "run")]
    found = []
    if sys.platform == "linux" and os.path.isdir(f"/run/user/{os.getuid()}"):
        found.append(f"/run/user/{os.getuid()}/folder-mcp")
    if sys.platform == "darwin":
        temporary = os.confstr(65537)  # _CS_DARWIN_USER_TEMP_DIR: what TMPDIR holds in a login session
        found += [os.path.join(temporary, "folder-mcp")] if temporary else []
    return [*found, f"/tmp/folder-mcp-{os.getuid()}"]  # noqa: S108 - checked to be ours, 0700 and no link


def _ensure_private(directory: str) -> None:
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
    """The lock of a data directory's owner: exclusive, held until ``release`` or the end of the process."""

    def __init__(self, owner_files: OwnerFiles) -> None:
        self.owner_files = owner_files
        self._fd = -1

    def acquire(self) -> bool:
        """Acquire the lock without waiting; False when another process has it."""
        for _ in range(100):
            fd = os.open(self.owner_files.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
            if not _flock(fd, shared=False):
                os.close(fd)
                return False
            self._fd = fd
            if self.holds():  # else the file was replaced between opening and locking: lock the new one
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=self.release)  # a fork must not go on holding it
                return True
            self.release()
        raise OSError(f"{self.owner_files.lock_file} is being replaced all the time")

    def holds(self) -> bool:
        """Whether the locked file is still the one that other processes would open."""
        try:
            there, here = os.stat(self.owner_files.lock_file), os.fstat(self._fd)
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


def is_held(owner_files: OwnerFiles) -> bool:
    """Whether a data directory has an owner, answering or not."""
    try:
        fd = os.open(owner_files.lock_file, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _flock(fd, shared=True)
    finally:
        os.close(fd)


def wait_until_released(owner_files: OwnerFiles) -> None:
    """Return when there is no owner any more. Blocks in the kernel; call it in a thread."""
    if sys.platform == "win32":
        while is_held(owner_files):
            time.sleep(0.5)
        return
    fd = os.open(owner_files.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


if sys.platform == "win32":
    import msvcrt

    def _flock(fd: int, *, shared: bool) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _flock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# Which data directory a command line means --------------------------------------------------------------------------
# Found without the libraries that ``indexer.config.load_config`` needs. The rules are the same: a test compares them.

NAME = "folder-mcp"


class Location:
    """The configuration and the data directory of one command line.

    Attributes:
        config: The configuration file from a flag or variable, absolute; empty for the user's own.
        data_dir: The data directory, absolute.
        fingerprint: Digest of the configuration file's text, to see whether two processes read the same.
    """

    __slots__ = ("config", "data_dir", "fingerprint")

    def __init__(self, config: str, data_dir: str, fingerprint: str) -> None:
        self.config = config
        self.data_dir = data_dir
        self.fingerprint = fingerprint


def user_config_path() -> str:
    """Return where the user's own configuration file is, or would be."""
    return _platform_path("config", "config.toml")


def locate(config: str | None, data_dir: str | None, environ: Mapping[str, str]) -> Location:
    """Find the data directory of a command line.

    Args:
        config: From ``--config``, or None.
        data_dir: From ``--data-dir``, or None.
        environ: The environment.

    Raises:
        ValueError: The configuration cannot be read; ``load_config`` explains why.
    """
    named = config or environ.get("FOLDER_MCP_CONFIG")
    file = _absolute(named, os.getcwd()) if named else _platform_path("config", "config.toml")
    text = _read_config(file, required=bool(named))
    chosen = data_dir or environ.get("FOLDER_MCP_DATA_DIR")
    if chosen:
        found = _absolute(chosen, os.getcwd())
    else:
        configured = _configured_data_dir(text)
        found = _absolute(configured, os.path.dirname(file)) if configured else _platform_path("data", "")
    return Location(file if named else "", found, hashlib.sha256(text).hexdigest()[:16])


def _read_config(file: str, *, required: bool) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        if not required:
            return b""
        raise ValueError(file) from None
    except OSError as error:
        raise ValueError(file) from error


def _configured_data_dir(text: bytes) -> str:
    """Return the configuration file's ``data_dir``; empty when it has none."""
    if b"data_dir" not in text:
        return ""
    import tomllib  # noqa: PLC0415 - 30 ms that hardly any start needs

    value = tomllib.loads(text.decode("utf-8-sig")).get("data_dir", "")
    if not isinstance(value, str):
        raise ValueError("data_dir must be a path")
    return value


def _absolute(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))


def _platform_path(kind: str, name: str) -> str:
    """Return the platform's directory, as ``platformdirs`` has it: XDG_* count on a Mac too."""
    windows, mac = sys.platform == "win32", sys.platform == "darwin"
    variable = "LOCALAPPDATA" if windows else f"XDG_{kind.upper()}_HOME"
    named = os.environ.get(variable, "").strip()  # environment: the platform's own variable, as in platformdirs
    below = {"config": ".config", "data": ".local/share"}[kind]
    usual = "~/AppData/Local" if windows else "~/Library/Application Support" if mac else f"~/{below}"
    base = named if (ntpath.isabs(named) and windows) or os.path.isabs(named) else os.path.expanduser(usual)
    found = os.path.join(base, NAME)
    return os.path.join(found, name) if name else found
