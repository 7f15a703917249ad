"""One list of gitignore patterns, asked about one file or directory at a time.

pathspec translates each pattern to a regular expression; the order of patterns and the difference between a
directory and what is below it are decided here, because a walk asks about every directory before it enters it.
(pathspec's own ``match_file`` answers for whole paths, where git's answer for a re-included child of an excluded
directory differs.) Most patterns are a plain name or end in a suffix: those are looked up, not tried one by one.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

_SPECIAL = re.compile(r"[*?\[\\]")
_POSIX = {
    "[:alnum:]": "a-zA-Z0-9", "[:alpha:]": "a-zA-Z", "[:blank:]": " \t", "[:digit:]": "0-9", "[:lower:]": "a-z",
    "[:punct:]": "!-/:-@{-~", "[:space:]": " \t\r\n\f\v", "[:upper:]": "A-Z", "[:xdigit:]": "0-9a-fA-F",
}  # fmt: skip
_MAX_STARS = 6
"""Wildcards in one path part. Each multiplies the work on a name of up to 255 bytes; real patterns have 1 or 2."""

IGNORE_CASE = sys.platform in ("darwin", "win32")
"""Whether patterns of ignore files match without letter case, as git does on these systems (core.ignorecase)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern.

    Attributes:
        line: As written.
        ignores: True for a pattern, False for its negation (``!pattern``).
        matches: Tried with ``fullmatch`` on the path below the list's directory, with ``/`` after a directory.
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
    """Patterns of one ignore file or list, the last match counting.

    Args:
        lines: Patterns, comments, blanks.
        source: Where they come from, for reasons: a file, or the name of a list.
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
            rule = _rule(line.lower() if ignore_case else line, source)
            if rule is not None:
                self._file(rule)
        self._suffixes = tuple(suffix for suffix, _ in self._by_suffix)
        self._prefixes = tuple(prefix for prefix, _ in self._by_prefix)

    def __len__(self) -> int:
        return len(self._rules)

    def clues(self) -> tuple[set[str], set[str], set[str]]:
        """Names, prefixes and suffixes in lower case: a name with none of these matches no rule of the list.

        Raises:
            ValueError: A rule of the list has no such clue.
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

    def _file(self, rule: Rule) -> None:
        """Put a rule where ``find`` looks for it."""
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


def _rule(line: str, source: str) -> Rule | None:
    """Compile one line; None for blanks, comments and what git discards."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415  # 60 to 135 ms to import

    pattern = _normal(line)
    last = pattern.rstrip("/").rpartition("/")[2]
    if any(part.count("*") > _MAX_STARS for part in pattern.split("/")):
        log.warning("%s: pattern %r passed over: more than %d wildcards in one part", source, line, _MAX_STARS)
        return None
    try:
        with warnings.catch_warnings():
            # Characters such as "[[" and "--" in a bracket are plain here, whatever a later Python may make of them.
            warnings.simplefilter("ignore", FutureWarning)
            expression, ignores = GitIgnoreSpecPattern.pattern_to_regex(pattern)
            if expression is None or ignores is None:
                return None
            matches = re.compile(_whole(expression), re.DOTALL)
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


def _normal(line: str) -> str:
    """The same pattern in a form whose translation matches entries, not trees: ``a/**`` is ``a/**/*``."""
    for name, characters in _POSIX.items():
        line = line.replace(name, characters)
    stripped = line if line.endswith("\\ ") else line.rstrip()
    if stripped.endswith("/**"):
        return stripped + "/*"
    if stripped.endswith("/**/"):
        return stripped + "*/"
    return stripped


def _whole(expression: str) -> str:
    """A translation that ``fullmatch`` can use: pathspec shortens "anything" and "any directory"."""
    if expression == ".":
        return ".+"
    if expression in ("/", "(?P<ps_d>/)"):
        return ".+/"
    return expression
