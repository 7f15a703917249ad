"""What files a folder has.

Symbolic links are not followed, neither files nor directories, so nothing outside the root is reached and no loop is
entered. Hard links cannot be told from the file itself: whatever their count (pnpm, uv, rsync and ostree make many),
they are files of the folder they are in.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from indexer.errors import FolderError
from indexer.files.ignore import Ignore, Level
from indexer.types import File

# Paths are str with surrogates and this runs once a file of the tree, hence os.path:


SkipKind = Literal["secret", "large", "link", "special", "placeholder", "unreadable"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something the walk met and passed over, that a user may miss.

    Attributes:
        path: Absolute path.
        reason: Why, one sentence.
        kind: ``secret`` (a file, or a directory as a whole), ``large``, ``link``, ``special`` (pipe, socket, device),
            ``placeholder`` (its content is in a cloud), ``unreadable`` (a directory: nothing is known of what is below
            it, so nothing below it may be taken for deleted; or a file).
    """

    path: str
    reason: str
    kind: SkipKind


def walk(root: str, ignore: Ignore, below: str | None = None) -> Iterator[File | Skipped]:
    """Go through a folder, depth first, in the file system's order. Blocking: run it in a thread.

    What the rules leave out is not reported, except secrets.

    Args:
        root: The folder, absolute and resolved.
        ignore: Its rules, and the size cap.
        below: Only this directory of the folder and what is below it; nothing if it is gone or left out.

    Raises:
        FolderError: The root cannot be listed, at the start or when a directory below it is suddenly gone.
    """
    start = root if below is None else below
    if start != root and (not _is_own_directory(start, root) or ignore.verdict(start, is_dir=True).ignored):
        _check_root(root)
        return
    _check_root(root)
    now = time.time()
    around = ignore.at(os.path.dirname(start)) if start != root else ignore.outside
    stack: list[tuple[str, tuple[Level, ...]]] = [(start, around)]
    while stack:
        directory, levels = stack.pop()
        try:
            with os.scandir(directory) as listing:
                entries = list(listing)
        except FileNotFoundError:
            _check_root(root)
            continue
        except OSError as error:
            _check_root(root)
            yield Skipped(directory, f"the directory cannot be read: {error.strerror}", "unreadable")
            continue
        levels = ignore.enter(levels, directory, {entry.name for entry in entries})
        for entry in entries:
            path = entry.path
            is_dir = entry.is_dir(follow_symlinks=False)
            verdict = ignore.entry(levels, path, entry.name, is_dir)
            if verdict.ignored:
                if verdict.secret:
                    yield Skipped(path, verdict.reason, "secret")
            elif is_dir:
                stack.append((path, levels))
            else:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield Skipped(path, f"cannot be read: {error.strerror}", "unreadable")
                    continue
                yield _judge(path, root, found, ignore.max_bytes, now)


def stat_file(path: str, root: str, ignore: Ignore) -> File | Skipped | None:
    """What the walk would say of one path. Blocking: run it in a thread.

    Returns:
        None for what is not there (under this very name), is a directory, lies behind a link or out of the root, or
        is left out by a rule (but a secret is ``Skipped``).
    """
    if not _is_own(path, root):
        return None
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror}", "unreadable")
    if not _is_listed(path, found):
        return None
    is_dir = stat.S_ISDIR(found.st_mode)
    verdict = ignore.verdict(path, is_dir=is_dir)
    if verdict.ignored:
        return Skipped(path, verdict.reason, "secret") if verdict.secret else None
    return None if is_dir else _judge(path, root, found, ignore.max_bytes, time.time())


def _judge(path: str, root: str, found: os.stat_result, max_bytes: int, now: float) -> File | Skipped:
    """Tell a file to index from what only looks like one."""
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        if stat.S_ISLNK(mode):
            return Skipped(path, "a symbolic link; links are not followed, add the folder it points to", "link")
        return Skipped(path, f"{_special(mode)}, not a file", "special")
    if found.st_size > max_bytes:
        size, limit = found.st_size / (1 << 20), max_bytes / (1 << 20)
        return Skipped(path, f"{size:,.1f} MiB, over the limit of {limit:g} MiB (max_file_mb)", "large")
    if found.st_size and _is_placeholder(found, now):
        return Skipped(path, "its content is not on this disk; opening it would download it", "placeholder")
    return File(path, root, found.st_size, found.st_mtime_ns)


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a special file"


def _is_placeholder(found: os.stat_result, now: float) -> bool:
    """Whether reading the file would fetch it from elsewhere, as far as its attributes tell.

    Linux has no flag for it. A file of 4 KiB or more without a single block is a placeholder or a hole (nothing to
    index either way), unless it was written just now and its blocks are not allocated yet, hence the minute.
    """
    if sys.platform == "darwin":
        return bool(found.st_flags & 0x40000000)  # SF_DATALESS, sys/stat.h
    if sys.platform == "win32":
        # FILE_ATTRIBUTE_OFFLINE, _RECALL_ON_OPEN, _RECALL_ON_DATA_ACCESS, winnt.h
        return bool(found.st_file_attributes & (0x1000 | 0x40000 | 0x400000))
    return found.st_blocks == 0 and found.st_size >= 4096 and now - found.st_ctime > 60


def _is_listed(path: str, found: os.stat_result) -> bool:
    """Whether a directory has an entry under this very name.

    File systems that take no account of letter case or of Unicode normal forms find a file by other names too; the
    walk gives the one that is listed, and one file must not stand in the index under two. The directory is only read
    where another spelling finds the same file.
    """
    directory, name = os.path.split(path)
    for other in {name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)} - {name}:
        try:
            alike = os.path.samestat(os.lstat(os.path.join(directory, other)), found)
        except (OSError, ValueError):
            continue
        if alike:
            return name in os.listdir(directory)
    return True


def _is_own(path: str, root: str) -> bool:
    """Whether a path lies below the root without a link on the way."""
    parent = os.path.dirname(path)
    inside = parent == root or parent.startswith(root.rstrip("/") + "/")
    return inside and os.path.basename(path) not in ("", ".", "..") and os.path.realpath(parent) == parent


def _is_own_directory(path: str, root: str) -> bool:
    return _is_own(path, root) and os.path.isdir(path) and not os.path.islink(path)


def _check_root(root: str) -> None:
    """An absent root must not look like a folder whose files were all deleted."""
    try:
        with os.scandir(root):
            return
    except OSError as error:
        raise FolderError(
            f"{root} cannot be listed ({error.strerror}); its index is kept; mount it, or remove the folder"
        ) from error


# Git excludes -------------------------------------------------------------------------------------------------------
# Where the user's global git excludes file is.

# Paths are str:


_SECTION = re.compile(r"\s*\[\s*([\w.-]+)")
_KEY = re.compile(r'\s*excludesfile\s*=\s*"?([^"#;\n]*?)"?\s*(?:[#;].*)?$', re.IGNORECASE)


def global_excludes(home: str = "~") -> str | None:
    """The excludes file that git would use, None if there is none.

    ``core.excludesFile`` of ``.gitconfig``, else of ``.config/git/config``, else ``.config/git/ignore``. Conditional
    and other includes of git's configuration are not followed.

    Args:
        home: The home directory.
    """
    home = os.path.expanduser(home)
    for config in (f"{home}/.gitconfig", f"{home}/.config/git/config"):
        named = _named(config)
        if named is not None:
            file = home + named[1:] if named.startswith("~/") else os.path.join(home, named)
            return file if os.path.isfile(file) else None
    default = f"{home}/.config/git/ignore"
    return default if os.path.isfile(default) else None


def _named(config: str) -> str | None:
    """What a git configuration file sets ``core.excludesFile`` to."""
    try:
        with open(config, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read(1 << 20).splitlines()
    except OSError:
        return None
    section, found = "", None
    for line in lines:
        if match := _SECTION.match(line):
            section = match[1].lower()
        elif section == "core" and (match := _KEY.match(line)):
            found = match[1].strip()
    return found or None
