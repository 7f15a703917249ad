"""Walks a folder: which files it has, and which were skipped for a reason that the user should know.

Symbolic links are not followed, neither files nor directories, so nothing outside the root is reached and no loop is
entered. A hard link cannot be told from the file itself: each is a file of the folder it is in, whatever their number
(pnpm, uv, rsync and ostree make many).

Ignore rules of strangers may be slow to match although they are limited: a directory in which they take too much CPU
time is skipped, with a reason that names the ignore file and the pattern, and the rest of the folder is walked.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from indexer.errors import FolderError
from indexer.files.ignore import Ignore, Level, Verdict
from indexer.files.open_inside import OpenTree, stat_inside
from indexer.types import File, signed_inode

# Paths are str with surrogates, and this runs for every file of the tree: hence os.path, not pathlib.

_LINK = "a symbolic link; links are not followed, add the folder it points to"

SkipKind = Literal["secret", "large", "link", "special", "placeholder", "unreadable", "pattern", "unsupported"]

ENTRY_S = 0.001
"""CPU seconds that matching may take for each entry of a directory: less than reading and committing a file takes,
and some fifty times what ordinary rules need."""

DIRECTORY_S = 0.25
"""CPU seconds that it may take beyond that in one directory: the first match compiles the patterns."""

SPARE_S = 5.0
"""CPU seconds that reading ignore files and ``DIRECTORY_S`` may add up to in one walk; then a directory may take
``LEAST_S`` beyond its entries' share. So a folder's walk has a limit too, whatever its ignore files say."""

LEAST_S = 0.025


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that the walk skipped and that a user may miss.

    Attributes:
        path: Absolute path.
        reason: Why, one sentence.
        kind: ``secret`` (a file, or a directory as a whole), ``large``, ``link``, ``special`` (pipe, socket, device),
            ``placeholder`` (its content is in a cloud), ``unreadable`` (a file, or a directory: its content is
            unknown, so nothing below it may be taken for deleted; also one whose ignore files exceed a limit),
            ``pattern`` (a directory that was walked: a pattern of its ignore files does not count),
            ``unsupported`` (of a kind nothing here reads).
    """

    path: str
    reason: str
    kind: SkipKind


def walk(root: str, ignore: Ignore, below: str | None = None) -> Iterator[File | Skipped]:
    """Walk a folder, depth first, in the file system's order. Blocking: run it in a thread.

    Ignored paths are not reported, except secrets.

    Args:
        root: The folder, absolute and resolved.
        ignore: Its rules, and the size cap.
        below: Only this directory of the folder and what is below it; nothing if it is gone or ignored.

    Raises:
        FolderError: The root cannot be listed, at the start or when a directory below it disappears.
    """
    with _open_tree(root) as tree:
        yield from _walk(tree, root, ignore, root if below is None else below)


def _walk(tree: OpenTree, root: str, ignore: Ignore, start: str) -> Iterator[File | Skipped]:  # noqa: PLR0912 - one branch a kind of entry
    if start != root and (not _is_directory(start, root) or ignore.verdict(start, is_dir=True).ignored):
        return
    now = time.time()
    around = ignore.levels_at(os.path.dirname(start)) if start != root else ignore.levels_outside
    allowance = _Allowance(SPARE_S)
    stack: list[tuple[str, tuple[Level, ...]]] = [(start, around)]
    while stack:
        directory, levels = stack.pop()
        try:
            entries = tree.entries(directory)
        except (FileNotFoundError, NotADirectoryError):
            _check_root(root)
            continue
        except OSError as error:
            _check_root(root)
            if error.errno == errno.ELOOP:  # replaced since its parent was listed
                yield Skipped(directory, _LINK, "link")
                continue
            yield Skipped(directory, f"the directory cannot be read: {error.strerror}", "unreadable")
            continue
        judged = _judge(ignore, levels, directory, entries, allowance)
        if judged.note:
            yield Skipped(directory, judged.note, "unreadable" if judged.closed else "pattern")
        for entry, path, is_dir, verdict in judged.entries:
            if verdict.ignored:
                if verdict.secret:
                    yield Skipped(path, verdict.reason, "secret")
            elif is_dir:
                stack.append((path, judged.levels))
            else:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield Skipped(path, f"cannot be read: {error.strerror}", "unreadable")
                    continue
                yield _file_or_skipped(path, root, found, ignore.max_bytes, now)


@dataclass(slots=True)
class _Allowance:
    """What is left of ``SPARE_S`` in one walk, seconds."""

    spare: float

    def of_directory(self, entries: int) -> float:
        """CPU seconds that matching may take in a directory."""
        return entries * ENTRY_S + max(LEAST_S, min(DIRECTORY_S, self.spare))

    def spend(self, seconds: float, entries: int) -> None:
        """Take what a directory used beyond its entries' share."""
        self.spare -= max(0.0, seconds - entries * ENTRY_S)


class _Judged(NamedTuple):
    """The entries of a directory with their verdicts.

    Attributes:
        entries: Entry, path, whether it is a directory, verdict; none if the directory is closed.
        levels: The rules inside the directory.
        note: What the user should know of its ignore files, empty if nothing.
        closed: Whether the directory is skipped because of them.
    """

    entries: list[tuple[os.DirEntry[str], str, bool, Verdict]]
    levels: tuple[Level, ...]
    note: str
    closed: bool


def _judge(
    ignore: Ignore,
    levels: tuple[Level, ...],
    directory: str,
    entries: list[os.DirEntry[str]],
    allowance: _Allowance,
) -> _Judged:
    """Apply the rules to the entries of a directory, for as long as its allowance lasts."""
    clock = ignore.clock
    allowed = allowance.of_directory(len(entries))
    entered = clock()
    levels = ignore.enter(levels, directory, {entry.name for entry in entries}, late=allowance.spare <= 0)
    began = clock()
    if levels and levels[0].closed:
        allowance.spend(began - entered, len(entries))
        return _Judged([], levels, levels[0].closed, True)
    # Asking for the time takes a tenth of a match, so it is asked seldom where a match cannot take long.
    interval = 1 if levels and levels[0].wildcards > 100 else 16
    last = len(entries) - 1
    judged: list[tuple[os.DirEntry[str], str, bool, Verdict]] = []
    within = directory if directory.endswith(os.sep) else directory + os.sep
    for number, entry in enumerate(entries):
        path = within + entry.name
        is_dir = entry.is_dir(follow_symlinks=False)
        judged.append((entry, path, is_dir, ignore.entry_verdict(levels, path, entry.name, is_dir)))
        if levels and (number % interval == 0 or number == last) and clock() - began > allowed:
            culprit = ignore.costliest(levels, path, allowance.of_directory(0))
            note = (
                f"matching it with the ignore rules took more than {allowed:.2g} s of CPU time, most of it "
                f"{culprit}; nothing new in it is indexed until that is simplified"
            )
            allowance.spend(clock() - entered, len(entries))
            return _Judged([], levels, note, True)
    allowance.spend(clock() - entered, len(entries))
    refused = ignore.refused(levels, directory)
    more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
    return _Judged(judged, levels, "; ".join(refused[:3]) + more, False)


def stat_file(path: str, root: str, ignore: Ignore) -> File | Skipped | None:
    """What the walk would yield for one path. Blocking: run it in a thread.

    Returns:
        None if the path does not exist (under exactly this name), is a directory, is behind a link or outside the
        root, or is ignored by a rule (but a secret is ``Skipped``).
    """
    try:
        found = stat_inside(path, root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV):
            return None
        return Skipped(path, f"cannot be read: {error.strerror}", "unreadable")
    if not _has_listed_name(path, found):
        return None
    is_dir = stat.S_ISDIR(found.st_mode)
    verdict = ignore.verdict(path, is_dir=is_dir)
    if verdict.ignored:
        return Skipped(path, verdict.reason, "secret") if verdict.secret else None
    return None if is_dir else _file_or_skipped(path, root, found, ignore.max_bytes, time.time())


def _file_or_skipped(path: str, root: str, found: os.stat_result, max_bytes: int, now: float) -> File | Skipped:
    """The file, or why it is skipped."""
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        if stat.S_ISLNK(mode):
            return Skipped(path, _LINK, "link")
        return Skipped(path, f"{_special(mode)}, not a file", "special")
    if found.st_size > max_bytes:
        size, limit = found.st_size / (1 << 20), max_bytes / (1 << 20)
        return Skipped(path, f"{size:,.1f} MiB, over the limit of {limit:g} MiB (max_file_mb)", "large")
    if found.st_size and _is_placeholder(found, now):
        return Skipped(path, "its content is not on this disk; opening it would download it", "placeholder")
    return File(path, root, found.st_size, found.st_mtime_ns, signed_inode(found))


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a special file"


def _is_placeholder(found: os.stat_result, now: float) -> bool:
    """Whether reading the file would download it, as far as its attributes tell.

    Linux has no flag for it. A file of 4 KiB or more without a single block is a placeholder or sparse (nothing to
    index either way), unless it was just written and its blocks are not allocated yet, hence the minute.
    """
    if sys.platform == "darwin":
        return bool(found.st_flags & 0x40000000)  # SF_DATALESS, sys/stat.h
    if sys.platform == "win32":
        # FILE_ATTRIBUTE_OFFLINE, _RECALL_ON_OPEN, _RECALL_ON_DATA_ACCESS, winnt.h
        return bool(found.st_file_attributes & (0x1000 | 0x40000 | 0x400000))
    return found.st_blocks == 0 and found.st_size >= 4096 and now - found.st_ctime > 60


def _has_listed_name(path: str, found: os.stat_result) -> bool:
    """Whether a directory lists an entry under exactly this name.

    File systems that ignore letter case or Unicode normalization find a file by other names too; the walk yields the
    listed one, and a file must not be in the index under two names. The directory is only read when another spelling
    finds the same file.
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


def _is_directory(path: str, root: str) -> bool:
    """Whether a path below the root is a directory, with no link on the way."""
    try:
        return stat.S_ISDIR(stat_inside(path, root).st_mode)
    except OSError:
        return False


def _open_tree(root: str) -> OpenTree:
    _check_root(root)
    try:
        return OpenTree(root)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FolderError(
                f"{root} has become a symbolic link, which is not followed; its index is kept; "
                "add the folder that it points to, or remove this one"
            ) from error
        raise _unlisted(root, error) from error


def _check_root(root: str) -> None:
    """Raise if the root cannot be listed: a missing root must not look like a folder without files."""
    try:
        with os.scandir(root):
            return
    except OSError as error:
        raise _unlisted(root, error) from error


def _unlisted(root: str, error: OSError) -> FolderError:
    return FolderError(
        f"{root} cannot be listed ({error.strerror}); its index is kept; mount it, or remove the folder"
    )


# Git excludes -------------------------------------------------------------------------------------------------------
# The user's global git excludes file.

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
        named = _configured_excludes(config)
        if named is not None:
            file = home + named[1:] if named.startswith("~/") else os.path.join(home, named)
            return file if os.path.isfile(file) else None
    default = f"{home}/.config/git/ignore"
    return default if os.path.isfile(default) else None


def _configured_excludes(config: str) -> str | None:
    """The value of ``core.excludesFile`` in a git configuration file."""
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
