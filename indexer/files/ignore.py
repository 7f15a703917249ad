"""Which files and directories of a folder are left out, and why: one predicate for the walk and for the watcher.

Who decides, first answer counts:

1. ``include`` and ``exclude`` of the configuration (``include`` wins),
2. ``.folder-mcpignore`` files, the deepest first,
3. the lists of ``builtin``: secrets, machine-made files, hidden files,
4. ``.gitignore`` files, the deepest first, up to the top of the repository; then ``.git/info/exclude`` of each
   repository, then the user's global excludes file.

A directory that is left out is not entered: nothing below it can be taken back in (take the directory back in).
"""

# Paths are str with surrogates and this runs once a file of the tree, hence os.path:

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from indexer.files.builtin import EXCLUDES, HIDDEN, SECRETS
from indexer.files.rules import Rule, Rules

IGNORE_FILES = (".folder-mcpignore", ".gitignore")
"""Names of the files that hold rules, the stronger first."""

MAX_BYTES = 50 << 20
"""Default size cap of a file, bytes."""

_INFO_EXCLUDE = ".git/info/exclude"
_MAX_BYTES = 1 << 20  # of an ignore file; git's own test suite stays below a tenth of it
_SECRET = "a secret by its name"  # noqa: S105


class Verdict(NamedTuple):
    """Whether a path is left out, and one sentence why (empty when it is not)."""

    ignored: bool
    reason: str

    @property
    def secret(self) -> bool:
        """Whether it was left out because its name promises a secret."""
        return self.reason.startswith(_SECRET)


KEPT = Verdict(False, "")


class Level(NamedTuple):
    """The rules that a directory adds: its path, what it is relative to the root, its own and git's rules."""

    directory: str
    own: Rules | None
    git: Rules | None
    info: Rules | None


class Ignore:
    """The rules of one folder.

    Ignore files are read when first needed and again when they change. Thread-safe: walk and watcher share it.

    Args:
        root: The folder, absolute and resolved.
        exclude: Patterns of the configuration to leave out, relative to the root.
        include: Patterns of the configuration to take back in.
        hidden: Whether names that start with a dot are indexed.
        never: Absolute paths that are left out whatever the rules say: the data directory.
        global_excludes: The user's global git excludes file, None for none.
        max_bytes: Larger files are not indexed.
    """

    def __init__(
        self,
        root: str,
        *,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        hidden: bool = False,
        never: Sequence[str] = (),
        global_excludes: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._never = frozenset(os.path.realpath(path) for path in never)
        named = Rules([*exclude, *(f"!{pattern}" for pattern in include)], "the configuration")
        self._config = named if len(named) else None
        self._secrets = Rules(SECRETS, _SECRET, ignore_case=True)
        self._builtin = Rules(EXCLUDES, "the built-in list", ignore_case=False)
        self._hidden = Rules(() if hidden else HIDDEN, "a hidden name", ignore_case=False)
        clues = [rules.clues() for rules in (self._secrets, self._builtin, self._hidden)]
        self._names = frozenset().union(*(names for names, _, _ in clues))
        self._starts = tuple(set().union(*(prefixes for _, prefixes, _ in clues)))
        self._ends = tuple(set().union(*(suffixes for _, _, suffixes in clues)))
        self._global = global_excludes
        self._read: dict[str, tuple[tuple[int, int, int], Rules]] = {}
        self.outside = self._levels_above()

    def verdict(self, path: str, is_dir: bool | None = None) -> Verdict:
        """Whether a path below the root is left out, itself or with a directory above it.

        Args:
            path: Absolute; need not exist.
            is_dir: Whether it is a directory, None to look.
        """
        if path == self.root:
            return KEPT
        prefix = self.root.rstrip("/") + "/"
        if not path.startswith(prefix):
            return Verdict(True, f"not below {self.root}")
        directory = self.root
        levels = self.enter(self.outside, self.root)
        parts = path[len(prefix) :].split("/")
        for position, name in enumerate(parts, 1):
            last = position == len(parts)
            here = f"{directory.rstrip('/')}/{name}"
            folder = (_is_dir(here) if is_dir is None else is_dir) if last else True
            verdict = self.entry(levels, here, name, folder)
            if verdict.ignored or last:
                return verdict
            directory = here
            levels = self.enter(levels, here)
        return KEPT

    def at(self, directory: str) -> tuple[Level, ...]:
        """The levels that apply to the entries of a directory at or below the root."""
        levels = self.enter(self.outside, self.root)
        below = directory[len(self.root.rstrip("/")) + 1 :]
        here = self.root.rstrip("/")
        for name in below.split("/") if below else ():
            here = f"{here}/{name}"
            levels = self.enter(levels, here)
        return levels

    def enter(
        self, levels: tuple[Level, ...], directory: str, names: frozenset[str] | set[str] | None = None
    ) -> tuple[Level, ...]:
        """The levels inside a directory: those around it and, first, what its own ignore files add.

        Args:
            levels: Of the directory around it.
            directory: Absolute.
            names: What is in it, if the caller knows: saves looking for ignore files.
        """
        wanted = [name for name in (*IGNORE_FILES, ".git") if names is None or name in names]
        if not wanted:
            return levels
        own, git = (self._rules(f"{directory}/{name}") if name in wanted else None for name in IGNORE_FILES)
        info = self._rules(f"{directory}/{_INFO_EXCLUDE}") if ".git" in wanted else None
        if own is None and git is None and info is None:
            return levels
        return (Level(directory, own, git, info), *levels)

    def entry(self, levels: tuple[Level, ...], path: str, name: str, is_dir: bool) -> Verdict:
        """Whether one entry is left out by itself, given that the directory it is in is not.

        Args:
            levels: Of the directory it is in, from ``enter`` or ``at``.
            path: Absolute.
            name: Its last part.
            is_dir: Whether it is a directory (not a link to one).
        """
        if is_dir and path in self._never:
            return Verdict(True, "the data directory of this program")
        if self._config is not None:
            below = path[len(self.root.rstrip("/")) + 1 :]
            if rule := self._config.find(below, name, is_dir):
                return _verdict(rule, "the configuration")
        for level in levels:
            if level.own is not None and (rule := _find(level.own, level, path, name, is_dir)):
                return _verdict(rule, level.own.source)
        low = name.lower()
        # Most names have no clue; three lists are then settled at the price of one.
        if low in self._names or low.startswith(self._starts) or low.endswith(self._ends):
            verdict = self._by_lists(name, is_dir)
            if verdict.ignored:
                return verdict
        return self._git(levels, path, name, is_dir) if levels else KEPT

    def _by_lists(self, name: str, is_dir: bool) -> Verdict:
        """What the built-in lists say, which know names only."""
        rule = self._secrets.find(name, name, is_dir)
        if rule is not None and rule.ignores:
            advice = 'to index it, name it in include of the configuration or "!name" in .folder-mcpignore'
            return Verdict(True, f'{_SECRET} ("{rule.line}"); {advice}')
        for rules in (self._builtin, self._hidden):
            if (rule := rules.find(name, name, is_dir)) and rule.ignores:
                return _verdict(rule, rules.source)
        return KEPT

    def _git(self, levels: tuple[Level, ...], path: str, name: str, is_dir: bool) -> Verdict:
        """What git's own files say, in git's order."""
        for level in levels:
            if level.git is not None and (rule := _find(level.git, level, path, name, is_dir)):
                return _verdict(rule, level.git.source)
        for level in levels:
            if level.info is not None and (rule := _find(level.info, level, path, name, is_dir)):
                return _verdict(rule, level.info.source)
        return KEPT

    def _levels_above(self) -> tuple[Level, ...]:
        """Rules of the repository that the root lies in; none if they leave out the root, which was asked for."""
        chain: list[str] = []
        here = self.root
        while not os.path.lexists(f"{here}/.git"):
            here = os.path.dirname(here)
            chain.append(here)
            if here in ("/", ""):
                chain.clear()
                break
        levels: tuple[Level, ...] = ()
        if self._global is not None:
            levels = (Level(here if chain else self.root, None, None, self._rules(self._global)),)
        outside = levels
        inner = [*chain[-2::-1], self.root] if chain else []
        for directory, below in zip(reversed(chain), inner, strict=True):
            # Only git's rules reach down from above: a .folder-mcpignore speaks for the folders it is in.
            git, info = (self._rules(f"{directory.rstrip('/')}/{name}") for name in (".gitignore", _INFO_EXCLUDE))
            levels = (Level(directory, None, git, info), *levels)
            if self._git(levels, below, os.path.basename(below), True).ignored:
                return outside
        return levels

    def _rules(self, file: str) -> Rules | None:
        """The rules of an ignore file, None if there is none. Only regular files count, as in git."""
        try:
            found = os.lstat(file)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        known = self._read.get(file)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            with open(file, "rb") as stream:
                text = os.fsdecode(stream.read(_MAX_BYTES).removeprefix(b"\xef\xbb\xbf"))
        except OSError:
            return None
        rules = Rules([line.removesuffix("\r") for line in text.split("\n")], file)
        self._read[file] = (stamp, rules)
        return rules


def _find(rules: Rules, level: Level, path: str, name: str, is_dir: bool) -> Rule | None:
    return rules.find(path[len(level.directory.rstrip("/")) + 1 :], name, is_dir)


def _verdict(rule: Rule, source: str) -> Verdict:
    return Verdict(True, f'left out by "{rule.line}" of {source}') if rule.ignores else KEPT


def _is_dir(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
