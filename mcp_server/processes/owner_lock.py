"""Who owns a data directory: its runtime directory, a lock that the kernel releases, the owner's files.

Standard library only. The runtime directory is found without the environment: clients start servers with a handful of
variables, and two processes that look in different directories would elect two owners. There are several candidates,
since another user may hold one; an owner is looked for in all of them before there is a new one.
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
    from collections.abc import Iterator, Mapping
    from types import TracebackType


PROTOCOL = 1
"""Major version of the protocol between relays and owners."""
MAX_SOCKET_PATH = 103
"""Bytes of a unix socket's path that fit everywhere (macOS has 104 with the closing zero)."""
_LONGEST = "/0123456789abcdef/owner-01234567.sock"
_lstat = os.lstat  # tests replace it: only root can make a directory of another user


class NoRuntimeDirectory(OSError):
    """No directory of this user's own can be had for the owner's files; says why, and what to do."""


class OwnerFiles:
    """The files of one data directory's owner, in the user's runtime directory.

    Attributes:
        directory: Readable by the user alone (0700).
        shared: Whether the platform's candidates were searched for it; False for a directory that was named.
        passed_over: Why candidates that go before it are not used, one sentence each.
        lock_file: Locked by the owner for as long as it lives; never unlinked.
        state_file: The owner's process, version and endpoint (JSON); written when the endpoint answers.
        token_file: Secret of the owner where there is no unix socket (0600).
        successor_file: Left by an owner that stands down: the version that asked for it.
        successor_lock: Locked by the relays that ask an owner to stand down, until the next owner answers them.
        log_file: The owner's stderr: what it writes before and beside its own log.
    """

    __slots__ = (
        "directory",
        "lock_file",
        "log_file",
        "passed_over",
        "shared",
        "state_file",
        "successor_file",
        "successor_lock",
        "token_file",
    )

    def __init__(self, directory: str, *, shared: bool = False, passed_over: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.shared = shared
        self.passed_over = passed_over
        self.lock_file = os.path.join(directory, "owner.lock")
        self.state_file = os.path.join(directory, "owner.json")
        self.token_file = os.path.join(directory, "token")
        self.successor_file = os.path.join(directory, "successor.json")
        self.successor_lock = os.path.join(directory, "successor.lock")
        self.log_file = os.path.join(directory, "owner.log")


def owner_files_for(data_dir: str, base: str | None = None) -> OwnerFiles:
    """Return the files of a data directory's owner; their directory is created if needed.

    Where an owner lives, in whichever candidate for the runtime directory, its files; else those of the first
    candidate that this user can have.

    Args:
        data_dir: The data directory; need not exist.
        base: The user's runtime directory, None for the platform's.

    Raises:
        OSError: There is no private directory for them; says why. ``NoRuntimeDirectory`` where none was named.
    """
    real = os.path.normcase(os.path.realpath(data_dir))
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    if base is None:
        return _owner_files_named(name)
    directory = os.path.join(base, name)
    _ensure_private(directory)
    return OwnerFiles(directory)


def passed_over_sentence(files: OwnerFiles) -> str:
    """Return which places for the owner's files are not used, why, and which one is; empty when there is none."""
    if not files.passed_over:
        return ""
    used = os.path.dirname(files.directory)
    return f"The runtime directory {'; '.join(files.passed_over)}. {used} is used instead."


def owner_files_now(files: OwnerFiles) -> OwnerFiles:
    """Return the files of the owner there is now: while we ran, a candidate may have become usable, or unusable."""
    if not files.shared:
        return files
    try:
        return _owner_files_named(os.path.basename(files.directory))
    except OSError:
        return files


def _owner_files_named(name: str) -> OwnerFiles:
    """Find the owner's files in all candidates; ``name`` stands for the data directory."""
    bases = _runtime_directory_candidates()
    refused = {base: reason for base in bases if (reason := _refusal(base))}
    usable = [base for base in bases if base not in refused]

    def before(base: str) -> tuple[str, ...]:
        return tuple(refused[each] for each in bases[: bases.index(base)] if each in refused)

    for base in usable:
        if _held_in(os.path.join(base, name)):
            return OwnerFiles(os.path.join(base, name), shared=True, passed_over=before(base))
    for base in sorted(usable, key=lambda each: not fits_socket(os.path.join(each, name))):
        try:
            _ensure_private(base)
            _ensure_private(os.path.join(base, name))
        except OSError as error:
            refused[base] = str(error)
        else:
            return OwnerFiles(os.path.join(base, name), shared=True, passed_over=before(base))
    why = "; ".join(refused.values()) or "this system has none"
    raise NoRuntimeDirectory(f"no private runtime directory: {why}; have one of them removed or given to this user")


def fits_socket(directory: str) -> bool:
    """Whether the owner's directory is short enough for the path of a unix socket; else it listens on loopback."""
    return len(os.fsencode(os.path.dirname(directory) + _LONGEST)) <= MAX_SOCKET_PATH


def _runtime_directory_candidates() -> list[str]:
    """Return the places for the runtime directory, best first: every process of the user computes the same."""
    if sys.platform == "win32":
        return [os.path.join(os.path.expanduser("~"), "AppData", "Local", "folder-mcp", "run")]
    found = []
    if sys.platform == "linux" and os.path.isdir(f"/run/user/{os.getuid()}"):
        found.append(f"/run/user/{os.getuid()}/folder-mcp")
    if sys.platform == "darwin":
        temporary = os.confstr(65537)  # _CS_DARWIN_USER_TEMP_DIR: what TMPDIR holds in a login session
        found += [os.path.join(temporary, "folder-mcp")] if temporary else []
    found.append(f"/tmp/folder-mcp-{os.getuid()}")  # noqa: S108 - checked to be ours, 0700 and no link
    home = _home_in_user_database()
    caches = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return [*found, os.path.join(home, *caches, "folder-mcp", "run")] if home else found


def _home_in_user_database() -> str:
    """Return the home directory that the user database names, if it is this user's; nobody else can make one there."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
        found = os.stat(home)
    except (KeyError, OSError, ValueError):
        return ""
    ours = os.path.isabs(home) and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return home.rstrip("/") if ours else ""


def _refusal(directory: str) -> str:
    """Return why a directory cannot be used, empty if it is this user's, or missing."""
    if sys.platform == "win32":
        return ""
    try:
        found = _lstat(directory)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{directory} cannot be looked at ({error.strerror})"
    if found.st_uid != os.getuid():
        return f"{directory} belongs to {user_name(found.st_uid)}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is {'a link' if stat.S_ISLNK(found.st_mode) else 'not a directory'}"
    return ""


def user_name(uid: int) -> str:
    """Return how to call a user in a message: ``user nobody (65534)``, without a name where the system has none."""
    if sys.platform != "win32":
        with contextlib.suppress(KeyError):
            return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    return f"user {uid}"


def _ensure_private(directory: str) -> None:
    """Create a directory for the user alone, or check that it is one."""
    with contextlib.suppress(FileExistsError):
        os.makedirs(directory, mode=0o700)
    if sys.platform == "win32":
        return
    if reason := _refusal(directory):
        raise PermissionError(reason)
    if _lstat(directory).st_mode & 0o077:
        os.chmod(directory, 0o700)


def _held_in(directory: str) -> bool:
    """Whether an owner lives in a directory; one that is not this user's counts for nothing, whatever is in it."""
    try:
        if not stat.S_ISDIR(_lstat(directory).st_mode) or _refusal(directory):
            return False
    except OSError:
        return False
    return is_held(OwnerFiles(directory))


def _held_elsewhere(files: OwnerFiles) -> bool:
    """Whether an owner of the same data directory lives in another candidate for the runtime directory."""
    if not files.shared:
        return False
    name = os.path.basename(files.directory)
    directories = [os.path.join(base, name) for base in _runtime_directory_candidates() if not _refusal(base)]
    return any(each != files.directory and _held_in(each) for each in directories)


def _taken_over(files: OwnerFiles) -> str:
    """Return why the directory is not ours any more, empty if it is: it may have been removed, and made by another."""
    return (_refusal(os.path.dirname(files.directory)) or _refusal(files.directory)) if files.shared else ""


class OwnerLock:
    """The lock of a data directory's owner: exclusive, held until ``release`` or the end of the process."""

    def __init__(self, owner_files: OwnerFiles) -> None:
        self.owner_files = owner_files
        self._fd = -1

    def acquire(self) -> bool:
        """Acquire the lock without waiting; False when another process has it.

        Raises:
            OSError: The file cannot be locked, or its directory is not this user's any more.
        """
        for _ in range(100):
            fd = os.open(self.owner_files.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
            if not _flock(fd, shared=False):
                os.close(fd)
                return False
            self._fd = fd
            if self.holds():  # else the file was replaced between opening and locking: lock the new one
                # Whoever locks looks into the other candidates afterwards: of two that found different candidates
                # usable, at least one sees the other's lock, and leaves.
                if _held_elsewhere(self.owner_files):
                    self.release()
                    return False
                if reason := _taken_over(self.owner_files):
                    self.release()
                    raise PermissionError(reason)
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
    return _is_locked(owner_files.lock_file, shared=True)


@contextlib.contextmanager
def succession_claimed(owner_files: OwnerFiles) -> Iterator[None]:
    """Keep older versions from starting an owner for a block; a claim ends with its process. Several may have one.

    A lock and not a time: how long the old owner needs to close its index, and the next one to start, depends on
    what else the machine does.
    """
    try:
        fd = os.open(owner_files.successor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:  # no descriptor, or the directory is gone: whoever is first starts the next owner
        yield
        return
    try:
        if sys.platform == "win32":
            _flock(fd, shared=False)  # if another one has it, that claim counts for both
        else:
            fcntl.flock(fd, fcntl.LOCK_SH)  # waits at most for somebody who looks whether there is a claim
        yield
    finally:
        os.close(fd)


def is_succession_claimed(owner_files: OwnerFiles) -> bool:
    """Whether a process that asked the owner to stand down is about to start the next one."""
    return _is_locked(owner_files.successor_lock, shared=False)


def _is_locked(path: str, *, shared: bool) -> bool:
    """Whether a lock, shared or exclusive, cannot be had now; a file that is missing is not locked."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _flock(fd, shared=shared)
    finally:
        os.close(fd)


def holder(owner_files: OwnerFiles, named: object) -> int | None:
    """Return the process that holds the lock: the one to kill. Not simply what a file says, which may say anything.

    Args:
        owner_files: Of the data directory.
        named: The process id of the state file; used where the kernel does not tell (all but Linux), or names several.

    Returns:
        The process id, None when it is not known.
    """
    trusted = named if type(named) is int and named > 1 else None
    try:
        inode = os.stat(owner_files.lock_file).st_ino
        with open("/proc/locks", encoding="ascii") as stream:
            rows = [line.split() for line in stream]
    except OSError:
        return trusted
    # 7: FLOCK  ADVISORY  WRITE 4711 fd:01:1835013 0 EOF
    found = {int(row[4]) for row in rows if row[1:4:2] == ["FLOCK", "WRITE"] and row[5].endswith(f":{inode}")}
    found = {pid for pid in found if pid > 1}  # not one of another container, which the kernel calls 0 or -1
    return found.pop() if len(found) == 1 else trusted if trusted in found else None


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
    import pwd

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
    file = _absolute(named, "") if named else _platform_path("config", "config.toml")
    text = _read_config(file, required=bool(named))
    chosen = data_dir or environ.get("FOLDER_MCP_DATA_DIR")
    if chosen:
        found = _absolute(chosen, "")
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
    """Return an absolute path; an empty ``base`` is the current directory, which may be gone and is asked last."""
    expanded = os.path.expanduser(path)
    if not os.path.isabs(expanded):
        expanded = os.path.join(base or os.getcwd(), expanded)
    return os.path.normpath(expanded)


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
