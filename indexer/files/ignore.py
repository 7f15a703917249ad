"""Which files and directories of a folder are ignored, and why: one predicate for the walk and for the watcher.

In order of precedence, the first that matches decides:

1. ``include`` and ``exclude`` of the configuration (``include`` wins),
2. ``.folder-mcpignore`` files, the deepest first,
3. the built-in lists: secrets, generated files, hidden files,
4. ``.gitignore`` files, the deepest first, up to the top of the repository; then ``.git/info/exclude`` of each
   repository, then the user's global excludes file.

An ignored directory is not entered: nothing below it can be included (include the directory itself).

Ignore files come with every clone and archive: each is limited in size and in patterns with wildcards, and so are
those that apply to one directory together. A directory whose ignore files exceed a limit is closed: nothing in it is
indexed, rather than what they would have left out.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from indexer.files.open_inside import open_file
from indexer.files.patterns import MAX_WILDCARDS, Compile, Cost, Rule, Rules

# Ignore -------------------------------------------------------------------------------------------------------------

# Paths are str with surrogates, and this runs for every file of the tree: hence os.path, not pathlib.

IGNORE_FILES = (".folder-mcpignore", ".gitignore")
"""Names of the files that hold rules, the one with precedence first."""

MAX_BYTES = 50 << 20
"""Default size cap of a file, bytes."""

MAX_IGNORE_FILE = 1 << 20
"""Largest ignore file, bytes; git's own test suite stays below a tenth of it."""

MAX_TOGETHER = 2 << 20
"""Most characters of patterns that apply to one directory; wildcard patterns together as many as one file may have."""

LATE_FILE, LATE_WILDCARDS = 64 << 10, 250
"""Bytes of an ignore file, and its patterns with wildcards, once the ignore files of a walk have used up their time.
Both take some 25 ms of CPU time. VisualStudio.gitignore of github/gitignore has 7 KiB and about 25 such patterns."""

_LATE = "and the ignore files of this folder have taken so much CPU time that no larger ones are applied"
_CACHE_BYTES = 128 << 20  # of rules kept in memory; those that may apply to one directory fit in
_COMPILED = 2 * MAX_WILDCARDS  # wildcard patterns whose matchers are kept: up to 16 KiB each when they have all states
_INFO_EXCLUDE = ".git/info/exclude"
_SECRET = "a secret by its name"  # noqa: S105


class Verdict(NamedTuple):
    """Whether a path is ignored, and one sentence why (empty when it is not)."""

    ignored: bool
    reason: str

    @property
    def secret(self) -> bool:
        """Whether it is ignored because its name suggests a secret."""
        return self.reason.startswith(_SECRET)


NOT_IGNORED = Verdict(False, "")


class Level(NamedTuple):
    """The rules that a directory adds: those of ``.folder-mcpignore``, ``.gitignore`` and ``.git/info/exclude``.

    Attributes:
        closed: Why nothing in the directory is indexed: a sentence about an ignore file beyond a limit; usually empty.
        size: Characters of the patterns that apply to it, those of the directories above included.
        wildcards: How many of these patterns need a regular expression.
    """

    directory: str
    own: Rules | None
    git: Rules | None
    info: Rules | None
    closed: str = ""
    size: int = 0
    wildcards: int = 0

    @property
    def lists(self) -> tuple[Rules, ...]:
        """Those of its three lists that it has."""
        return tuple(rules for rules in (self.own, self.git, self.info) if rules is not None)


class _Unusable(NamedTuple):
    """Why an ignore file cannot be applied."""

    reason: str


class Ignore:
    """The rules of one folder.

    Ignore files are read when first needed and again when they change. Thread-safe: walk and watcher share it.

    Args:
        root: The folder, absolute and resolved.
        exclude: Patterns of the configuration to ignore, relative to the root.
        include: Patterns of the configuration that are indexed nevertheless.
        hidden: Whether names that start with a dot are indexed.
        never: Absolute paths that are ignored whatever the rules are: the data directory.
        global_excludes: The user's global git excludes file, None for none.
        max_bytes: Larger files are not indexed.
        compile_all: Compiles the expressions of wildcard patterns.
        clock: Seconds that matching takes of the thread's CPU time: neither a slow disk nor other programs count.
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
        compile_all: Compile | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self.clock = clock
        self._compile = compile_all
        self._always_ignored = frozenset(os.path.realpath(path) for path in never)
        named = Rules(
            [*exclude, *(f"!{pattern}" for pattern in include)],
            "exclude and include of the configuration",
            compile_all=compile_all,
        )
        self._config = named if len(named) or named.refused or named.excess else None
        self._secrets = Rules(SECRETS, _SECRET, ignore_case=True)
        self._builtin = Rules(EXCLUDES, "the built-in list", ignore_case=False)
        self._hidden = Rules(() if hidden else HIDDEN, "a hidden name", ignore_case=False)
        names, prefixes, suffixes = literal_ends((*SECRETS, *EXCLUDES, *(() if hidden else HIDDEN)))
        self._literal_names = frozenset(names)
        self._literal_prefixes, self._literal_suffixes = tuple(prefixes), tuple(suffixes)
        self._global = global_excludes
        self._cache = _Cache()
        self.levels_outside = self._levels_above_root()

    def verdict(self, path: str, is_dir: bool | None = None) -> Verdict:
        """Whether a path below the root is ignored, itself or with a directory above it.

        Args:
            path: Absolute; need not exist.
            is_dir: Whether it is a directory, None to find out.
        """
        if path == self.root:
            return NOT_IGNORED
        prefix = self.root.rstrip("/") + "/"
        if not path.startswith(prefix):
            return Verdict(True, f"not below {self.root}")
        directory = self.root
        levels = self.enter(self.levels_outside, self.root)
        parts = path[len(prefix) :].split("/")
        for position, name in enumerate(parts, 1):
            last = position == len(parts)
            here = f"{directory.rstrip('/')}/{name}"
            folder = (_is_dir(here) if is_dir is None else is_dir) if last else True
            verdict = self.entry_verdict(levels, here, name, folder)
            if verdict.ignored or last:
                return verdict
            directory = here
            levels = self.enter(levels, here)
        return NOT_IGNORED

    def levels_at(self, directory: str) -> tuple[Level, ...]:
        """The levels that apply to the entries of a directory at or below the root."""
        levels = self.enter(self.levels_outside, self.root)
        below = directory[len(self.root.rstrip("/")) + 1 :]
        here = self.root.rstrip("/")
        for name in below.split("/") if below else ():
            here = f"{here}/{name}"
            levels = self.enter(levels, here)
        return levels

    def enter(
        self,
        levels: tuple[Level, ...],
        directory: str,
        names: frozenset[str] | set[str] | None = None,
        *,
        late: bool = False,
    ) -> tuple[Level, ...]:
        """The levels inside a directory: that of its own ignore files first, then those of its parent.

        Args:
            levels: Those of its parent directory.
            directory: Absolute.
            names: Its entries, if the caller knows them: saves searching for ignore files.
            late: Whether the ignore files of this walk have used up their time: then one closes its directory that
                exceeds ``LATE_FILE`` or ``LATE_WILDCARDS``.
        """
        present = [name for name in (*IGNORE_FILES, ".git") if names is None or name in names]
        if not present:
            return levels
        own, git = (
            self._rules(f"{directory}/{name}", late=late) if name in present else None for name in IGNORE_FILES
        )
        info = self._rules(f"{directory}/{_INFO_EXCLUDE}", late=late) if ".git" in present else None
        return _with_level(levels, directory, own, git, info)

    def entry_verdict(self, levels: tuple[Level, ...], path: str, name: str, is_dir: bool) -> Verdict:
        """Whether one entry is itself ignored, given that its directory is not.

        Args:
            levels: Those of its directory, from ``enter`` or ``levels_at``.
            path: Absolute.
            name: Its last part.
            is_dir: Whether it is a directory (not a link to one).
        """
        if is_dir and path in self._always_ignored:
            return Verdict(True, "the data directory of this program")
        if levels and levels[0].closed:
            return Verdict(True, levels[0].closed)
        if self._config is not None:
            below = path[len(self.root.rstrip("/")) + 1 :]
            if rule := self._config.find(below, name, is_dir):
                return _verdict(rule, self._config.source)
        for level in levels:
            if level.own is not None and (rule := _find(level.own, level, path, name, is_dir)):
                return _verdict(rule, level.own.source)
        low = name.lower()
        # Most names contain no literal of the built-in lists, and need no further check of the three lists.
        if (
            low in self._literal_names
            or low.startswith(self._literal_prefixes)
            or low.endswith(self._literal_suffixes)
        ):
            verdict = self._by_builtin_lists(name, is_dir)
            if verdict.ignored:
                return verdict
        return self._by_git_files(levels, path, name, is_dir) if levels else NOT_IGNORED

    def refused(self, levels: tuple[Level, ...], directory: str) -> tuple[str, ...]:
        """Why single patterns do not count that a directory's own ignore files have; for the root all that apply.

        Args:
            levels: Those inside the directory.
            directory: Absolute.
        """
        inside = [level for level in levels if directory in (level.directory, self.root)]
        lists = [rules for level in inside for rules in level.lists]
        if self._config is not None and directory == self.root:
            lists.append(self._config)
        return tuple(reason for rules in lists for reason in rules.refused)

    def costliest(self, levels: tuple[Level, ...], path: str, limit_s: float) -> str:
        """The ignore file, and the pattern in it, that takes longest to match one path: for people.

        Args:
            levels: Those of its directory.
            path: Absolute.
            limit_s: Seconds of ``clock`` that may be spent on finding it; the pattern is the slowest of those tried.
        """
        name = os.path.basename(path)
        applying = [(rules, level.directory) for level in levels for rules in level.lists]
        if self._config is not None:
            applying.append((self._config, self.root))
        applying.sort(key=lambda each: -each[0].wildcards)
        tried: list[tuple[Cost, int, Rules]] = []
        until = self.clock() + limit_s
        for rules, directory in applying:
            below = path[len(directory.rstrip("/")) + 1 :]
            left = until - self.clock()
            cost = rules.costliest(below, name, self.clock, left) if left > 0 else Cost(0.0, None)
            tried.append((cost, rules.size, rules))
        cost, _, rules = max(tried, key=lambda each: (each[0].seconds, each[1]))
        if cost.rule is None:
            return shown(rules.source)
        return f"line {cost.rule.number} of {shown(rules.source)}, {shown(cost.rule.line)}"

    def _by_builtin_lists(self, name: str, is_dir: bool) -> Verdict:
        """The verdict of the built-in lists, which match names only."""
        rule = self._secrets.find(name, name, is_dir)
        if rule is not None and rule.ignores:
            advice = 'to index it, name it in include of the configuration or "!name" in .folder-mcpignore'
            return Verdict(True, f'{_SECRET} ("{rule.line}"); {advice}')
        for rules in (self._builtin, self._hidden):
            if (rule := rules.find(name, name, is_dir)) and rule.ignores:
                return _verdict(rule, rules.source)
        return NOT_IGNORED

    def _by_git_files(self, levels: tuple[Level, ...], path: str, name: str, is_dir: bool) -> Verdict:
        """The verdict of git's own files, in git's order."""
        for level in levels:
            if level.git is not None and (rule := _find(level.git, level, path, name, is_dir)):
                return _verdict(rule, level.git.source)
        for level in levels:
            if level.info is not None and (rule := _find(level.info, level, path, name, is_dir)):
                return _verdict(rule, level.info.source)
        return NOT_IGNORED

    def _levels_above_root(self) -> tuple[Level, ...]:
        """Rules of the repository around the root; none if they ignore the root itself, which the user added."""
        chain: list[str] = []
        here = self.root
        while not os.path.lexists(f"{here}/.git"):
            here = os.path.dirname(here)
            chain.append(here)
            if here in ("/", ""):
                chain.clear()
                break
        levels: tuple[Level, ...] = ()
        if self._config is not None:
            reason = _closed(self._config.excess)
            levels = (Level(self.root, None, None, None, reason, self._config.size, self._config.wildcards),)
        if self._global is not None:
            levels = _with_level(levels, here if chain else self.root, None, None, self._rules(self._global))
        levels_outside = levels
        inner = [*chain[-2::-1], self.root] if chain else []
        for directory, below in zip(reversed(chain), inner, strict=True):
            # Only git's rules apply from above the root: a .folder-mcpignore is for the folders it is in.
            git, info = (self._rules(f"{directory.rstrip('/')}/{name}") for name in (".gitignore", _INFO_EXCLUDE))
            levels = _with_level(levels, directory, None, git, info)
            if self._by_git_files(levels, below, os.path.basename(below), True).ignored:
                return levels_outside
        return levels

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self.root.rstrip("/") + "/")

    def _rules(self, file: str, *, late: bool = False) -> Rules | _Unusable | None:
        """The rules of an ignore file, None if there is none. Only regular files are read, as in git."""
        try:
            found = os.lstat(file)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        if found.st_size > MAX_IGNORE_FILE:
            size, limit = found.st_size / (1 << 20), MAX_IGNORE_FILE / (1 << 20)
            return _Unusable(f"{shown(file)} has {size:,.1f} MiB, over the limit of {limit:g} MiB for an ignore file")
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        rules = self._cache.get(file, stamp)
        if rules is None and late and found.st_size > LATE_FILE:
            return _Unusable(f"{shown(file)} has more than {LATE_FILE >> 10} KiB, {_LATE}")
        if rules is None:
            rules = self._read(file, stamp)
        if late and rules is not None and rules.wildcards > LATE_WILDCARDS:
            return _Unusable(f"{shown(file)} has more than {LATE_WILDCARDS} patterns with wildcards, {_LATE}")
        return rules

    def _read(self, file: str, stamp: tuple[int, int, int]) -> Rules | None:
        """Read an ignore file; None if that fails."""
        try:
            with open_file(file, self.root if self._is_inside(file) else os.path.dirname(file)) as stream:
                text = os.fsdecode(stream.read(MAX_IGNORE_FILE).removeprefix(b"\xef\xbb\xbf"))
        except OSError:
            return None
        rules = Rules(text, file, compile_all=self._compile)
        self._cache.put(file, stamp, rules)
        return rules


class _Cache:
    """Rules of the ignore files read last, as many as fit into ``_CACHE_BYTES``; few of them compiled. Thread-safe."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[tuple[int, int, int], Rules, int]] = OrderedDict()
        self._bytes = 0  # the sum of the third values: what the rules took when last asked for
        self._compiled: OrderedDict[str, Rules] = OrderedDict()
        self._patterns = 0  # wildcard patterns of all that is in _compiled
        self._lock = threading.Lock()

    def get(self, file: str, stamp: tuple[int, int, int]) -> Rules | None:
        """The rules of a file, None if they are not known or of another time, size or inode."""
        with self._lock:
            known = self._known.get(file)
            if known is None or known[0] != stamp:
                return None
            rules, memory = known[1], known[1].memory
            if memory != known[2]:  # it was indexed since
                self._drop(file)
                self._keep(file, stamp, rules, memory)
            else:
                self._known.move_to_end(file)
            self._use(file, rules)
            return rules

    def put(self, file: str, stamp: tuple[int, int, int], rules: Rules) -> None:
        """Keep the rules of a file, unless they are very large; the last ones kept give way.

        Every walk asks for all files in one order: were the oldest to give way, none would be there in its turn.
        """
        with self._lock:
            self._drop(file)
            self._keep(file, stamp, rules, rules.memory)
            self._use(file, rules)

    def _keep(self, file: str, stamp: tuple[int, int, int], rules: Rules, memory: int) -> None:
        if memory > _CACHE_BYTES // 4:
            return
        while self._bytes + memory > _CACHE_BYTES:
            self._drop(next(reversed(self._known)))
        self._bytes += memory
        self._known[file] = (stamp, rules, memory)

    def _drop(self, file: str) -> None:
        known = self._known.pop(file, None)
        if known is not None:
            self._bytes -= known[2]
            compiled = self._compiled.pop(file, None)
            self._patterns -= compiled.wildcards if compiled is not None else 0

    def _use(self, file: str, rules: Rules) -> None:
        """Note that rules are about to match; the matchers of those not used for longest are made anew when needed."""
        before = self._compiled.pop(file, None)
        self._patterns += rules.wildcards - (before.wildcards if before else 0)
        self._compiled[file] = rules
        while self._patterns > _COMPILED and len(self._compiled) > 1:
            _, oldest = self._compiled.popitem(last=False)
            self._patterns -= oldest.wildcards
            oldest.release()


def _with_level(levels: tuple[Level, ...], directory: str, *read: Rules | _Unusable | None) -> tuple[Level, ...]:
    """Add the level of a directory: what its three lists are or why one is not, in the order of ``Level``."""
    own, git, info = (rules if isinstance(rules, Rules) else None for rules in read)
    given = [rules for rules in (own, git, info) if rules is not None]
    above = levels[0] if levels else Level(directory, None, None, None)
    reasons = [rules.reason for rules in read if isinstance(rules, _Unusable)]
    if not given and not reasons:
        return levels
    reasons += [rules.excess for rules in given if rules.excess]
    size = above.size + sum(rules.size for rules in given)
    wildcards = above.wildcards + sum(rules.wildcards for rules in given)
    if not reasons and (size > MAX_TOGETHER or wildcards > MAX_WILDCARDS):
        limits = f"{MAX_TOGETHER >> 20} MiB and {MAX_WILDCARDS:,} with wildcards"
        source = shown(given[0].source)
        reasons.append(f"{source} and the ignore files above it have more patterns than may apply together ({limits})")
    closed = _closed(reasons[0]) if reasons else above.closed
    return (Level(directory, own, git, info, closed, size, wildcards), *levels)


def _closed(reason: str) -> str:
    return f"{reason}; nothing in this directory is indexed until it is shortened" if reason else ""


def shown(text: str) -> str:
    """A path or pattern for a sentence: quoted, escaped where it does not print, and at most 200 characters."""
    return repr(text if len(text) <= 200 else text[:200] + "...")


def _find(rules: Rules, level: Level, path: str, name: str, is_dir: bool) -> Rule | None:
    return rules.find(path[len(level.directory.rstrip("/")) + 1 :], name, is_dir)


def _verdict(rule: Rule, source: str) -> Verdict:
    return Verdict(True, f'left out by "{rule.line}" of {source}') if rule.ignores else NOT_IGNORED


def _is_dir(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


# Built-in lists -----------------------------------------------------------------------------------------------------
# Ignored in every folder, in gitignore syntax. ``[index] include`` and the ``include`` of a folder override every list
# here; so does ``!pattern`` in a ``.folder-mcpignore`` file. A ``.gitignore`` file cannot: it can only ignore more.


def literal_ends(patterns: Iterable[str]) -> tuple[set[str], set[str], set[str]]:
    """Names, beginnings and ends in lower case: a name with none of these matches none of the patterns.

    Raises:
        ValueError: A pattern has no literal part.
    """
    names: set[str] = set()
    prefixes: set[str] = set()
    suffixes: set[str] = set()
    for pattern in patterns:
        literal = pattern.lower().removeprefix("!").removeprefix("\\#").removesuffix("/")
        begin, star, _ = literal.partition("*")
        end = literal.rpartition("*")[2]
        if any(special in literal for special in "/?[\\") or not begin + end:
            raise ValueError(f"{pattern!r} may match any name")
        if not star:
            names.add(literal)
        elif begin:
            prefixes.add(begin)
        else:
            suffixes.add(end)
    return names, prefixes, suffixes


EXCLUDES = (
    # version control
    ".git", ".hg/", ".svn/", ".bzr/", ".jj/", "CVS/", "_darcs/",
    # dependencies and environments
    "node_modules/", "bower_components/", ".venv/", "venv/", ".tox/", ".nox/", ".pixi/", ".yarn/", ".pnpm-store/",
    # caches
    "__pycache__/", ".cache/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".hypothesis/", ".gradle/",
    ".ipynb_checkpoints/", ".parcel-cache/", ".turbo/", ".terraform/",
    # build output
    "build/", "dist/", "target/", ".next/", ".nuxt/", ".eggs/", "*.egg-info/", "*.pyc", "*.class", "*.o",
    # editors and desktops
    ".idea/", ".DS_Store", "._*", "Thumbs.db", "desktop.ini", "~$*", ".~lock.*#", "*.swp", "*.swo", "*~", ".#*",
    "\\#*#", "*.part", "*.crdownload", "*.partial",
    # bins and system areas of a disk
    "$RECYCLE.BIN/", "System Volume Information/", "lost+found/", ".Trash/", ".Trash-*/", ".Trashes/",
    ".Spotlight-V100/", ".fseventsd/", ".DocumentRevisions-V100/", ".snapshots/", ".zfs/",
)  # fmt: skip
"""Generated, duplicated or meaningless files. Matched with letter case."""

SECRETS = (
    # environment files; the samples that projects publish are none
    ".env", ".env.*", "*.env", ".envrc", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist",
    # private keys and their containers
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.kdb", "*.ppk", "*.agilekeychain/",
    "*.opvault/", "*.keychain", "*.keychain-db", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.ovpn",
    # credentials of tools
    ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".my.cnf", ".dockercfg",
    ".vault-token", "*.tfstate", "*.tfstate.backup", "credentials", "credentials.json", "client_secret*.json",
    "service-account*.json", "service_account*.json", "secrets.yml", "secrets.yaml", "secrets.toml", "secrets.json",
    ".ssh/", ".gnupg/", ".aws/", ".azure/", ".kube/", ".docker/", ".password-store/", "keychains/", "gcloud/",
    # exports of password stores, wallets
    "passwords.txt", "passwords.xlsx", "passwords.ods", "*passwords.csv", "bitwarden_export*",
    "lastpass_export*", "*.1pux", "*.1pif", "wallet.dat",
    # browser profiles
    ".mozilla/", ".thunderbird/", "google-chrome/", "chromium/", "bravesoftware/", "cookies.sqlite", "key4.db",
    "logins.json", "login data", "cookies",
)  # fmt: skip
"""Names that suggest a secret. Matched without letter case; each ignored path is reported.

Every pattern here and in the other lists is a name, or has a fixed beginning or end (``literal_ends``).
"""

HIDDEN = (".*", "!.github")
"""Ignored unless ``[index] hidden`` is true."""
