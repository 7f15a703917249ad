"""One list of gitignore patterns, matched with one file or directory at a time, in time linear in its path.

A pattern means what git makes of it, byte for byte (``tests/indexer/files/test_git_oracle.py``). Precedence is decided
here: the last pattern that matches an entry counts, and a directory is matched apart from what is below it, because a
walk matches every directory before it enters it.

Most patterns are a name, a path, a beginning or an end: those are found by lookup, whatever their number. All others
are translated to regular expressions of RE2, which has no backtracking, and matched together in few calls.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

IGNORE_CASE = sys.platform in ("darwin", "win32")
"""Whether patterns of ignore files match without letter case, as git does on these systems (core.ignorecase)."""

MAX_PATTERN = 4096
"""Longest pattern, bytes: no path that the system opens is longer (PATH_MAX of Linux)."""

MAX_WILDCARDS = 5000
"""Most patterns of one file that need a regular expression: what its matchers fill at most is 80 MiB of memory."""

_FEW = 12  # wildcard patterns whose literal parts are sought faster one by one than RE2 is called
_MAX_NAME = 255  # bytes of a name on every usual file system: a longer literal matches none
_ASKED = 500  # texts that none of a group's literal parts is in, before compiling the group costs less than seeking on
_SEARCHES = 32  # of the text of a file, before indexing it costs less
_SMALL_TEXT = 16 << 10  # characters of a file that is indexed at once
_LINE_BYTES, _WILDCARD_BYTES = 120, 256  # of memory, for a line that is kept and for a wildcard pattern
_SET_PATTERNS = 250  # of one RE2 set
_SET_BYTES = 16 << 10  # of the expressions of one set
_SET_MEMORY = 4 << 20  # of the states of one set, bytes; RE2 drops states beyond it and makes them anew

Match = Callable[[bytes], Sequence[int]]
"""The numbers of the expressions that match some bytes as a whole."""

Compile = Callable[[Sequence[bytes]], Match]
"""Compiles expressions into one matcher; ValueError when they are too large for it."""


class Rule(NamedTuple):
    """One pattern: as written, the number of its line from 1, and False in ``ignores`` for ``!pattern``."""

    line: str
    number: int
    ignores: bool


class Cost(NamedTuple):
    """What one pattern took to match, CPU seconds; ``rule`` is None when no pattern is worth naming."""

    seconds: float
    rule: Rule | None


class Rules:
    """Patterns of one ignore file or list; the last match decides.

    What costs time is done when an entry needs it: a large file is indexed once it has matched or was searched often,
    and a wildcard pattern is translated and compiled once an entry has the text that all its matches have.

    Args:
        lines: Patterns, comments, blanks: the text of a file, or a list.
        source: A file or the name of a list, for the reason of a verdict.
        ignore_case: Match without letter case.
        compile_all: Compiles the expressions of wildcard patterns.

    Attributes:
        source: As given.
        refused: Why single patterns do not count, a sentence each that names the line; the others hold.
        excess: Why the list cannot be used at all, empty if it can.
        size: Characters of all its lines, with their ends.
        wildcards: How many of its patterns need a regular expression.
    """

    __slots__ = (
        "_any",
        "_compile",
        "_dirs",
        "_few_needs",
        "_fold",
        "_groups",
        "_last_wild",
        "_lines",
        "_negated",
        "_plain",
        "_searched",
        "_searches",
        "_special",
        "_specials",
        "_spelled_out",
        "_text",
        "_wild",
        "excess",
        "refused",
        "size",
        "source",
        "wildcards",
    )  # fmt: skip

    def __init__(
        self,
        lines: str | Iterable[str],
        source: str,
        *,
        ignore_case: bool = IGNORE_CASE,
        compile_all: Compile | None = None,
    ) -> None:
        self.source = source
        self.refused: tuple[str, ...] = ()
        self.excess = ""
        self.wildcards = 0
        self._fold = ignore_case
        self._compile = compile_all or compile_set
        self._plain = 0  # how many patterns are plain names, once they are indexed
        self._special: dict[int, str] = {}  # by position, the index of a line: the others, while _lines is empty
        self._specials = 0
        self._negated: set[int] = set()
        self._any, self._dirs = _Lookup(), _Lookup()
        self._wild = _Wild([], [], []), _Wild([], [], [])  # for names, for paths
        self._spelled_out = 0
        self._text = self._searched = ""  # of a file whose plain names are not indexed
        self._searches = 0
        self._lines: list[str] = []
        if isinstance(lines, str):
            text = lines.replace("\r\n", "\n").removesuffix("\r")
            self.size = len(text)
            if len(text) < _SMALL_TEXT or text.count("*") + text.count("?") > len(text) / 64:
                self._lines = text.split("\n")
            else:
                self._text = text
                self._searched = f"\n{text.lower() if ignore_case else text}\n"
        else:
            self._lines = list(lines)
            self.size = sum(map(len, self._lines)) + len(self._lines)
        self._add_all(_special_lines(self._text) if self._text else enumerate(self._lines))
        self._last_wild = max((wild.positions[-1] for wild in self._wild if wild.lines), default=-1)
        self._groups = tuple(_grouped(wild) for wild in self._wild)
        needs = {text for wild in self._wild for text in wild.needs} if self.wildcards <= 2 * _FEW else {""}
        self._few_needs = () if "" in needs else tuple(needs)  # a path has those that its name has

    def __len__(self) -> int:
        if self._text:
            self._index()
        return self._plain + self._specials

    @property
    def memory(self) -> int:
        """About how many bytes of memory it takes, without matchers."""
        lines = len(self._lines) + self._specials
        return 1024 + 2 * self.size + lines * _LINE_BYTES + self.wildcards * _WILDCARD_BYTES

    def find(self, path: str, name: str, is_dir: bool) -> Rule | None:
        """The last rule that matches one entry itself (not what is below it), or None.

        Args:
            path: Relative to the directory of the list, parts joined by ``/``.
            name: Its last part.
            is_dir: Whether it is a directory.
        """
        if self._fold:
            path, name = path.lower(), name.lower()
        if self._text:
            self._searches += 1
            if self._searches > _SEARCHES or f"\n{name}\n" in self._searched:
                self._index()
        best = self._any.last(path, name)
        if is_dir and (found := self._dirs.last(path, name)) > best:
            best = found
        if self._last_wild > best and (not self._few_needs or _has_any(path, self._few_needs)):
            best = self._last_wildcard(path, name, is_dir, best)
        return self._rule(best) if best >= 0 else None

    def costliest(self, path: str, name: str, clock: Callable[[], float], limit_s: float) -> Cost:
        """Which pattern takes longest to match one entry: to name it, once an ignore file has proved slow.

        Args:
            path: As in ``find``.
            name: As in ``find``.
            clock: Seconds.
            limit_s: Seconds after which no more patterns are tried.
        """
        if self._fold:
            path, name = path.lower(), name.lower()
        began = clock()
        worst = Cost(0.0, None)
        tried = [
            (needs not in subject, -position, line, subject)
            for wild, subject in zip(self._wild, (name, path), strict=True)
            for position, line, needs in zip(*wild, strict=True)
        ]
        for _, position, line, subject in sorted(tried):
            if clock() - began > limit_s:
                break
            for matcher in self._compiled([-position], [line]):
                before = clock()
                matcher.match(encoded(subject))
                seconds = clock() - before
                if seconds > worst.seconds:
                    worst = Cost(seconds, self._rule(-position))
        return worst

    def release(self) -> None:
        """Free the memory of the matchers; they are compiled again when they are needed."""
        for group in (*self._groups[0], *self._groups[1]):
            group.matchers = None
            group.some = {}
            group.asked = group.compiled = 0

    def _index(self) -> None:
        """Make the plain names known to the lookup, instead of searching the text for each."""
        lines, plain = self._text.split("\n"), _PLAIN.fullmatch
        if self._fold:
            names = {line.lower(): number for number, line in enumerate(lines) if plain(line) and line[0] != "#"}
        else:
            names = {line: number for number, line in enumerate(lines) if plain(line) and line[0] != "#"}
        self._plain = len(names)
        names.update({name: at for name, at in self._any.names.items() if at > names.get(name, -1)})
        self._any.names = names
        self._lines = lines
        self._text = self._searched = ""
        self._special = {}

    def _rule(self, position: int) -> Rule:
        line = self._lines[position] if self._lines else self._special[position]
        return Rule(line, position + 1, position not in self._negated)

    def _add_all(self, lines: Iterable[tuple[int, str]]) -> None:
        """Add patterns. Those that evidently need an expression are only noted: this runs for many lines."""
        plain, evident, names, fold = _PLAIN.fullmatch, _EVIDENT.fullmatch, self._any.names, self._fold
        special = self._special if self._text else None
        for position, line in lines:
            if not line or line[0] == "#":
                continue
            if plain(line):
                names[line.lower() if fold else line] = position
                self._plain += 1
                continue
            if self.wildcards < MAX_WILDCARDS and len(line) < MAX_PATTERN and evident(line):
                text = line
                if text[0] == "!":
                    text = text[1:]
                    self._negated.add(position)
                slash = text.find("/")
                in_path = 0 <= slash < len(text) - 1
                if slash == 0:
                    text = text[1:]
                needs = max(_WILDCARDS.split(text[:-1] if text[-1] == "/" else text), key=len)
                if fold or not needs.isascii():
                    needs = needs.lower() if _is_text(needs) else ""
                self._add_wild(position, line, needs, in_path=in_path)
            elif not self._add(line, position):
                if self.excess:
                    return
                continue
            self._specials += 1
            if special is not None:
                special[position] = line

    def _add(self, line: str, position: int) -> bool:
        """Add a pattern that is more than a plain name; returns whether it counts."""
        pattern = parsed(line)
        if pattern is None:
            return False
        if len(pattern.text) > MAX_PATTERN:
            self._refuse(position, f"is longer than {MAX_PATTERN:,} characters")
            return False
        lookup = self._dirs if pattern.directory_only else self._any
        text = pattern.text.lower() if self._fold else pattern.text
        texts = spelled_out(text) if "[" in text and self._spelled_out < _MAX_SPELLED_OUT else [text]
        if all(lookup.add(each, position, in_path=pattern.in_path) for each in texts):
            self._spelled_out += len(texts) - 1
        elif self.wildcards == MAX_WILDCARDS:
            self.excess = f"{self.source!r} has more than {MAX_WILDCARDS:,} patterns with wildcards"
            return False
        else:
            self._add_wild(position, line, max(literals(text), key=len), in_path=pattern.in_path)
        if not pattern.ignores:
            self._negated.add(position)
        return True

    def _add_wild(self, position: int, line: str, needs: str, *, in_path: bool) -> None:
        wild = self._wild[in_path]
        wild.positions.append(position)
        wild.lines.append(line)
        wild.needs.append(needs)
        self.wildcards += 1

    def _refuse(self, position: int, why: str) -> None:
        reason = f"the pattern in line {position + 1} of {self.source!r} {why} and does not count; shorten it"
        if reason not in self.refused:  # compiled again, it is refused again
            self.refused += (reason,)

    def _last_wildcard(self, path: str, name: str, is_dir: bool, best: int) -> int:
        """The position of the last wildcard pattern that matches, if it is after ``best``, else ``best``."""
        for groups, subject in zip(self._groups, (name, path), strict=True):
            data = b""
            for group in groups:
                if group.last <= best:
                    break
                matchers = group.matchers
                if matchers is None or group.few:
                    if not _has_any(subject, group.needs):
                        group.asked += 1
                        if group.asked == _ASKED and not group.few:
                            self._compile_group(group)
                        continue
                    if matchers is None:
                        matchers = self._matchers_for(group, subject)
                        if not matchers:
                            continue
                data = data or encoded(subject)
                for matcher in matchers:
                    for hit in matcher.match(data) or ():
                        if matcher.positions[hit] > best and (is_dir or not matcher.directory_only[hit]):
                            best = matcher.positions[hit]
        return best

    def _matchers_for(self, group: _Group, subject: str) -> list[_Matcher]:
        """Matchers of those patterns of a group that may match a text: at first only these are compiled."""
        may_match = tuple(
            number
            for number, needs in enumerate(group.wild.needs)
            if needs in subject and _may_match(group.wild.lines[number], subject, fold=self._fold)
        )
        if not may_match and group.asked < _ASKED:
            group.asked += 1 + len(group.wild.lines) // _FEW
            return []
        known = group.some.get(may_match)
        if known is not None:
            return known
        group.compiled += len(may_match)
        if group.few or group.compiled > len(group.wild.lines) // 2 or group.asked >= _ASKED:
            return self._compile_group(group)
        positions, lines, _ = group.wild
        found = self._compiled([positions[number] for number in may_match], [lines[number] for number in may_match])
        group.some[may_match] = found
        return found

    def _compile_group(self, group: _Group) -> list[_Matcher]:
        group.matchers = self._compiled(group.wild.positions, group.wild.lines)
        group.some = {}
        return group.matchers

    def _compiled(self, positions: Sequence[int], lines: Sequence[str]) -> list[_Matcher]:
        """Matchers of some wildcard patterns: one, or more where one would be too large."""
        matchers: list[_Matcher] = []
        taken: list[tuple[int, bool, bytes]] = []
        size = 0
        for position, line in zip(positions, lines, strict=True):
            pattern = parsed(line)
            expression = translated(pattern, fold=self._fold) if pattern is not None else None
            if pattern is None or expression is None:  # nothing matches it, as in git
                continue
            if len(expression) > _SET_BYTES:
                self._refuse(position, "is too large to be compiled")
                continue
            if size + len(expression) > _SET_BYTES:
                matchers += self._one_or_halves(taken)
                taken, size = [], 0
            taken.append((position, pattern.directory_only, expression))
            size += len(expression)
        return matchers + self._one_or_halves(taken)

    def _one_or_halves(self, taken: Sequence[tuple[int, bool, bytes]]) -> list[_Matcher]:
        if not taken:
            return []
        positions, flags, expressions = zip(*taken, strict=True)
        try:
            match = self._compile(expressions)
        except ValueError:
            if len(taken) == 1:
                self._refuse(positions[0], "is too large to be compiled")
                return []
            half = len(taken) // 2
            return self._one_or_halves(taken[:half]) + self._one_or_halves(taken[half:])
        return [_Matcher(match, positions, bytes(flags))]


class _Wild(NamedTuple):
    """Patterns that need a regular expression, in lists of one order: fewer objects for the collector.

    Attributes:
        positions: Ascending.
        lines: As written.
        needs: Of each pattern a text that all it matches has in it.
    """

    positions: list[int]
    lines: list[str]
    needs: list[str]


def _grouped(wild: _Wild) -> list[_Group]:
    """The patterns in few groups, the last patterns first."""
    cuts = [slice(at, at + _SET_PATTERNS) for at in range(0, len(wild.lines), _SET_PATTERNS)]
    return [_Group(_Wild(wild.positions[cut], wild.lines[cut], wild.needs[cut])) for cut in reversed(cuts)]


class _Group:
    """Wildcard patterns that are compiled together.

    Attributes:
        wild: The patterns.
        last: The position of the last.
        few: Whether they are so few that seeking their texts takes less than RE2, however often.
        needs: What matches one of them has one of these texts in it.
        matchers: All of them compiled, None until that pays.
        some: Until then: by their numbers in ``wild``, those that were needed together.
        asked: How many texts had none of ``needs``.
        compiled: How many patterns are in ``some``.
    """

    __slots__ = ("asked", "compiled", "few", "last", "matchers", "needs", "some", "wild")

    def __init__(self, wild: _Wild) -> None:
        self.wild = wild
        self.last = wild.positions[-1]
        self.few = len(wild.lines) <= _FEW
        needs = set(wild.needs)
        self.needs = ("",) if "" in needs else tuple(needs)
        self.matchers: list[_Matcher] | None = None
        self.some: dict[tuple[int, ...], list[_Matcher]] = {}
        self.asked = self.compiled = 0


class _Matcher(NamedTuple):
    """Wildcard patterns matched by one call.

    Attributes:
        match: Numbers of those that match, from 0.
        positions: Their positions in the list of rules, ascending.
        directory_only: 1 for those that match directories only.
    """

    match: Match
    positions: Sequence[int]
    directory_only: bytes


class _Lookup:
    """Patterns that need no regular expression, by what they compare: each with its position in the list of rules.

    Attributes:
        names: A whole name.
        prefixes, suffixes: The beginning and the end of a name, up to and from its one star.
        paths: A whole path.
        tails: By number of parts, the last parts of a path (``**/a/b``).
    """

    __slots__ = (
        "_few_suffixes",
        "_prefix_lengths",
        "_suffix_lengths",
        "names",
        "paths",
        "prefixes",
        "suffixes",
        "tails",
    )

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.prefixes: dict[str, int] = {}
        self.suffixes: dict[str, int] = {}
        self.paths: dict[str, int] = {}
        self.tails: dict[int, dict[str, int]] = {}
        self._prefix_lengths: tuple[int, ...] = ()
        self._suffix_lengths: tuple[int, ...] = ()
        self._few_suffixes: tuple[str, ...] = ()

    def add(self, text: str, position: int, *, in_path: bool) -> bool:
        """Add a pattern if it is of a kind that can be looked up; returns whether it is."""
        if in_path:
            tail = text.removeprefix("**/")
            while tail.startswith("**/"):
                tail = tail[3:]
            if _SPECIAL.search(tail):
                return False
            if tail == text:
                self.paths[text] = position
            elif "/" not in tail:
                self.names[tail] = position
            else:
                self.tails.setdefault(tail.count("/") + 1, {})[tail] = position
            return True
        special = _SPECIAL.search(text)
        if special is None:
            self.names[text] = position
            return True
        at = special.start()
        if text[at] != "*" or not _is_text(text):
            return False
        rest = text[at:].lstrip("*")
        if (at and rest) or _SPECIAL.search(rest):
            return False
        if len(text) <= _MAX_NAME + 1:  # a longer one is longer than any name
            self._add_end(text[:at], rest, position)
        return True

    def _add_end(self, prefix: str, suffix: str, position: int) -> None:
        if suffix:
            self.suffixes[suffix] = position
            few = len(self.suffixes) <= 4 * _FEW
            self._few_suffixes = tuple(self.suffixes) if few else ()
            if len(suffix) not in self._suffix_lengths:
                self._suffix_lengths = (*self._suffix_lengths, len(suffix))
        else:
            self.prefixes[prefix] = position
            if len(prefix) not in self._prefix_lengths:
                self._prefix_lengths = (*self._prefix_lengths, len(prefix))

    def last(self, path: str, name: str) -> int:
        """The position of the last pattern that matches, -1 if none does."""
        best = self.names.get(name, -1)
        if self._suffix_lengths and (not self._few_suffixes or name.endswith(self._few_suffixes)):
            for length in self._suffix_lengths:
                if (found := self.suffixes.get(name[-length:], -1)) > best:
                    best = found
        for length in self._prefix_lengths:
            if (found := self.prefixes.get(name[:length], -1)) > best:
                best = found
        if self.paths and (found := self.paths.get(path, -1)) > best:
            best = found
        for parts, known in self.tails.items():
            split = path.rsplit("/", parts)
            tail = path if len(split) <= parts else path[len(split[0]) + 1 :]
            best = max(best, known.get(tail, -1))
        return best


# What a line means --------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[^\\*?\[!/ \0]{1,255}")
_SPECIAL = re.compile(r"[\\*?\[]")
_SMALL_CLASS = re.compile(r"\[([A-Za-z0-9]+)\]")
_SPECIAL_LINE = re.compile(r"[\\*?\[!/ \0].*")
_LONG_OR_SPECIAL = re.compile(rf"(?m)^(?:.{{{MAX_PATTERN + 1},}}|[^\\*?\[!/ \0\n]*[\\*?\[!/ \0].*)")
_CLASS_OR_ESCAPE = re.compile(r"[\\\[]")
_EVIDENT = re.compile(r"(?=[^?]*\?|.*?\*[^*/]+\*)[^\\\[\0]*[^\\\[\0 ]", re.DOTALL)
_WILDCARDS = re.compile(r"[*?]+/?")
_MAX_CHOICES = 16  # of the classes of one pattern
_MAX_SPELLED_OUT = 10_000  # patterns that a file is spelled out into; then classes are for RE2


class Pattern(NamedTuple):
    """A line without what says how it applies.

    Attributes:
        text: To match: with a name, or with a path when ``in_path``.
        ignores: False for ``!pattern``.
        directory_only: It ended in a slash.
        in_path: It has a slash elsewhere.
    """

    text: str
    ignores: bool
    directory_only: bool
    in_path: bool


def parsed(line: str) -> Pattern | None:
    """What a line of an ignore file means, as ``dir.c`` of git reads it; None for a blank line."""
    text = _without_trailing_spaces(line.partition("\0")[0])
    ignores = not text.startswith("!")
    if not ignores:
        text = text[1:]
    directory_only = text.endswith("/")
    if directory_only:
        text = text[:-1]
    if not text:
        return None
    in_path = "/" in text
    return Pattern(text.removeprefix("/") if in_path else text, ignores, directory_only, in_path)


def spelled_out(text: str) -> list[str]:
    """A pattern with few small classes as the patterns that it stands for: ``[Bb]in``, ``*.py[cod]``."""
    pieces = _SMALL_CLASS.split(text)
    if len(pieces) == 1 or "\\" in text or math.prod(map(len, pieces[1::2])) > _MAX_CHOICES:
        return [text]
    return [
        "".join(each)
        for each in itertools.product(*([piece] if n % 2 == 0 else piece for n, piece in enumerate(pieces)))
    ]


def literals(text: str) -> list[str]:
    """Texts that all that a pattern matches has in it, in this order; the last one, which may be empty, at its end.

    A slash after stars or question marks is left out, since ``**/`` may match nothing. What follows a backslash is not
    looked at. Of classes nothing is known, so only what precedes the first and follows the last is; a pattern with a
    class that does not end matches nothing.
    """
    if "\\" in text:
        found = [*_WILDCARDS.split(_CLASS_OR_ESCAPE.split(text, maxsplit=1)[0]), ""]
    elif "[" in text:
        begin, _, rest = text.partition("[")
        found = _WILDCARDS.split(begin) + _WILDCARDS.split(rest.rpartition("]")[2])
    else:
        found = _WILDCARDS.split(text)
    return found if text.isascii() else [each if _is_text(each) else "" for each in found]


def _may_match(line: str, subject: str, *, fold: bool) -> bool:
    """Whether a text has the literal parts of a pattern in their order: what has not is not matched by it."""
    pattern = parsed(line.lower() if fold else line)
    if pattern is None:
        return False
    at = 0
    parts = literals(pattern.text)
    for part in parts:
        at = subject.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return subject.endswith(parts[-1])


def _special_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that are more than a plain name or longer than a pattern may be, with their indices."""
    position = last = 0
    pattern = _LONG_OR_SPECIAL if _has_long_line(text) else _SPECIAL_LINE
    for match in pattern.finditer(text):
        at = match.start()
        begin = text.rfind("\n", 0, at) + 1
        position += text.count("\n", last, begin)
        last = begin
        yield position, text[begin : match.end()]


def _has_long_line(text: str) -> bool:
    """Whether a line is longer than a name that is looked up."""
    start = 0
    while len(text) - start > MAX_PATTERN:
        end = text.rfind("\n", start, start + MAX_PATTERN + 1)
        if end < 0:
            return True
        start = end + 1
    return False


def _without_trailing_spaces(line: str) -> str:
    """The line without the spaces at its end that no backslash escapes."""
    short = line.rstrip(" ")
    if short == line:
        return line
    backslashes = len(short) - len(short.rstrip("\\"))
    return line[: len(short) + 1] if backslashes % 2 else short


def _has_any(subject: str, texts: Sequence[str]) -> bool:
    for text in texts:  # a third of the time that any() takes, which counts here  # noqa: SIM110
        if text in subject:
            return True
    return False


def _is_text(text: str) -> bool:
    """Whether it came from valid UTF-8; else its end might be a part of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encoded(text: str) -> bytes:
    """The bytes of a path or pattern."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a surrogate pair: no file has such a name
        return text.encode("utf-8", "replace")


# Translation --------------------------------------------------------------------------------------------------------
# After ``wildmatch.c`` of git, from bytes to bytes: "?" is one byte, and so is a class.

_STAR, _SLASH, _BACKSLASH, _QUESTION, _OPEN, _CLOSE = b"*/\\?[]"
_ALPHANUMERIC = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_SPECIAL_BYTES = b"*?[\\"
_TOKEN = re.compile(rb"[^*?\[\\]+|\\.?|.", re.DOTALL)
_USUAL_CLASS = 32  # bytes of a class whose translation is kept
_POSIX = {
    b"alnum": "[0-9A-Za-z]", b"alpha": "[A-Za-z]", b"blank": "[ \t]", b"cntrl": "[\0-\x1f\x7f]", b"digit": "[0-9]",
    b"graph": "[!-~]", b"lower": "[a-z]", b"print": "[ -~]", b"punct": "[!-/:-@\\[-`{-~]", b"space": "[\t\n\r ]",
    b"upper": "[A-Z]", b"xdigit": "[0-9A-Fa-f]",
}  # fmt: skip
_CLASSES = {
    name: frozenset(code for code in range(256) if re.match(expression, chr(code)))
    for name, expression in _POSIX.items()
}


def translated(pattern: Pattern, *, fold: bool = False) -> bytes | None:
    """The regular expression that matches, as a whole, what the pattern matches; None if that is nothing.

    Args:
        pattern: From ``parsed``.
        fold: The bytes to be matched are in lower case, and case does not matter.
    """
    text = encoded(pattern.text)
    out: list[bytes] = []
    literal = b""
    at, first_special = 0, -1
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None, "every byte begins a token"
        byte = text[at]
        if byte not in _SPECIAL_BYTES or byte == _BACKSLASH:
            plain = token[0] if byte != _BACKSLASH else token[0][1:]
            if not plain:  # a backslash at the end
                return None
            literal += plain
            at = token.end()
        else:
            out.append(_escaped(literal, fold=fold))
            literal = b""
        if first_special < 0 and byte in _SPECIAL_BYTES:
            first_special = token.start()
        if byte == _STAR:
            # git compares what precedes the first wildcard apart, and then takes "**" for the beginning of a part
            expression, at = _stars(text, at, in_path=pattern.in_path, begins_part=at == first_special)
            out.append(expression)
        elif byte == _QUESTION:
            out.append(b"[^/]")
            at += 1
        elif byte == _OPEN:
            members, at = _class_at(text, at, fold=fold)
            if not members:
                return None
            out.append(members)
    return b"".join((*out, _escaped(literal, fold=fold)))


def _class_at(text: bytes, at: int, *, fold: bool) -> tuple[bytes, int]:
    """The expression of the class that begins at ``at``, empty if it is malformed; and where the pattern goes on."""
    expression, end = _class_expression(text[at : at + _USUAL_CLASS], fold=fold)
    if not expression and at + _USUAL_CLASS < len(text):  # its end may be farther away
        expression, end = _class_expression(text[at:], fold=fold)
    return expression, at + end


@lru_cache(maxsize=1024)
def _class_expression(text: bytes, *, fold: bool) -> tuple[bytes, int]:
    members, end = _class(text, 0, fold=fold)
    return (_members(members) if members else b""), end


def _stars(text: bytes, at: int, *, in_path: bool, begins_part: bool) -> tuple[bytes, int]:
    """The expression of the stars at ``at``, and where the pattern goes on."""
    end = at
    while end < len(text) and text[end] == _STAR:
        end += 1
    begins_part = begins_part or at == 0 or text[at - 1] == _SLASH
    if in_path and end - at > 1 and begins_part:
        if end == len(text) or text[end : end + 2] == b"\\/":
            return b".*", end
        if text[end] == _SLASH:
            return b"(?:.*/)?", end + 1
    return b"[^/]*", end


def _class(text: bytes, at: int, *, fold: bool) -> tuple[frozenset[int], int]:
    """The bytes of the class that begins at ``at``, none if it is malformed; and where the pattern goes on.

    With ``fold`` a lower-case letter stands for the capital too.
    """
    at += 1
    negated = text[at : at + 1] in (b"!", b"^")
    at += negated
    members: set[int] = set()
    previous = -1
    first = True
    while first or text[at : at + 1] != b"]":
        first = False
        if at >= len(text):
            return frozenset(), at
        byte = text[at]
        if byte == _BACKSLASH:
            at += 1
            if at >= len(text):
                return frozenset(), at
            previous = text[at]
            members.add(previous)
        elif byte == 0x2D and previous > 0 and at + 1 < len(text) and text[at + 1] != _CLOSE:
            at += 1 + (text[at + 1] == _BACKSLASH)
            if at >= len(text):
                return frozenset(), at
            members.update(range(previous, text[at] + 1))
            previous = 0
        elif byte == _OPEN and text[at + 1 : at + 2] == b":":
            end = text.find(b"]", at + 2)
            if end < 0:
                return frozenset(), at
            if end - at < 3 or text[end - 1] != 0x3A:  # no ":]": a "[" like any other character
                previous = byte
                members.add(byte)
            elif (named := _CLASSES.get(text[at + 2 : end - 1])) is None:
                return frozenset(), at
            else:
                members |= named
                at, previous = end, 0
        else:
            previous = byte
            members.add(byte)
        at += 1
    members |= {code + 32 for code in members if fold and 65 <= code <= 90}
    return frozenset(range(256)) - members if negated else frozenset(members), at + 1


def _members(members: frozenset[int]) -> bytes:
    """The expression of a class of bytes, never the slash."""
    out = bytearray(b"[")
    code = 0
    while code < 256:
        end = code
        while end < 256 and end in members and end != _SLASH:
            end += 1
        if end > code:
            out += b"\\x%02x-\\x%02x" % (code, end - 1)
        code = end + 1
    return bytes(out + b"]") if len(out) > 1 else b"[^\\x00-\\xff]"


def _escaped(text: bytes, *, fold: bool) -> bytes:
    data = encoded(os.fsdecode(text).lower()) if fold else text
    if not data or data.isalnum():
        return data
    return b"".join(b"%c" % byte if byte in _ALPHANUMERIC else b"\\x%02x" % byte for byte in data)


def compile_set(expressions: Sequence[bytes]) -> Match:
    """A matcher of RE2 for several expressions.

    The bytes stand for Latin-1 characters, so that each is one character of the expression, whatever its file name is
    encoded in. A set whose states do not fit into its memory is refused here, so that no match fails later.

    Raises:
        ValueError: They need more memory than a set may have.
    """
    import re2  # noqa: PLC0415  # 12 ms

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _SET_MEMORY
    compiled = re2.Set.FullMatchSet(options)
    try:
        for expression in expressions:
            compiled.Add(expression)
        compiled.Compile()
    except re2.error as error:
        raise ValueError(str(error)) from error
    match: Match = compiled.Match
    return match
