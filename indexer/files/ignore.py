"""Which files and directories of a folder are ignored, and why: one predicate for the walk and for the watcher.

In order of precedence, the first that matches decides:

1. ``include`` and ``exclude`` of the configuration (``include`` wins),
2. ``.folder-mcpignore`` files, the deepest first,
3. the built-in lists: secrets, generated files, hidden files,
4. ``.gitignore`` files, the deepest first, up to the top of the repository; then ``.git/info/exclude`` of each
   repository, then the user's global excludes file.

An ignored directory is not entered: nothing below it can be included (include the directory itself).
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

log = logging.getLogger(__name__)


# Rules --------------------------------------------------------------------------------------------------------------
# One list of gitignore patterns, matched with one file or directory at a time.
#
# pathspec translates each pattern to a regular expression. Precedence is decided here, and a directory is matched
# apart from what is below it, because a walk matches every directory before it enters it. (pathspec's own
# ``match_file`` matches whole paths, and differs from git for a re-included child of an excluded directory.) Most
# patterns are a plain name or end in a suffix: those are found by lookup, not tried one by one.

_SPECIAL = re.compile(r"[*?\[\\]")
_POSIX = {
    "[:alnum:]": "a-zA-Z0-9", "[:alpha:]": "a-zA-Z", "[:blank:]": " \t", "[:digit:]": "0-9", "[:lower:]": "a-z",
    "[:punct:]": "!-/:-@{-~", "[:space:]": " \t\r\n\f\v", "[:upper:]": "A-Z", "[:xdigit:]": "0-9a-fA-F",
}  # fmt: skip
_MAX_STARS = 6
"""Most wildcards in a path part: each multiplies the work on a name of up to 255 bytes; real patterns have 1 or 2."""

IGNORE_CASE = sys.platform in ("darwin", "win32")
"""Whether patterns of ignore files match without letter case, as git does on these systems (core.ignorecase)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern.

    Attributes:
        line: As written.
        ignores: True for a pattern, False for its negation (``!pattern``).
        matches: Used with ``fullmatch`` on the path relative to the list's directory, with ``/`` after a directory.
        name: The last part if it is a plain name, else empty.
        prefix: What the last part starts with, up to its first wildcard.
        suffix: What it ends with, after its last wildcard.
    """

    line: str
    ignores: bool
    matches: re.Pattern[str]
    name: str
    prefix: str
    suffix: str


class Rules:
    """Patterns of one ignore file or list; the last match decides.

    Args:
        lines: Patterns, comments, blanks.
        source: A file or the name of a list, for the reason of a verdict.
        ignore_case: Match without letter case.
    """

    __slots__ = (
        "_by_name",
        "_by_prefix",
        "_by_suffix",
        "_fold",
        "_others",
        "_prefixes",
        "_rules",
        "_suffixes",
        "source",
    )

    def __init__(self, lines: Iterable[str], source: str, *, ignore_case: bool = IGNORE_CASE) -> None:
        self.source = source
        self._fold = ignore_case
        self._rules: list[Rule] = []
        self._by_name: dict[str, list[int]] = {}
        self._by_suffix: list[tuple[str, int]] = []
        self._by_prefix: list[tuple[str, int]] = []
        self._others: list[int] = []
        for line in lines:
            rule = _compile(line.lower() if ignore_case else line, source)
            if rule is not None:
                self._add(rule)
        self._suffixes = tuple(suffix for suffix, _ in self._by_suffix)
        self._prefixes = tuple(prefix for prefix, _ in self._by_prefix)

    def __len__(self) -> int:
        return len(self._rules)

    def literals(self) -> tuple[set[str], set[str], set[str]]:
        """Names, prefixes and suffixes in lower case: a name with none of these matches no rule of the list.

        Raises:
            ValueError: A rule of the list has no literal part.
        """
        if self._others:
            raise ValueError(f"{self.source}: {self._rules[self._others[0]].line!r} may match any name")
        prefixes = {prefix.lower() for prefix in self._prefixes}
        suffixes = {suffix.lower() for suffix in self._suffixes}
        return {name.lower() for name in self._by_name}, prefixes, suffixes

    def find(self, path: str, name: str, is_dir: bool) -> Rule | None:
        """The last rule that matches one entry itself (not what is below it), or None.

        Args:
            path: Relative to the directory of the list, parts joined by ``/``.
            name: Its last part.
            is_dir: Whether it is a directory.
        """
        if self._fold:
            path, name = path.lower(), name.lower()
        candidates = self._others
        by_name = self._by_name.get(name)
        if by_name:
            candidates = candidates + by_name
        if self._suffixes and name.endswith(self._suffixes):
            candidates = candidates + [index for suffix, index in self._by_suffix if name.endswith(suffix)]
        if self._prefixes and name.startswith(self._prefixes):
            candidates = candidates + [index for prefix, index in self._by_prefix if name.startswith(prefix)]
        if not candidates:
            return None
        subject = path + "/" if is_dir else path
        for index in sorted(candidates, reverse=True) if candidates is not self._others else reversed(candidates):
            if self._rules[index].matches.fullmatch(subject):
                return self._rules[index]
        return None

    def _add(self, rule: Rule) -> None:
        """Add a rule to the lookup that ``find`` uses."""
        index = len(self._rules)
        self._rules.append(rule)
        if rule.name:
            self._by_name.setdefault(rule.name, []).append(index)
        elif rule.prefix:
            self._by_prefix.append((rule.prefix, index))
        elif rule.suffix:
            self._by_suffix.append((rule.suffix, index))
        else:
            self._others.append(index)


def _compile(line: str, source: str) -> Rule | None:
    """Compile one line; None for blanks, comments and patterns that git discards."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415  # 60 to 135 ms to import

    pattern = _entry_pattern(line)
    last = pattern.rstrip("/").rpartition("/")[2]
    if any(part.count("*") > _MAX_STARS for part in pattern.split("/")):
        log.warning("%s: pattern %r passed over: more than %d wildcards in one part", source, line, _MAX_STARS)
        return None
    try:
        with warnings.catch_warnings():
            # "[[" and "--" in a bracket are literal here; Python warns that they may mean something else later.
            warnings.simplefilter("ignore", FutureWarning)
            expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(pattern)
            if expression is None or ignores is None:
                return None
            matches = re.compile(_for_fullmatch(expression), re.DOTALL)
    except (ValueError, re.error) as error:
        log.info("%s: pattern %r passed over: %s", source, line, error)
        return None
    last = last.removeprefix("!") if "/" not in pattern.rstrip("/") else last
    special = [match.start() for match in _SPECIAL.finditer(last)]
    if not special:
        return Rule(line, ignores, matches, last.rstrip(), "", "")
    return Rule(line, ignores, matches, "", last[: special[0]], _suffix(last))


def _suffix(part: str) -> str:
    """The literal end of a path part after its last ``*`` or ``?``, empty when brackets or escapes are in play."""
    if "[" in part or "\\" in part:
        return ""
    return re.split(r"[*?]", part)[-1].rstrip()


def _entry_pattern(line: str) -> str:
    """An equivalent pattern whose translation matches entries, not trees: ``a/**`` becomes ``a/**/*``."""
    for name, characters in _POSIX.items():
        line = line.replace(name, characters)
    stripped = line if line.endswith("\\ ") else line.rstrip()
    if stripped.endswith("/**"):
        return stripped + "/*"
    if stripped.endswith("/**/"):
        return stripped + "*/"
    return stripped


def _for_fullmatch(expression: str) -> str:
    """A regular expression for ``fullmatch``: pathspec abbreviates "anything" and "any directory"."""
    if expression == ".":
        return ".+"
    if expression in ("/", "(?P<ps_d>/)"):
        return ".+/"
    return expression


# Ignore -------------------------------------------------------------------------------------------------------------

# Paths are str with surrogates, and this runs for every file of the tree: hence os.path, not pathlib.

IGNORE_FILES = (".folder-mcpignore", ".gitignore")
"""Names of the files that hold rules, the one with precedence first."""

MAX_BYTES = 50 << 20
"""Default size cap of a file, bytes."""

_INFO_EXCLUDE = ".git/info/exclude"
_MAX_IGNORE_FILE = 1 << 20  # of an ignore file; git's own test suite stays below a tenth of it
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
    """The rules that a directory adds: those of ``.folder-mcpignore``, ``.gitignore`` and ``.git/info/exclude``."""

    directory: str
    own: Rules | None
    git: Rules | None
    info: Rules | None


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
        self._always_ignored = frozenset(os.path.realpath(path) for path in never)
        named = Rules([*exclude, *(f"!{pattern}" for pattern in include)], "the configuration")
        self._config = named if len(named) else None
        self._secrets = Rules(SECRETS, _SECRET, ignore_case=True)
        self._builtin = Rules(EXCLUDES, "the built-in list", ignore_case=False)
        self._hidden = Rules(() if hidden else HIDDEN, "a hidden name", ignore_case=False)
        literals = [rules.literals() for rules in (self._secrets, self._builtin, self._hidden)]
        self._literal_names = frozenset().union(*(names for names, _, _ in literals))
        self._literal_prefixes = tuple(set().union(*(prefixes for _, prefixes, _ in literals)))
        self._literal_suffixes = tuple(set().union(*(suffixes for _, _, suffixes in literals)))
        self._global = global_excludes
        self._cache: dict[str, tuple[tuple[int, int, int], Rules]] = {}
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
        self, levels: tuple[Level, ...], directory: str, names: frozenset[str] | set[str] | None = None
    ) -> tuple[Level, ...]:
        """The levels inside a directory: that of its own ignore files first, then those of its parent.

        Args:
            levels: Those of its parent directory.
            directory: Absolute.
            names: Its entries, if the caller knows them: saves searching for ignore files.
        """
        present = [name for name in (*IGNORE_FILES, ".git") if names is None or name in names]
        if not present:
            return levels
        own, git = (self._rules(f"{directory}/{name}") if name in present else None for name in IGNORE_FILES)
        info = self._rules(f"{directory}/{_INFO_EXCLUDE}") if ".git" in present else None
        if own is None and git is None and info is None:
            return levels
        return (Level(directory, own, git, info), *levels)

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
        if self._config is not None:
            below = path[len(self.root.rstrip("/")) + 1 :]
            if rule := self._config.find(below, name, is_dir):
                return _verdict(rule, "the configuration")
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
        if self._global is not None:
            levels = (Level(here if chain else self.root, None, None, self._rules(self._global)),)
        levels_outside = levels
        inner = [*chain[-2::-1], self.root] if chain else []
        for directory, below in zip(reversed(chain), inner, strict=True):
            # Only git's rules apply from above the root: a .folder-mcpignore is for the folders it is in.
            git, info = (self._rules(f"{directory.rstrip('/')}/{name}") for name in (".gitignore", _INFO_EXCLUDE))
            levels = (Level(directory, None, git, info), *levels)
            if self._by_git_files(levels, below, os.path.basename(below), True).ignored:
                return levels_outside
        return levels

    def _rules(self, file: str) -> Rules | None:
        """The rules of an ignore file, None if there is none. Only regular files are read, as in git."""
        try:
            found = os.lstat(file)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_IGNORE_FILE:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        known = self._cache.get(file)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            with open(file, "rb") as stream:
                text = os.fsdecode(stream.read(_MAX_IGNORE_FILE).removeprefix(b"\xef\xbb\xbf"))
        except OSError:
            return None
        rules = Rules([line.removesuffix("\r") for line in text.split("\n")], file)
        self._cache[file] = (stamp, rules)
        return rules


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
    ".idea/", ".DS_Store", "._*", "Thumbs.db", "desktop.ini", "~$*", ".~lock.*#", "*.swp", "*.swo", "*~", ".#*", "#*#",
    "*.part", "*.crdownload", "*.partial",
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

Every pattern here and in the other lists is a name, or has a fixed beginning or end (``Rules.literals``).
"""

HIDDEN = (".*", "!.github")
"""Ignored unless ``[index] hidden`` is true."""
