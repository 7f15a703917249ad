"""The list of folders to index: those of the configuration file and those added by command; and which are accepted.

Added folders are kept in ``<data_dir>/folders.json``, with a copy. Writers hold a lock on ``folders.lock``, read the
file again under the lock and replace it as a whole, so that two processes do not undo each other's changes and a crash
leaves the old file or the new one. All functions here use the disk: call them in a thread.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_to_bytes, urlsplit

from indexer.config import Config
from indexer.errors import ConfigError, FolderError, StoreError
from indexer.store.private_directory import make_private

Source = Literal["config", "added"]

_DAMAGED = (ValueError, KeyError, TypeError)  # what parsing a file with other content raises


@dataclass(frozen=True, slots=True)
class KnownFolder:
    """A folder to index.

    Attributes:
        path: Absolute, links resolved. The folder may be missing for now (an unmounted disk): its index is kept.
        model: Embedding model, None for the default one.
        include: Patterns to index although a rule leaves them out, relative to the folder.
        exclude: Patterns to leave out.
        source: ``config`` (the configuration file) or ``added`` (by command, kept in the data directory).
        allow_broad: Whether it may be a home or system folder as a whole.
    """

    path: str
    model: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    source: Source = "added"
    allow_broad: bool = False


@dataclass(frozen=True, slots=True)
class KnownFolders:
    """All folders to index, and those that cannot be.

    Attributes:
        known: In the order of the configuration file, then of their adding.
        refused: One sentence for each folder left out of ``known``: which and why.
    """

    known: tuple[KnownFolder, ...]
    refused: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the known folders."""
        return tuple(folder.path for folder in self.known)


def list_folders(config: Config) -> KnownFolders:
    """Every known folder. Where both name the same one, the configuration file counts.

    A folder that does not exist now is listed (its index stays); one that breaks a rule is refused.

    Raises:
        ConfigError: ``folders.json`` and its copy are damaged.
    """
    configured = [
        KnownFolder(each.path, each.model, each.include, each.exclude, "config", allow_broad=True)
        for each in config.folders
    ]
    known: list[KnownFolder] = []
    refused: list[str] = []
    for folder in (*configured, *_read_added(config.data_dir)):
        path = resolved(folder.path)
        if any(path == other.path for other in known):
            continue
        try:
            check_folder(
                path,
                data_dir=config.data_dir,
                known=[other.path for other in known],
                allow_broad=folder.allow_broad,
                must_exist=False,
            )
        except FolderError as error:
            refused.append(str(error))
        else:
            known.append(replace(folder, path=path))
    return KnownFolders(tuple(known), tuple(refused))


def add_folder(
    config: Config,
    path: str,
    *,
    model: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_broad: bool = False,
) -> KnownFolder:
    """Add a folder to the list; adding it again changes only what is given and is no error.

    Args:
        config: Says where the data directory is and which folders the file names.
        path: Any spelling of it; ``~`` and links are resolved.
        model: Embedding model for this folder, None to leave it as it is or at the default.
        include: Patterns to index although a rule leaves them out.
        exclude: Patterns to leave out.
        allow_broad: Accept a home or system folder as a whole.

    Raises:
        FolderError: It does not exist, is a file, cannot be read, is too broad, holds or lies in the data directory,
            overlaps a known folder, or stands in the configuration file with other settings.
        ConfigError: ``folders.json`` and its copy are damaged.
    """
    with _locked(config.data_dir):
        listed = list_folders(config)
        allowed = allow_broad or resolved(path) in listed.paths  # a known folder has been allowed before
        found = check_folder(path, data_dir=config.data_dir, known=listed.paths, allow_broad=allowed)
        old = next((folder for folder in listed.known if folder.path == found), None)
        changes: dict[str, Any] = {
            key: value
            for key, value in {"model": model, "include": tuple(include), "exclude": tuple(exclude)}.items()
            if value
        }
        new = replace(old or KnownFolder(found, allow_broad=allow_broad), **changes)
        if new == old:
            return old
        if new.source == "config":
            raise FolderError(f"{found} is set in {config.config_file}; change it there")
        rest = [each for each in _read_added(config.data_dir) if resolved(each.path) != found]
        _write_added(config.data_dir, [*rest, new])
        return new


def remove_folder(config: Config, path: str) -> KnownFolder:
    """Remove an added folder from the list; the caller removes its text from the index. It need not exist any more.

    Raises:
        FolderError: It is not known, or the configuration file names it.
        ConfigError: ``folders.json`` and its copy are damaged.
    """
    with _locked(config.data_dir):
        found = resolved(path)
        named = [resolved(each.path) for each in config.folders]
        if found in named:
            raise FolderError(f"{found} is set in {config.config_file}; take its [[folders]] table out there")
        added = _read_added(config.data_dir)
        old = next((each for each in added if resolved(each.path) == found), None)
        if old is None:
            known = [*named, *(each.path for each in added)]
            near = overlapping(found, known)
            listed = ", ".join(known) or "none"
            advice = f"it overlaps {near}, which is" if near else f"known folders: {listed}"
            raise FolderError(f"{found} is not a known folder; {advice}")
        _write_added(config.data_dir, [each for each in added if each != old])
        return old


def _file(data_dir: Path) -> Path:
    return data_dir / "folders.json"


def _copy(data_dir: Path) -> Path:
    """A copy, written after it, in case it is damaged."""
    return data_dir / "folders.copy.json"


def folders_file_damage(data_dir: Path) -> str:
    """What is wrong with ``folders.json``, empty when nothing. Changes nothing."""
    try:
        _parse_file(_file(data_dir))
    except _DAMAGED as error:
        return f"folders.json is damaged ({error}); its copy is in use"
    except OSError:
        return ""
    return ""


def repair_folders_file(data_dir: Path) -> str:
    """Replace ``folders.json`` by its copy if it is damaged.

    Returns:
        A sentence about it, empty if it is not damaged.

    Raises:
        ConfigError: The copy is damaged too.
    """
    file = _file(data_dir)
    try:
        _parse_file(file)
    except _DAMAGED as error:
        notice = f"folders.json was damaged ({error}); its copy is in use"
        moved_to = file.with_name("folders.damaged.json")
        try:
            with _locked(data_dir):
                folders = _read_added(data_dir)
                file.replace(moved_to)
                _write_added(data_dir, folders)
        except (OSError, FolderError) as refused:
            return f"{notice}, but cannot be put in its place: {refused}"
        return f"{notice}, and it was set aside as {moved_to}"
    except OSError:
        return ""  # missing, or not readable, which ``list_folders`` reports
    return ""


def rewrite_missing_folders_file(data_dir: Path, folders: Sequence[KnownFolder]) -> None:
    """Write the added ones of ``folders`` again if ``folders.json`` was lost with its directory.

    Raises:
        FolderError: It cannot be written.
    """
    added = [folder for folder in folders if folder.source == "added"]
    if added and not _file(data_dir).exists():
        with _locked(data_dir):
            _write_added(data_dir, added)


def _read_added(data_dir: Path) -> list[KnownFolder]:
    file = _file(data_dir)
    try:
        return _parse_file(file)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); make it readable for this user") from error
    except _DAMAGED as error:
        try:
            return _parse_file(_copy(data_dir))
        except (OSError, *_DAMAGED):
            raise ConfigError(
                f"{file}: damaged ({error}); correct it, or delete it and add the folders again (the index is kept)"
            ) from error


def _parse_file(file: Path) -> list[KnownFolder]:
    document = json.loads(file.read_text(encoding="utf-8"))
    return [_parse_folder(each) for each in document["folders"]]


def _parse_folder(row: dict[str, Any]) -> KnownFolder:
    if not isinstance(row["path"], str) or not row["path"] or "\0" in row["path"]:
        raise ValueError(f"path must be a path in {row!r}")
    if not isinstance(row.get("model"), str | None):
        raise ValueError(f"model must be text in {row!r}")
    return KnownFolder(
        row["path"],
        row.get("model"),
        tuple(str(each) for each in row.get("include", ())),
        tuple(str(each) for each in row.get("exclude", ())),
        "added",
        bool(row.get("allow_broad", False)),
    )


def _write_added(data_dir: Path, folders: Sequence[KnownFolder]) -> None:
    """Replace the file as a whole: readers find the old one or the new one, also after a crash."""
    rows = [{key: value for key, value in asdict(folder).items() if key != "source"} for folder in folders]
    # ensure_ascii keeps lone surrogates (undecodable file names) intact: they become \udcXX escapes.
    text = json.dumps({"version": 1, "folders": rows}, indent=1, ensure_ascii=True)
    for file in (_file(data_dir), _copy(data_dir)):
        new = data_dir / f"{file.name}.{os.getpid()}.new"
        try:
            with new.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise FolderError(f"{file}: cannot be written ({error.strerror}); see that disk and rights") from error
    with suppress(OSError):  # not every file system flushes directories; the files themselves are written
        directory = os.open(data_dir, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the folders lock of the data directory; others wait the milliseconds it takes."""
    try:
        make_private(data_dir)
        lock = os.open(data_dir / "folders.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except StoreError as error:
        raise FolderError(str(error)) from error
    except OSError as error:
        raise FolderError(f"{data_dir}: cannot be written ({error.strerror}); choose another --data-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


# Which folders are accepted -----------------------------------------------------------------------------------------

# Paths are str and handled with os.path, which takes lone surrogates and ~nobody without raising.
# ruff: noqa: S108

SYSTEM_FOLDERS = frozenset(
    {
        "/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media", "/mnt", "/opt", "/root",
        "/run", "/sbin", "/snap", "/srv", "/tmp", "/usr", "/usr/lib", "/usr/local", "/usr/share", "/var",
        "/Applications", "/Library", "/System", "/Users", "/Volumes", "/private", "/private/etc", "/private/tmp",
        "/private/var",
    }
)  # fmt: skip
"""Too broad to be indexed as a whole; folders below them are accepted."""

NOT_FILES = ("/dev", "/proc", "/sys")
"""File systems of the kernel: neither they nor anything below them is indexed."""


def resolved(path: str) -> str:
    """Absolute, ``~`` expanded, links resolved as far as the path exists.

    Args:
        path: A path, or the ``file://`` address of one.

    Raises:
        FolderError: It is empty or has a NUL, is an address on another machine, or the working directory it begins in
            is gone.
    """
    named = path
    if path.startswith("file:"):
        address = urlsplit(path)
        if address.netloc not in ("", "localhost"):
            raise FolderError(f"{printable(path)} is on another machine; only local folders are indexed")
        # A name may hold "?" and "#", which an address written by hand leaves bare.
        path = os.fsdecode(unquote_to_bytes(path[len("file:") :].removeprefix(f"//{address.netloc}")))
    if "\0" in path or not path:
        raise FolderError(f"{named!r} is not a path; name a folder")
    try:
        return os.path.realpath(os.path.expanduser(path))
    except FileNotFoundError as error:
        raise FolderError(f"{named}: the working directory does not exist any more; write the path in full") from error


def check_folder(
    path: str, *, data_dir: Path, known: Iterable[str] = (), allow_broad: bool = False, must_exist: bool = True
) -> str:
    """Check that a folder may be indexed.

    Args:
        path: Any spelling of it.
        data_dir: The data directory, which must be neither in the folder nor around it.
        known: Resolved paths of the folders already known; the same one again is accepted.
        allow_broad: Accept ``/``, a home directory or a system folder as a whole.
        must_exist: Whether a missing folder is an error.

    Returns:
        The resolved path; that of ``known`` where both are the same directory.

    Raises:
        FolderError: It breaks a rule; the message says which and what to do.
    """
    found = resolved(path)
    shown = printable(found)
    if must_exist or os.path.lexists(found):
        _check_readable(found, shown)
    if any(found == each or found.startswith(each + "/") for each in NOT_FILES):
        raise FolderError(f"{shown} belongs to the kernel and holds no documents; name another folder")
    data = resolved(str(data_dir))
    if found == data or _is_inside(found, data):
        raise FolderError(f"{shown} is in the data directory {data}, which holds the index; name another folder")
    if not allow_broad:
        _check_broad(found, shown)
    if _is_inside(data, found) and not allow_broad:
        raise FolderError(f"{shown} contains the data directory {data}; move that elsewhere with --data-dir")
    return _check_overlap(found, shown, list(known))


def overlapping(path: str, known: Iterable[str]) -> str | None:
    """The known folder that contains a resolved path or is inside it; None if there is none."""
    for other in known:
        if path != other and (_is_inside(path, other) or _is_inside(other, path)):
            return other
    return None


def printable(path: str) -> str:
    """A path fit for a message: undecodable bytes and control characters escaped."""
    shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def _check_readable(path: str, shown: str) -> None:
    try:
        with os.scandir(path):
            pass
    except FileNotFoundError:
        raise FolderError(f"{shown} does not exist; check the spelling, or that its disk is mounted") from None
    except NotADirectoryError:
        raise FolderError(f"{shown} is a file; name the folder it is in: {os.path.dirname(shown)}") from None
    except OSError as error:
        raise FolderError(f"{shown} cannot be read ({error.strerror}); allow this user to read it") from error


def _check_broad(path: str, shown: str) -> None:
    home = resolved("~")
    if path == home:
        what = "your whole home directory"
    elif path == "/" or _is_inside(home, path):
        what = "a folder that contains your whole home directory"
    elif path in SYSTEM_FOLDERS:
        what = "a system folder"
    else:
        return
    raise FolderError(f"{shown} is {what}; name a folder below it, or ask for it explicitly with --allow-broad")


def _check_overlap(path: str, shown: str, known: list[str]) -> str:
    if path in known:
        return path
    for other in known:
        if _is_same(path, other):  # another spelling on a case-insensitive file system, or a bind mount
            return other
    for other in known:
        if _is_inside(path, other):
            raise FolderError(f"{shown} is inside {printable(other)}, which is already indexed; search that one")
        if _is_inside(other, path):
            raise FolderError(
                f"{shown} contains {printable(other)}, which is already indexed; remove that one first: "
                f"folder-mcp folders remove {printable(other)}"
            )
    return path


def _is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` is below ``folder``: by name, or by inode where mounts or letter case hide it."""
    if path.startswith(folder.rstrip("/") + "/") and path != folder:
        return True
    try:
        outer = os.stat(folder)
    except OSError:
        return False
    parent = os.path.dirname(path)
    while parent not in ("", "/"):
        try:
            if os.path.samestat(os.stat(parent), outer):
                return True
        except OSError:
            pass
        parent = os.path.dirname(parent)
    return False


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
